"""The checks of a live database: is it what the API expects, and are its rows sound?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import psycopg
from psycopg.rows import TupleRow

from backups_app.errors import EnvironmentProblem
from backups_app.systems.postgres.connections import Server, connect, translated
from backups_app.systems.postgres.interruptible import interruptible
from backups_app.systems.postgres.queries import one_row
from backups_app.systems.waiting import Watch, no_watch

Connection = psycopg.Connection[TupleRow]
Outcome = Literal["passed", "warning", "failed", "skipped"]

APPLICATION_NAME = "qradmin-health"
LOCK_WAIT_SECONDS = 5
NAMED_AT_MOST = 5

QR_CODE_COLUMNS = (
    "id",
    "content",
    "qr_type",
    "redirect_url",
    "created_at",
    "scan_count",
    "last_scan_at",
    "fill_color",
    "back_color",
    "size",
    "border",
)

_MISSING_TABLES = """
SELECT t.name FROM unnest(%s::text[]) WITH ORDINALITY AS t(name, place)
  LEFT JOIN pg_catalog.pg_class c ON c.oid = to_regclass(quote_ident(t.name)) AND c.relkind IN ('r', 'p')
 WHERE c.oid IS NULL ORDER BY t.place
"""

_MISSING_COLUMNS = """
SELECT e.name FROM unnest(%s::text[]) WITH ORDINALITY AS e(name, place)
 WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
                    WHERE a.attrelid = to_regclass(quote_ident(%s)) AND a.attname = e.name
                      AND a.attnum > 0 AND NOT a.attisdropped)
 ORDER BY e.place
"""

_ORPHANS = """
SELECT count(*), count(DISTINCT s.qr_code_id), min(s.qr_code_id)
  FROM scan_logs s
 WHERE NOT EXISTS (SELECT FROM qr_codes q WHERE q.id = s.qr_code_id)
"""

_DUPLICATES = """
SELECT short_id FROM qr_codes WHERE short_id IS NOT NULL
 GROUP BY short_id HAVING count(*) > 1 ORDER BY short_id
"""

# An index that is being built right now is not valid yet, and nothing is wrong with it.
_INVALID_INDEXES = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT (i.indisvalid AND i.indisready) AND c.relkind = 'i' AND n.nspname !~ '^pg_(toast|temp)'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p
                    WHERE p.datname = current_database() AND p.index_relid = c.oid)
 ORDER BY 1
"""

# Since 18 a constraint may be NOT ENFORCED: it is not validated, and is not meant to be.
_UNVALIDATED = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), quote_ident(k.conname)
  FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT k.convalidated AND coalesce((pg_catalog.to_jsonb(k) ->> 'conenforced')::boolean, true)
 ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Expectations:
    """What the database must have; ``revision`` is the head of the migrations, None for any single one."""

    tables: tuple[str, ...] = ("qr_codes", "alembic_version")
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"qr_codes": QR_CODE_COLUMNS})
    revision: str | None = None


@dataclass(frozen=True)
class Check:
    """The outcome of one check; ``remedy`` says what to do, and is empty when there is nothing to do."""

    name: str
    title: str
    outcome: Outcome
    message: str
    remedy: str
    seconds: float


@dataclass(frozen=True)
class _Verdict:
    outcome: Outcome
    message: str
    remedy: str = ""


def check_structure(server: Server, expectations: Expectations, *, watch: Watch = no_watch) -> list[Check]:
    """As `check_database`, but without reading the tables' rows: a matter of milliseconds at any size."""
    return _check(server, expectations, _CHECKS_OF_STRUCTURE, watch)


def check_database(server: Server, expectations: Expectations, *, watch: Watch = no_watch) -> list[Check]:
    """Every check in turn; a sick database never raises, but ``watch`` may."""
    return _check(server, expectations, _CHECKS, watch)


def _check(server: Server, expectations: Expectations, wanted: _Checks, watch: Watch) -> list[Check]:
    started = time.monotonic()
    try:
        with translated(server), connect(server, application_name=APPLICATION_NAME) as connection:
            checks = [_timed("connection", "Connection", started, _connection(connection))]
            for name, title, check in wanted:
                watch()
                checks.append(_run(connection, name, title, check, expectations, watch))
            return checks
    except EnvironmentProblem as problem:
        unreachable = _Verdict("failed", problem.message, "Make the database reachable, then validate again.")
        return [_timed("connection", "Connection", started, unreachable), *_skipped(wanted)]


def _connection(connection: Connection) -> _Verdict:
    settings = (
        ("row_security", "off"),
        ("statement_timeout", "0"),
        ("lock_timeout", f"{LOCK_WAIT_SECONDS}s"),
    )
    for name, value in settings:
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    version, database = one_row(
        connection, "SELECT split_part(current_setting('server_version'), ' ', 1), current_database()"
    )
    return _Verdict("passed", f"PostgreSQL {version} answers for the database {database}.")


def _revision(connection: Connection, expectations: Expectations) -> _Verdict:
    if not _has_table(connection, "alembic_version"):
        return _Verdict(
            "failed",
            "The table alembic_version is missing, so nobody knows which migrations the database has had.",
            "Restore a backup that has it, or stamp the revision that fits the tables with alembic stamp.",
        )
    found = [name for (name,) in connection.execute("SELECT version_num FROM alembic_version ORDER BY 1")]
    if len(found) != 1:
        return _Verdict(
            "failed",
            f"The table alembic_version has {len(found)} rows instead of one{_named(found)}.",
            "Leave the one row that fits the tables, or restore a validated backup.",
        )
    if expectations.revision is not None and found[0] != expectations.revision:
        return _Verdict(
            "failed",
            f"The database is at the migration revision {found[0]}, expected is {expectations.revision}.",
            "Run alembic upgrade head in the API's container; if it does not know the revision, "
            "restore a validated backup or correct the expected revision.",
        )
    return _Verdict("passed", f"The database is at the migration revision {found[0]}.")


def _tables(connection: Connection, expectations: Expectations) -> _Verdict:
    missing = [name for (name,) in connection.execute(_MISSING_TABLES, (list(expectations.tables),))]
    if missing:
        return _Verdict(
            "failed",
            f"{_count(len(missing), 'required table')} missing{_named(missing)}.",
            "Do not start the API, which would create empty tables: restore a validated backup.",
        )
    return _Verdict("passed", f"All required tables are there: {', '.join(expectations.tables)}.")


def _columns(connection: Connection, expectations: Expectations) -> _Verdict:
    missing = []
    for table, columns in expectations.columns.items():
        if not _has_table(connection, table):
            return _Verdict("skipped", f"The table {table} is missing, so its columns were not looked at.")
        found = connection.execute(_MISSING_COLUMNS, (list(columns), table))
        missing += [f"{table}.{name}" for (name,) in found]
    if missing:
        return _Verdict(
            "failed",
            f"{_count(len(missing), 'required column')} missing{_named(missing)}.",
            "Run the migrations with alembic upgrade head, or restore a validated backup.",
        )
    wanted = sum(len(columns) for columns in expectations.columns.values())
    return _Verdict("passed", f"All {wanted} required columns are there.")


def _orphans(connection: Connection, _: Expectations) -> _Verdict:
    if not (_has_table(connection, "qr_codes") and _has_table(connection, "scan_logs")):
        return _Verdict("skipped", "There are no tables qr_codes and scan_logs to compare.")
    scans, codes, example = one_row(connection, _ORPHANS)
    if scans:
        return _Verdict(
            "failed",
            f"{_count(scans, 'scan')} of {_count(codes, 'QR code')} that do not exist, such as {example}.",
            "Restore the backup that has the missing codes, or delete these scans; then add the foreign key "
            "from scan_logs.qr_code_id to qr_codes.id again.",
        )
    return _Verdict("passed", "Every scan belongs to a QR code.")


def _duplicates(connection: Connection, _: Expectations) -> _Verdict:
    if not _has_table(connection, "qr_codes"):
        return _Verdict("skipped", "There is no table qr_codes to look at.")
    if not _has_column(connection, "qr_codes", "short_id"):
        return _Verdict("skipped", "At this migration revision there are no short ids yet.")
    found = [short_id for (short_id,) in connection.execute(_DUPLICATES)]
    if found:
        return _Verdict(
            "failed",
            f"{_count(len(found), 'short id')} used by more than one QR code{_named(found)}.",
            "Give all but one of these codes a new short_id, then create the unique index "
            "ix_qr_codes_short_id again.",
        )
    return _Verdict("passed", "Every short id belongs to one QR code.")


def _indexes(connection: Connection, _: Expectations) -> _Verdict:
    found = [name for (name,) in connection.execute(_INVALID_INDEXES)]
    if found:
        statements = " ".join(f"REINDEX INDEX {name};" for name in found[:NAMED_AT_MOST])
        return _Verdict(
            "failed",
            f"{_count(len(found), 'index', 'indexes')} invalid and left unused by PostgreSQL{_named(found)}.",
            f"Build them again: {statements}",
        )
    return _Verdict("passed", "Every index is valid.")


def _constraints(connection: Connection, _: Expectations) -> _Verdict:
    found = connection.execute(_UNVALIDATED).fetchall()
    if found:
        named = [f"{constraint} of {table}" for table, constraint in found]
        statements = " ".join(
            f"ALTER TABLE {table} VALIDATE CONSTRAINT {constraint};"
            for table, constraint in found[:NAMED_AT_MOST]
        )
        return _Verdict(
            "failed",
            f"{_count(len(found), 'constraint')} never checked against the older rows{_named(named)}.",
            f"Check them: {statements}",
        )
    return _Verdict("passed", "Every constraint holds for all rows.")


_Checker = Callable[[Connection, Expectations], _Verdict]
_Checks = tuple[tuple[str, str, _Checker], ...]

_CHECKS_OF_STRUCTURE: _Checks = (
    ("revision", "Migration revision", _revision),
    ("tables", "Required tables", _tables),
    ("columns", "Required columns", _columns),
)

STRUCTURE = frozenset({"connection", *(name for name, _title, _check in _CHECKS_OF_STRUCTURE)})

_CHECKS: _Checks = (
    *_CHECKS_OF_STRUCTURE,
    ("orphans", "Scans without a QR code", _orphans),
    ("duplicates", "Duplicate short ids", _duplicates),
    ("indexes", "Invalid indexes", _indexes),
    ("constraints", "Unvalidated constraints", _constraints),
)


def _run(
    connection: Connection, name: str, title: str, check: _Checker, expectations: Expectations, watch: Watch
) -> Check:
    started = time.monotonic()
    try:
        verdict = interruptible(connection, lambda: check(connection, expectations), watch=watch)
    except psycopg.Error as error:
        verdict = _could_not_check(error)
    return _timed(name, title, started, verdict)


def _could_not_check(error: psycopg.Error) -> _Verdict:
    reason = error.diag.message_primary or "the connection was lost"
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return _Verdict(
            "warning",
            f"Could not be checked: a table was locked for {LOCK_WAIT_SECONDS} s.",
            "Wait until the migration or maintenance that holds the lock is over, then validate again.",
        )
    return _Verdict(
        "failed",
        f"Could not be checked, PostgreSQL said: {reason}.",
        "Read the server's log for the cause; if the table is damaged, restore a validated backup.",
    )


def _timed(name: str, title: str, started: float, verdict: _Verdict) -> Check:
    seconds = time.monotonic() - started
    return Check(name, title, verdict.outcome, verdict.message, verdict.remedy, seconds)


def _skipped(checks: _Checks) -> list[Check]:
    message = "Not checked, because the database could not be reached."
    return [Check(name, title, "skipped", message, "", 0.0) for name, title, _ in checks]


def _has_table(connection: Connection, name: str) -> bool:
    query = "SELECT to_regclass(quote_ident(%s)) IS NOT NULL"
    return bool(one_row(connection, query, (name,))[0])


def _has_column(connection: Connection, table: str, column: str) -> bool:
    found = connection.execute(_MISSING_COLUMNS, ([column], table)).fetchone()
    return found is None


def _count(number: int, singular: str, plural: str = "") -> str:
    return f"{number} {singular}" if number == 1 else f"{number} {plural or singular + 's'}"


def _named(names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return f": {', '.join(names[:NAMED_AT_MOST])}{more}"
