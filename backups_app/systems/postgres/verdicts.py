"""What the checks of a live database find: each one a verdict, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import psycopg
from psycopg.rows import TupleRow

from backups_app.sentences import say
from backups_app.systems.postgres.queries import one_row

Connection = psycopg.Connection[TupleRow]
Outcome = Literal["passed", "warning", "failed", "skipped"]

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
class Verdict:
    outcome: Outcome
    message: str
    remedy: str = ""


def revision(connection: Connection, expectations: Expectations) -> Verdict:
    if not _has_table(connection, "alembic_version"):
        return Verdict(
            "failed",
            say(
                "The table alembic_version is missing, so nobody knows which migrations the database has had."
            ),
            say(
                "Restore a backup that has it, or stamp the revision that fits the tables with alembic stamp."
            ),
        )
    found = [name for (name,) in connection.execute("SELECT version_num FROM alembic_version ORDER BY 1")]
    if len(found) != 1:
        return Verdict(
            "failed",
            _wrong_number_of_revisions(found),
            say("Leave the one row that fits the tables, or restore a validated backup."),
        )
    if expectations.revision is not None and found[0] != expectations.revision:
        return Verdict(
            "failed",
            say(
                "The database is at the migration revision {revision}, expected is {expected}.",
                revision=found[0],
                expected=expectations.revision,
            ),
            say(
                "Run alembic upgrade head in the API's container; if it does not know the revision, "
                "restore a validated backup or correct the expected revision."
            ),
        )
    return Verdict("passed", say("The database has the migration revision {revision}.", revision=found[0]))


def _wrong_number_of_revisions(found: list[str]) -> str:
    if not found:
        return say("The table alembic_version has 0 rows instead of one.")
    return say(
        "The table alembic_version has {count} rows instead of one: {names}.",
        count=len(found),
        names=_named(found),
    )


def tables(connection: Connection, expectations: Expectations) -> Verdict:
    missing = [name for (name,) in connection.execute(_MISSING_TABLES, (list(expectations.tables),))]
    if missing:
        return Verdict(
            "failed",
            say("1 required table missing: {name}.", name=missing[0])
            if len(missing) == 1
            else say("{count} required tables missing: {names}.", count=len(missing), names=_named(missing)),
            say("Do not start the API, which would create empty tables: restore a validated backup."),
        )
    return Verdict(
        "passed", say("All required tables are there: {names}.", names=", ".join(expectations.tables))
    )


def columns(connection: Connection, expectations: Expectations) -> Verdict:
    missing = []
    for table, columns in expectations.columns.items():
        if not _has_table(connection, table):
            return Verdict(
                "skipped", say("The table {name} is missing, so its columns were not looked at.", name=table)
            )
        found = connection.execute(_MISSING_COLUMNS, (list(columns), table))
        missing += [f"{table}.{name}" for (name,) in found]
    if missing:
        return Verdict(
            "failed",
            say("1 required column missing: {name}.", name=missing[0])
            if len(missing) == 1
            else say("{count} required columns missing: {names}.", count=len(missing), names=_named(missing)),
            say("Run the migrations with alembic upgrade head, or restore a validated backup."),
        )
    wanted = sum(len(columns) for columns in expectations.columns.values())
    return Verdict("passed", say("All {count} required columns are there.", count=wanted))


def orphans(connection: Connection, _: Expectations) -> Verdict:
    if not (_has_table(connection, "qr_codes") and _has_table(connection, "scan_logs")):
        return Verdict("skipped", say("There are no tables qr_codes and scan_logs to compare."))
    scans, codes, example = one_row(connection, _ORPHANS)
    if scans:
        return Verdict(
            "failed",
            _ownerless(scans, codes, example),
            say(
                "Restore the backup that has the missing codes, or delete these scans; "
                "then add the foreign key from scan_logs.qr_code_id to qr_codes.id again."
            ),
        )
    return Verdict("passed", say("Every scan belongs to a QR code."))


def _ownerless(scans: int, codes: int, example: str) -> str:
    if scans == 1:
        return say("1 scan of a QR code that does not exist: {code}.", code=example)
    if codes == 1:
        return say("{scans} scans of 1 QR code that does not exist: {code}.", scans=scans, code=example)
    return say(
        "{scans} scans of {codes} QR codes that do not exist, such as {code}.",
        scans=scans,
        codes=codes,
        code=example,
    )


def duplicates(connection: Connection, _: Expectations) -> Verdict:
    if not _has_table(connection, "qr_codes"):
        return Verdict("skipped", say("There is no table qr_codes to look at."))
    if not _has_column(connection, "qr_codes", "short_id"):
        return Verdict("skipped", say("At this migration revision there are no short ids yet."))
    found = [short_id for (short_id,) in connection.execute(_DUPLICATES)]
    if found:
        return Verdict(
            "failed",
            say("1 short id used by more than one QR code: {name}.", name=found[0])
            if len(found) == 1
            else say(
                "{count} short ids used by more than one QR code: {names}.",
                count=len(found),
                names=_named(found),
            ),
            say(
                "Give all but one of these codes a new short_id, "
                "then create the unique index ix_qr_codes_short_id again."
            ),
        )
    return Verdict("passed", say("Every short id belongs to one QR code."))


def indexes(connection: Connection, _: Expectations) -> Verdict:
    found = [name for (name,) in connection.execute(_INVALID_INDEXES)]
    if found:
        statements = " ".join(f"REINDEX INDEX {name};" for name in found[:NAMED_AT_MOST])
        return Verdict(
            "failed",
            say("1 index invalid and left unused by PostgreSQL: {name}.", name=found[0])
            if len(found) == 1
            else say(
                "{count} indexes invalid and left unused by PostgreSQL: {names}.",
                count=len(found),
                names=_named(found),
            ),
            say("Build them again: {statements}", statements=statements),
        )
    return Verdict("passed", say("Every index is valid."))


def constraints(connection: Connection, _: Expectations) -> Verdict:
    found = connection.execute(_UNVALIDATED).fetchall()
    if found:
        named = [f"{constraint} ({table})" for table, constraint in found]
        statements = " ".join(
            f"ALTER TABLE {table} VALIDATE CONSTRAINT {constraint};"
            for table, constraint in found[:NAMED_AT_MOST]
        )
        return Verdict(
            "failed",
            say("1 constraint never checked against the older rows: {name}.", name=named[0])
            if len(named) == 1
            else say(
                "{count} constraints never checked against the older rows: {names}.",
                count=len(named),
                names=_named(named),
            ),
            say("Check them: {statements}", statements=statements),
        )
    return Verdict("passed", say("Every constraint holds for all rows."))


def _has_table(connection: Connection, name: str) -> bool:
    query = "SELECT to_regclass(quote_ident(%s)) IS NOT NULL"
    return bool(one_row(connection, query, (name,))[0])


def _has_column(connection: Connection, table: str, column: str) -> bool:
    found = connection.execute(_MISSING_COLUMNS, ([column], table)).fetchone()
    return found is None


def _named(names: list[str]) -> str:
    """The first of them, and in figures how many more there are."""
    more = [f"… (+{len(names) - NAMED_AT_MOST})"] if len(names) > NAMED_AT_MOST else []
    return ", ".join([*names[:NAMED_AT_MOST], *more])
