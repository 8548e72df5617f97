"""Which tables of a database hold its own rows."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

# Ordinary tables and partitions, wherever they lie; not temporary ones, and none that belong to an
# extension: PostgreSQL writes those when it creates the extension. Generated columns are left out,
# because an archive does not hold them either. Columns are sorted by name: a restored child of an
# inherited table may have them in another order.
_USER_TABLES = """
SELECT n.nspname,
       c.relname,
       quote_ident(n.nspname) || '.' || quote_ident(c.relname),
       ARRAY(SELECT a.attname::text
               FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
              ORDER BY a.attname COLLATE "C")
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r'
   AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_'
   AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
                      AND d.objsubid = 0 AND d.deptype = 'e')
 ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""


@dataclass(frozen=True)
class Table:
    """A table with rows of its own; ``label`` is ``schema.table``, each part quoted where it must be."""

    schema: str
    name: str
    label: str
    columns: tuple[str, ...]

    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


def user_tables(connection: psycopg.Connection[TupleRow]) -> list[Table]:
    """Every table whose rows a backup holds, sorted by schema and name."""
    connection.execute("SELECT pg_catalog.set_config('quote_all_identifiers', 'off', false)")
    return [
        Table(schema, name, label, tuple(columns))
        for schema, name, label, columns in connection.execute(_USER_TABLES)
    ]
