"""Databases change their names, all together or not at all, whoever is connected."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from backups_app.errors import EnvironmentProblem, MissingPrivilege
from backups_app.sentences import say
from backups_app.systems.postgres import activity
from backups_app.systems.postgres.connections import Server
from backups_app.systems.postgres.databases import (
    APPLICATION_NAME,
    exists,
    insist_on_fitting_name,
    maintenance,
)
from backups_app.systems.waiting import Watch, no_watch

SETTLE_SECONDS = 0.25
POLL_SECONDS = 0.005
ENDING_INTERVAL_SECONDS = 0.01
FROZEN_SECONDS = 10.0

_PREPARED = """
SELECT quote_literal(gid)
  FROM pg_catalog.pg_prepared_xacts
 WHERE database = ANY (%s)
 ORDER BY prepared
"""

Renames = Sequence[tuple[str, str]]


def swap(
    server: Server,
    *,
    live: str,
    staged: str,
    replaced: str,
    patience_seconds: float = 30,
    application_name: str = APPLICATION_NAME,
    before_commit: Watch = no_watch,
) -> float:
    """``live`` becomes ``replaced`` and ``staged`` becomes ``live``; returns the seconds it took.

    1. End the connections to both, and wait until they are gone.
    2. Rename both in one transaction. PostgreSQL locks the name first, so nobody comes in any more;
       who slipped in before is ended from beside. ``before_commit`` has the last word: what it raises
       comes out of here with both names as they were.
    3. When somebody stays for all that, begin again, until ``patience_seconds`` are over.

    Raises EnvironmentProblem or MissingPrivilege with both names as they were. Works for the owner
    with CREATEDB who is no superuser. Of one that is frozen in the middle PostgreSQL ends the transaction
    after FROZEN_SECONDS; by ``application_name`` it can be ended sooner.
    """
    renames = [(live, replaced), (staged, live)]
    return _rename_all(server, renames, patience_seconds, application_name, before_commit)


def rename(server: Server, old: str, new: str, *, patience_seconds: float = 30) -> float:
    """The database ``old`` becomes ``new``; returns the seconds, or raises with the name as it was."""
    return _rename_all(server, [(old, new)], patience_seconds, APPLICATION_NAME, no_watch)


def _rename_all(
    server: Server,
    renames: Renames,
    patience_seconds: float,
    application_name: str,
    before_commit: Watch,
) -> float:
    names = {name for pair in renames for name in pair}
    sources = [old for old, _ in renames]
    for name in names:
        insist_on_fitting_name(name)
    with (
        maintenance(server, avoiding=names, application_name=application_name) as renaming,
        maintenance(server, avoiding=names, application_name=application_name) as ending,
    ):
        started = time.monotonic()
        deadline = started + patience_seconds
        while True:
            _end_and_wait(ending, sources, deadline)
            try:
                with _ended_from_beside(ending, sources):
                    _rename_in_one_transaction(server, renaming, renames, deadline, before_commit)
            except (psycopg.errors.ObjectInUse, psycopg.errors.QueryCanceled) as error:
                if time.monotonic() >= deadline:
                    raise _in_use(ending, sources, patience_seconds, error) from error
            except psycopg.Error as error:
                raise _translated(error, renames) from error
            else:
                return time.monotonic() - started


def _end_and_wait(connection: psycopg.Connection[TupleRow], names: list[str], deadline: float) -> None:
    """PostgreSQL looks every 0.1 s only whether a database is free: it should find it so at once."""
    until = min(deadline, time.monotonic() + SETTLE_SECONDS)
    activity.end_sessions_of(connection, names)
    while activity.count_sessions_of(connection, names) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
        activity.end_sessions_of(connection, names)


@contextmanager
def _ended_from_beside(connection: psycopg.Connection[TupleRow], names: list[str]) -> Iterator[None]:
    """While the block runs, end whoever is connected to one of ``names``."""
    is_over = Event()

    def end() -> None:
        while not is_over.wait(ENDING_INTERVAL_SECONDS):
            try:
                activity.end_sessions_of(connection, names)
            except psycopg.Error:
                return

    thread = Thread(target=end, name="end-sessions", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _rename_in_one_transaction(
    server: Server,
    connection: psycopg.Connection[TupleRow],
    renames: Renames,
    deadline: float,
    before_commit: Watch,
) -> None:
    limits = {
        "statement_timeout": deadline - time.monotonic(),
        "idle_in_transaction_session_timeout": FROZEN_SECONDS,
    }
    try:
        with connection.transaction():
            for name, seconds in limits.items():
                connection.execute(
                    sql.SQL("SET LOCAL {} = {}").format(
                        sql.Identifier(name), sql.Literal(max(1, int(seconds * 1000)))
                    )
                )
            for old, new in renames:
                connection.execute(
                    sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))
                )
            before_commit()
    except psycopg.OperationalError:
        # The connection may be lost after PostgreSQL has carried out the commit: then it is done.
        if not connection.closed or not _is_done(server, renames):
            raise


def _is_done(server: Server, renames: Renames) -> bool:
    vacated = {old for old, _ in renames} - {new for _, new in renames}
    return all(exists(server, new) for _, new in renames) and not any(
        exists(server, name) for name in vacated
    )


def _in_use(
    connection: psycopg.Connection[TupleRow], names: list[str], seconds: float, error: psycopg.Error
) -> EnvironmentProblem:
    prepared = [gid for (gid,) in connection.execute(_PREPARED, (names,))]
    if prepared:
        sentence, remedy = _held_by_prepared(names[0], f"{seconds:g}", prepared)
    else:
        users = activity.describe_sessions(connection, names)
        sentence, remedy = _held_by_sessions(names[0], f"{seconds:g}", users)
    return EnvironmentProblem(f"{sentence} {remedy}", detail=str(error))


def _held_by_prepared(name: str, seconds: str, prepared: list[str]) -> tuple[str, str]:
    """What holds the database ``name``, and what to do."""
    if len(prepared) == 1:
        sentence = say(
            "Database {name} keeps its name: within {seconds} s it was never free, "
            "the prepared transaction {transaction} holds it.",
            name=name,
            seconds=seconds,
            transaction=prepared[0],
        )
        return sentence, say("Commit it or roll it back, then try again.")
    sentence = say(
        "Database {name} keeps its name: within {seconds} s it was never free, "
        "prepared transactions hold it: {transactions}.",
        name=name,
        seconds=seconds,
        transactions=", ".join(prepared),
    )
    return sentence, say("Commit them or roll them back, then try again.")


def _held_by_sessions(name: str, seconds: str, users: str) -> tuple[str, str]:
    """Who holds the database ``name``, and what to do; nobody, when ``users`` is empty."""
    if not users:
        sentence = say(
            "Database {name} keeps its name: within {seconds} s it was never free, "
            "though nobody is connected now.",
            name=name,
            seconds=seconds,
        )
        return sentence, say("Try again.")
    sentence = say(
        "Database {name} keeps its name: within {seconds} s it was never free, it is in use by {users}.",
        name=name,
        seconds=seconds,
        users=users,
    )
    return sentence, say("Close these and try again.")


def _translated(error: psycopg.Error, renames: Renames) -> EnvironmentProblem:
    detail = str(error)
    names = ", ".join(f"{old} → {new}" for old, new in renames)
    untouched = say("Every name is as it was.")
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        sentence = say(
            "This role may not rename {names}, so every name is as it was: "
            "it must own the databases and have CREATEDB.",
            names=names,
        )
        return MissingPrivilege(sentence, detail=detail)
    if isinstance(error, psycopg.errors.DuplicateDatabase):
        sentence = say("Could not rename {names}: there is a database of that name already.", names=names)
        return EnvironmentProblem(f"{sentence} {untouched}", detail=detail)
    if isinstance(error, psycopg.errors.InvalidCatalogName):
        sentence = say("Could not rename {names}: there is no such database.", names=names)
        return EnvironmentProblem(f"{sentence} {untouched}", detail=detail)
    sentence = say(
        "Could not rename {names}; PostgreSQL refused it, so every name is as it was.", names=names
    )
    return EnvironmentProblem(sentence, detail=detail)
