"""What a database holds: the rows and a checksum of every table, taken in one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from backups_app.errors import BadBackup
from backups_app.sentences import say
from backups_app.systems.postgres.connections import Server, connect, translated
from backups_app.systems.postgres.interruptible import interruptible
from backups_app.systems.postgres.queries import one_row
from backups_app.systems.postgres.tables import Table, user_tables
from backups_app.systems.waiting import Watch, no_watch

FORMAT = 1
LOCK_WAIT_SECONDS = 60

OnTable = Callable[[str, int], None]

# Every setting that changes how a value is written as text, so that equal rows give equal checksums
# whatever the database, the role or the environment asks for.
_TEXT_SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "xmlbinary": "base64",
    "xmloption": "content",
    "quote_all_identifiers": "off",
    "search_path": "pg_catalog",
    "row_security": "off",
}

# A backup may take hours; none of these may end it in the middle.
_PATIENCE_SETTINGS = {
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",
    "lock_timeout": f"{LOCK_WAIT_SECONDS}s",
}

# transaction_timeout came with PostgreSQL 17: only settings that the server knows are set.
_SET_KNOWN = """
SELECT set_config(s.name, w.value, %s)
  FROM unnest(%s::text[], %s::text[]) AS w(name, value)
  JOIN pg_catalog.pg_settings s ON lower(s.name) = lower(w.name)
"""

_TABLE_STATE = """
SELECT count(*), coalesce(sum({hash}), 0)::text FROM ONLY {table} AS {alias}
"""

# By their text any rows can be compared. Where equal values are the same to the last bit, PostgreSQL's own
# hash of the row takes 2.4 times less; it is hashed once more, as by itself it is linear in the columns, and
# values that change places between rows would not show in the sum.
_BY_TEXT = 'hashtextextended(ROW({columns})::text COLLATE "C", 0)'
_BY_VALUE = "hashint8extended(hash_record_extended(ROW({columns}), 0), 0)"
BY_VALUE = "values:"

# Large objects are read a megabyte at a time: one value cannot hold an object beyond 1 GB.
_LARGE_OBJECTS = """
WITH RECURSIVE piece(oid, start, hash, is_full) AS (
    SELECT m.oid, 0::bigint, h.hash, h.is_full
      FROM pg_catalog.pg_largeobject_metadata m, LATERAL ({first}) h
    UNION ALL
    SELECT p.oid, p.start + {size}, h.hash, h.is_full
      FROM piece p, LATERAL ({next}) h
     WHERE p.is_full
)
SELECT count(*) FILTER (WHERE start = 0), coalesce(sum(hash), 0)::text FROM piece
"""
_LARGE_OBJECT_PIECE = """
SELECT hashtextextended(concat_ws(':', {oid}, {start}, encode(d.bytes, 'hex')) COLLATE "C", 0) AS hash,
       length(d.bytes) = {size} AS is_full
  FROM (SELECT lo_get({oid}, {start}, {size}) AS bytes OFFSET 0) d
"""
_LARGE_OBJECT_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class TableState:
    """How many rows a table holds, and a checksum of all of them that does not depend on their order.

    A checksum that starts with ``values:`` sums the hashes of the values, any other those of their texts.
    """

    rows: int
    checksum: str

    @property
    def is_by_value(self) -> bool:
        return self.checksum.startswith(BY_VALUE)


@dataclass(frozen=True)
class Manifest:
    """The rows and checksums of a database at one instant; keys of ``tables`` are ``schema.table``."""

    tables: Mapping[str, TableState]
    large_objects: TableState | None
    revision: str | None
    taken_at: str

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "taken_at": self.taken_at,
            "revision": self.revision,
            "tables": {name: _state_to_json(state) for name, state in self.tables.items()},
            "large_objects": self.large_objects and _state_to_json(self.large_objects),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        """Raises BadBackup when ``data`` is not what ``to_json`` writes."""
        try:
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']!r}")
            large_objects = data["large_objects"]
            return cls(
                tables={str(name): _state_from_json(state) for name, state in data["tables"].items()},
                large_objects=None if large_objects is None else _state_from_json(large_objects),
                revision=None if data["revision"] is None else str(data["revision"]),
                taken_at=str(data["taken_at"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadBackup(
                say("The manifest of this backup cannot be read, so its rows cannot be compared."),
                detail=f"{type(error).__name__}: {error}",
            ) from error


@dataclass(frozen=True)
class Snapshot:
    """A transaction that sees one instant of the database, and the id by which pg_dump sees the same."""

    connection: psycopg.Connection[TupleRow] = field(repr=False)
    id: str


@contextmanager
def snapshot(server: Server, *, application_name: str, watch: Watch = no_watch) -> Iterator[Snapshot]:
    """One instant of ``server``'s database, held until the block ends; read-only.

    Every table is locked against TRUNCATE and ALTER (not against writers) before the instant is
    chosen: what those two do shows even to an older snapshot.
    """
    with translated(server), connect(server, application_name=application_name) as connection:
        _fix_settings(connection, is_local=False)
        interruptible(connection, lambda: _begin(connection), watch=watch)
        (snapshot_id,) = one_row(connection, "SELECT pg_export_snapshot()")
        yield Snapshot(connection, snapshot_id)


def take(
    connection: psycopg.Connection[TupleRow],
    *,
    like: Manifest | None = None,
    on_table: OnTable | None = None,
) -> Manifest:
    """The manifest of what ``connection``'s open transaction sees; its settings stay changed until it ends.

    The checksums can be compared with those of ``like``, as they are summed in the same way; ``on_table``
    is called after each table with its name and its rows.
    """
    _fix_settings(connection, is_local=True)
    states: dict[str, TableState] = {}
    tables = user_tables(connection)
    for table in tables:
        known = like.tables.get(table.label) if like else None
        is_by_value = known.is_by_value if known else table.has_exact_types
        states[table.label] = _state_of(connection, table, is_by_value=is_by_value)
        if on_table is not None:
            on_table(table.label, states[table.label].rows)
    return Manifest(
        tables=states,
        large_objects=_large_objects(connection),
        revision=_revision(connection, tables),
        taken_at=_now(connection),
    )


def take_of(
    server: Server, *, application_name: str, like: Manifest | None = None, watch: Watch = no_watch
) -> Manifest:
    """The manifest of ``server``'s database in a snapshot of its own; ends at once when ``watch`` raises."""
    with snapshot(server, application_name=application_name, watch=watch) as view:
        return interruptible(view.connection, lambda: take(view.connection, like=like), watch=watch)


def revision_of(server: Server, *, application_name: str) -> str | None:
    """The Alembic revision of ``server``'s database, as its manifest would say."""
    with translated(server), connect(server, application_name=application_name) as connection:
        return _revision(connection, user_tables(connection))


def compare(expected: Manifest, actual: Manifest) -> list[str]:
    """How ``actual`` differs from what the backup's manifest ``expected``, as sentences; empty when equal."""
    differences = [
        _table_difference(name, expected.tables.get(name), actual.tables.get(name))
        for name in sorted({*expected.tables, *actual.tables})
        if expected.tables.get(name) != actual.tables.get(name)
    ]
    if expected.large_objects != actual.large_objects:
        differences.append(_large_object_difference(expected.large_objects, actual.large_objects))
    if expected.revision != actual.revision:
        differences.append(_revision_difference(expected.revision, actual.revision))
    return differences


def _table_difference(name: str, expected: TableState | None, actual: TableState | None) -> str:
    if actual is None:
        return say("table {name}: missing, although the backup's manifest lists it", name=name)
    if expected is None:
        return say("table {name}: not in the backup's manifest", name=name)
    if expected.rows != actual.rows:
        return say(
            "table {name}: {rows} rows, the backup's manifest says {expected}",
            name=name,
            rows=actual.rows,
            expected=expected.rows,
        )
    return say(
        "table {name}: {rows} rows as expected, but their contents differ from the backup's manifest",
        name=name,
        rows=actual.rows,
    )


def _large_object_difference(expected: TableState | None, actual: TableState | None) -> str:
    if actual is None:
        return say("large objects: missing, although the backup's manifest lists them")
    if expected is None:
        return say("large objects: not in the backup's manifest")
    if expected.rows != actual.rows:
        return say(
            "large objects: {rows} rows, the backup's manifest says {expected}",
            rows=actual.rows,
            expected=expected.rows,
        )
    return say(
        "large objects: {rows} rows as expected, but their contents differ from the backup's manifest",
        rows=actual.rows,
    )


def _revision_difference(expected: str | None, actual: str | None) -> str:
    if actual is None:
        return say("the migration revision {expected} of the backup's manifest is missing", expected=expected)
    if expected is None:
        return say("the migration revision is {revision}, the backup's manifest has none", revision=actual)
    return say(
        "the migration revision is {revision}, the backup's manifest says {expected}",
        revision=actual,
        expected=expected,
    )


def _begin(connection: psycopg.Connection[TupleRow]) -> None:
    for attempts_left in (2, 1, 0):
        tables = user_tables(connection)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            _lock(connection, tables)
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            connection.execute("ROLLBACK")
            if not attempts_left:
                raise
        else:
            return


def _lock(connection: psycopg.Connection[TupleRow], tables: list[Table]) -> None:
    if tables:
        names = sql.SQL(", ").join(sql.SQL("ONLY {}").format(table.identifier()) for table in tables)
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))


def _fix_settings(connection: psycopg.Connection[TupleRow], *, is_local: bool) -> None:
    settings = _TEXT_SETTINGS | _PATIENCE_SETTINGS
    connection.execute(_SET_KNOWN, (is_local, list(settings), list(settings.values())))


def _state_of(connection: psycopg.Connection[TupleRow], table: Table, *, is_by_value: bool) -> TableState:
    columns = sql.SQL(", ").join(sql.Identifier("row", column) for column in table.columns)
    row_hash = sql.SQL(_BY_VALUE if is_by_value else _BY_TEXT).format(columns=columns)
    query = sql.SQL(_TABLE_STATE).format(hash=row_hash, table=table.identifier(), alias=sql.Identifier("row"))
    rows, checksum = one_row(connection, query)
    return TableState(rows, f"{BY_VALUE}{checksum}" if is_by_value else checksum)


def _large_objects(connection: psycopg.Connection[TupleRow]) -> TableState | None:
    size = _LARGE_OBJECT_PIECE_BYTES
    query = _LARGE_OBJECTS.format(
        first=_LARGE_OBJECT_PIECE.format(oid="m.oid", start=0, size=size),
        next=_LARGE_OBJECT_PIECE.format(oid="p.oid", start=f"p.start + {size}", size=size),
        size=size,
    )
    state = TableState(*one_row(connection, query))
    return state if state.rows else None


def _revision(connection: psycopg.Connection[TupleRow], tables: list[Table]) -> str | None:
    """What Alembic last did, in the first schema that says so; several heads are joined by commas."""
    for table in tables:
        if table.name == "alembic_version" and table.columns == ("version_num",):
            query = sql.SQL("SELECT string_agg(version_num, ',' ORDER BY version_num) FROM ONLY {}")
            return cast("str | None", one_row(connection, query.format(table.identifier()))[0])
    return None


def _now(connection: psycopg.Connection[TupleRow]) -> str:
    (started,) = one_row(connection, "SELECT transaction_timestamp()")
    return cast("datetime", started).astimezone(UTC).isoformat()


def _state_to_json(state: TableState) -> dict[str, Any]:
    return {"rows": state.rows, "checksum": state.checksum}


def _state_from_json(data: Mapping[str, Any]) -> TableState:
    return TableState(rows=int(data["rows"]), checksum=str(data["checksum"]))
