"""The checks of a live database: is it what the API expects, and are its rows sound?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from backups_app.errors import EnvironmentProblem
from backups_app.sentences import say
from backups_app.systems.postgres import verdicts
from backups_app.systems.postgres.connections import Server, connect, translated
from backups_app.systems.postgres.interruptible import interruptible
from backups_app.systems.postgres.queries import one_row
from backups_app.systems.postgres.verdicts import Connection, Expectations, Outcome, Verdict
from backups_app.systems.waiting import Watch, no_watch

__all__ = ["STRUCTURE", "Check", "Expectations", "check_database", "check_structure"]

APPLICATION_NAME = "qradmin-health"
LOCK_WAIT_SECONDS = 5


@dataclass(frozen=True)
class Check:
    """The outcome of one check; ``remedy`` says what to do, and is empty when there is nothing to do."""

    name: str
    title: str
    outcome: Outcome
    message: str
    remedy: str
    seconds: float


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
            checks = [_timed("connection", say("Connection"), started, _connection(connection))]
            for name, title, check in wanted:
                watch()
                checks.append(_run(connection, name, title, check, expectations, watch))
            return checks
    except EnvironmentProblem as problem:
        remedy = say("Make the database reachable, then validate again.")
        unreachable = Verdict("failed", problem.message, remedy)
        return [_timed("connection", say("Connection"), started, unreachable), *_skipped(wanted)]


def _connection(connection: Connection) -> Verdict:
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
    return Verdict(
        "passed",
        say("PostgreSQL {version} answers for the database {database}.", version=version, database=database),
    )


_Checker = Callable[[Connection, Expectations], Verdict]
_Checks = tuple[tuple[str, str, _Checker], ...]

_CHECKS_OF_STRUCTURE: _Checks = (
    ("revision", say("Migration revision"), verdicts.revision),
    ("tables", say("Required tables"), verdicts.tables),
    ("columns", say("Required columns"), verdicts.columns),
)

STRUCTURE = frozenset({"connection", *(name for name, _title, _check in _CHECKS_OF_STRUCTURE)})

_CHECKS: _Checks = (
    *_CHECKS_OF_STRUCTURE,
    ("orphans", say("Scans without a QR code"), verdicts.orphans),
    ("duplicates", say("Duplicate short ids"), verdicts.duplicates),
    ("indexes", say("Invalid indexes"), verdicts.indexes),
    ("constraints", say("Unvalidated constraints"), verdicts.constraints),
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


def _could_not_check(error: psycopg.Error) -> Verdict:
    reason = error.diag.message_primary or say("the connection was lost")
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return Verdict(
            "warning",
            say("Could not be checked: a table was locked for {seconds} s.", seconds=LOCK_WAIT_SECONDS),
            say("Wait until the migration or maintenance that holds the lock is over, then validate again."),
        )
    return Verdict(
        "failed",
        say("Could not be checked, PostgreSQL said: {reason}.", reason=reason),
        say("Read the server's log for the cause; if the table is damaged, restore a validated backup."),
    )


def _timed(name: str, title: str, started: float, verdict: Verdict) -> Check:
    seconds = time.monotonic() - started
    return Check(name, title, verdict.outcome, verdict.message, verdict.remedy, seconds)


def _skipped(checks: _Checks) -> list[Check]:
    message = say("Not checked, because the database could not be reached.")
    return [Check(name, title, "skipped", message, "", 0.0) for name, title, _ in checks]
