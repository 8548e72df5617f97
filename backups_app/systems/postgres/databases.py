"""The databases of a server: what they are, and to drop, measure and count them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from backups_app.errors import EnvironmentProblem, ServerUnavailable
from backups_app.sentences import say
from backups_app.systems.postgres import activity
from backups_app.systems.postgres.connections import Server, connect, translated
from backups_app.systems.postgres.interruptible import interruptible
from backups_app.systems.postgres.manifest import snapshot
from backups_app.systems.postgres.queries import one_row
from backups_app.systems.postgres.tables import user_tables
from backups_app.systems.waiting import Watch, no_watch

APPLICATION_NAME = "qradmin"
MAX_NAME_BYTES = 63

_FACTS = """
SELECT d.datname,
       split_part(current_setting('server_version'), ' ', 1),
       current_setting('server_version_num')::int,
       current_setting('server_version_num')::int / 10000,
       pg_catalog.pg_database_size(d.oid),
       pg_catalog.pg_get_userbyid(d.datdba),
       pg_catalog.pg_encoding_to_char(d.encoding),
       r.rolsuper,
       r.rolcreatedb OR r.rolsuper,
       r.rolsuper OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'),
       r.rolname
  FROM pg_catalog.pg_database d, pg_catalog.pg_roles r
 WHERE d.datname = current_database() AND r.rolname = current_user
"""

_CONNECTABLE = """
SELECT datname
  FROM pg_catalog.pg_database
 WHERE datallowconn AND pg_catalog.has_database_privilege(oid, 'CONNECT')
 ORDER BY datname NOT IN ('postgres'), datname NOT IN ('template1'), datname
"""


class LiveDatabase(EnvironmentProblem):
    """It is the database that the settings name, whatever its own name says: it is not dropped."""


@dataclass(frozen=True)
class DatabaseFacts:
    """What a database and the role that looks at it are; ``version`` as in 15.18."""

    name: str
    version: str
    version_number: int
    major: int
    size_bytes: int
    owner: str
    encoding: str
    is_superuser: bool
    can_create_database: bool
    can_signal_backends: bool
    user: str


def facts(server: Server) -> DatabaseFacts:
    """What ``server``'s own database is."""
    with _connected(server) as connection:
        return facts_of(connection)


def facts_of(connection: psycopg.Connection[TupleRow]) -> DatabaseFacts:
    """The same of the database that ``connection`` is in."""
    return DatabaseFacts(*one_row(connection, _FACTS))


def exists(server: Server, name: str) -> bool:
    with maintenance(server) as connection:
        return _exists(connection, name)


def drop(server: Server, name: str, *, patience_seconds: float = 15) -> bool:
    """End every connection to ``name`` and drop it; False when there is no such database.

    EnvironmentProblem when it is in use, or its name is held by a rename, for longer than
    ``patience_seconds``; LiveDatabase when it is ``server``'s own.
    """
    if name == server.database:
        raise LiveDatabase(
            say("{name} is the one that this site's settings name: it is not dropped.", name=name)
        )
    statement = sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name))
    with maintenance(server, avoiding={name}) as connection:
        limit = sql.Literal(max(1, int(patience_seconds * 1000)))
        connection.execute(sql.SQL("SET lock_timeout = {}").format(limit))
        deadline = time.monotonic() + patience_seconds
        while _exists(connection, name):
            activity.end_sessions_of(connection, [name])
            try:
                connection.execute(statement)
            except psycopg.errors.ObjectInUse as error:
                if time.monotonic() >= deadline:
                    raise _in_use(connection, name, error) from error
            else:
                return True
    return False


def end_sessions(server: Server, *, application_prefix: str, patience_seconds: float = 5) -> int:
    """End every session whose application name starts with ``application_prefix``, in any database.

    A prefix that ends with a digit is a whole number: ``qradmin-op-1`` does not end ``qradmin-op-12``.
    Returns how many were ended, when they are gone: none of them can commit any more. EnvironmentProblem
    when one stays. Sessions that this role may not end are left alone. This works while a rename that is
    not finished lets nobody into ``server``'s own database.
    """
    with maintenance(server, avoiding={server.database}) as connection:
        return activity.end_sessions_named(connection, application_prefix, patience_seconds)


def analyze(server: Server, *, watch: Watch = no_watch) -> None:
    """Collect the planner's statistics of ``server``'s database, as pg_restore does not."""
    with _connected(server) as connection:
        connection.execute("SET statement_timeout = 0")
        interruptible(connection, lambda: connection.execute("ANALYZE"), watch=watch)


def row_counts(server: Server, *, watch: Watch = no_watch) -> dict[str, int]:
    """The exact rows of every table in one snapshot; the keys are those of a manifest."""
    with snapshot(server, application_name=APPLICATION_NAME, watch=watch) as view:
        return interruptible(view.connection, lambda: _count_all(view.connection), watch=watch)


def row_counts_of(connection: psycopg.Connection[TupleRow], *, watch: Watch = no_watch) -> dict[str, int]:
    """The same on an open connection in autocommit mode, without locks that would keep others waiting."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SET LOCAL row_security = off")
        return interruptible(connection, lambda: _count_all(connection), watch=watch)


@contextmanager
def maintenance(
    server: Server, *, avoiding: Collection[str] = (), application_name: str = APPLICATION_NAME
) -> Iterator[psycopg.Connection[TupleRow]]:
    """A connection to a database that is none of ``avoiding``, in autocommit mode; errors are translated."""
    home = server.at(_maintenance_name(server, avoiding))
    with _connected(home, application_name) as connection:
        connection.execute("SET statement_timeout = 0")
        yield connection


def insist_on_fitting_name(name: str) -> None:
    """PostgreSQL cuts longer names short, and two long names could become one."""
    if not name or len(name.encode()) > MAX_NAME_BYTES:
        raise EnvironmentProblem(
            say(
                "A database cannot be named {name}: PostgreSQL allows 1 to {limit} bytes.",
                name=repr(name),
                limit=MAX_NAME_BYTES,
            )
        )


@contextmanager
def _connected(
    server: Server, application_name: str = APPLICATION_NAME
) -> Iterator[psycopg.Connection[TupleRow]]:
    with translated(server), connect(server, application_name=application_name) as connection:
        yield connection


def _maintenance_name(server: Server, avoiding: Collection[str]) -> str:
    for name in ("postgres", "template1"):
        if name not in avoiding and _accepts(server.at(name)):
            return name
    with _connected(server) as connection:
        for (name,) in connection.execute(_CONNECTABLE):
            if name not in avoiding and _accepts(server.at(name)):
                return str(name)
    raise ServerUnavailable(
        say(
            "No other database than {database} lets {user} in: "
            "grant it with GRANT CONNECT ON DATABASE postgres TO {user}.",
            database=server.database,
            user=server.user,
        )
    )


def _accepts(server: Server) -> bool:
    try:
        with _connected(server):
            return True
    except EnvironmentProblem:
        return False


def _in_use(connection: psycopg.Connection[TupleRow], name: str, error: psycopg.Error) -> EnvironmentProblem:
    users = activity.describe_sessions(connection, [name])
    if users:
        sentence = say(
            "Database {name} could not be dropped, it is still in use by {users}: "
            "close these connections and try again.",
            name=name,
            users=users,
        )
    else:
        sentence = say(
            "Database {name} could not be dropped, it is still in use though nobody is connected now: "
            "look into pg_prepared_xacts, then try again.",
            name=name,
        )
    return EnvironmentProblem(sentence, detail=str(error))


def _exists(connection: psycopg.Connection[TupleRow], name: str) -> bool:
    query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = %s)"
    return bool(one_row(connection, query, (name,))[0])


def _count_all(connection: psycopg.Connection[TupleRow]) -> dict[str, int]:
    query = sql.SQL("SELECT count(*) FROM ONLY {}")
    return {
        table.label: int(one_row(connection, query.format(table.identifier()))[0])
        for table in user_tables(connection)
    }
