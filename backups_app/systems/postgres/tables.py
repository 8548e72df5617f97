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
              ORDER BY a.attname COLLATE "C"),
       coalesce((SELECT bool_and(a.atttypid = ANY (%s::regtype[]) AND coalesce(l.collisdeterministic, true))
                   FROM pg_catalog.pg_attribute a
                   LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
                false)
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

# Types whose equal values are the same to the last bit. Not among them, for example: numeric (1.0 = 1.00),
# float8 (0 = -0), interval (1 day = 24 hours), jsonb (holds numerics), char(n) (blanks at the end), enums
# (another number after a restore), and texts of a collation that calls different texts equal.
_EXACT_TYPES = [
    '"char"', "bool", "bytea", "date", "int2", "int4", "int8", "name", "oid", "text", "time", "timestamp",
    "timestamptz", "uuid", "varchar",
]  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table with rows of its own; ``label`` is ``schema.table``, each part quoted where it must be.

    ``has_exact_types``: two of its rows are equal to PostgreSQL only when they are the same to the last bit.
    """

    schema: str
    name: str
    label: str
    columns: tuple[str, ...]
    has_exact_types: bool

    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


def user_tables(connection: psycopg.Connection[TupleRow]) -> list[Table]:
    """Every table whose rows a backup holds, sorted by schema and name."""
    connection.execute("SELECT pg_catalog.set_config('quote_all_identifiers', 'off', false)")
    return [
        Table(schema, name, label, tuple(columns), has_exact_types)
        for schema, name, label, columns, has_exact_types in connection.execute(_USER_TABLES, [_EXACT_TYPES])
    ]
