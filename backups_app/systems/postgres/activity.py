"""Who works on a server, to see, to end and to follow."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import TupleRow

from backups_app.errors import EnvironmentProblem
from backups_app.sentences import say
from backups_app.systems.postgres.connections import Server, connect, translated
from backups_app.systems.postgres.queries import one_row

APPLICATION_NAME = "qradmin"
POLL_SECONDS = 0.02

# Of other roles' sessions most columns are NULL, even what kind of process it is.
_SESSIONS = """
SELECT pid, coalesce(usename::text, ''), coalesce(application_name, ''), coalesce(host(client_addr), ''),
       coalesce(state, ''), backend_start, query_start, coalesce(query, ''), pg_catalog.pg_blocking_pids(pid)
  FROM pg_catalog.pg_stat_activity
 WHERE datname = %s AND pid <> pg_catalog.pg_backend_pid()
   AND usesysid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'
 ORDER BY backend_start, pid
"""

# Whom this role may end: a superuser everyone; others never a superuser, and else the roles they are
# members of, or everyone with pg_signal_backend. Asking for more is an error that would end nobody.
MAY_END = """
(me.rolsuper
 OR (NOT coalesce(theirs.rolsuper, true)
     AND (pg_catalog.pg_has_role(theirs.oid, 'USAGE')
          OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'))))
"""

_FROM_ACTIVITY = """
  FROM pg_catalog.pg_stat_activity a
  JOIN pg_catalog.pg_roles me ON me.rolname = current_user
  LEFT JOIN pg_catalog.pg_roles theirs ON theirs.oid = a.usesysid
 WHERE a.pid <> pg_catalog.pg_backend_pid()
"""

# Background workers have no user of their own, and PostgreSQL ends autovacuum itself for DROP and RENAME.
_END_OF_DATABASES = f"""
SELECT count(*) FILTER (WHERE pg_catalog.pg_terminate_backend(a.pid))
{_FROM_ACTIVITY}
   AND a.datname = ANY (%s) AND a.usesysid IS NOT NULL AND {MAY_END}
"""

_END_BY_NAME = f"""
SELECT count(*) FILTER (WHERE pg_catalog.pg_terminate_backend(a.pid))
{_FROM_ACTIVITY}
   AND pg_catalog.starts_with(a.application_name, %(prefix)s)
   AND NOT (%(prefix)s ~ '[0-9]$' AND substr(a.application_name, length(%(prefix)s) + 1, 1) ~ '[0-9]')
   AND {MAY_END}
"""

# What waits for a lock, or for a client program that does not read or write, does not move.
_AT_WORK = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_catalog.pg_backend_pid()
       AND application_name LIKE 'qradmin%' AND state = 'active'
       AND coalesce(wait_event_type, '') NOT IN ('Lock', 'Client'))
"""

_END_THESE = f"""
SELECT a.pid, CASE WHEN {MAY_END} THEN pg_catalog.pg_terminate_backend(a.pid) ELSE false END
{_FROM_ACTIVITY}
   AND a.pid = ANY (%s)
"""

_WHO = """
SELECT coalesce(usename::text, backend_type, ''), coalesce(application_name, ''), pid
  FROM pg_catalog.pg_stat_activity
 WHERE datname = ANY (%s) AND pid <> pg_catalog.pg_backend_pid()
 ORDER BY backend_start, pid
 LIMIT 5
"""

_COPIED_BY_TABLE = """
SELECT pid, relid, tuples_processed
  FROM pg_catalog.pg_stat_progress_copy
 WHERE datname = current_database()
"""

_EXPECTED = """
SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""


@dataclass(frozen=True)
class Session:
    """A client's connection to a database; ``blocked_by`` are the process ids it waits for.

    Of other roles only ``pid``, ``user``, ``application`` and ``blocked_by`` may be known.
    """

    pid: int
    user: str
    application: str
    address: str
    state: str
    since: datetime | None
    query_started_at: datetime | None
    query: str
    blocked_by: tuple[int, ...]


class CopyTally:
    """How many rows COPY has moved so far in a database, finished tables included.

    PostgreSQL forgets a COPY when it ends, so the highest number seen of each one is kept: call
    ``rows`` often.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], int] = {}

    def rows(self, connection: psycopg.Connection[TupleRow]) -> int:
        """``connection`` must be one to the database that is copied."""
        for pid, table, rows in connection.execute(_COPIED_BY_TABLE):
            self._seen[pid, table] = max(rows, self._seen.get((pid, table), 0))
        return sum(self._seen.values())


def sessions(server: Server, database: str) -> list[Session]:
    """The clients connected to ``database``, oldest first, without the one that asks."""
    with translated(server), connect(server, application_name=APPLICATION_NAME) as connection:
        return [_session(row) for row in connection.execute(_SESSIONS, (database,))]


def _session(row: TupleRow) -> Session:
    pid, user, application, address, state, since, query_started_at, query, blocked_by = row
    return Session(pid, user, application, address, state, since, query_started_at, query, tuple(blocked_by))


def end_sessions_named(connection: psycopg.Connection[TupleRow], prefix: str, patience_seconds: float) -> int:
    """See `databases.end_sessions`."""
    if not prefix:
        raise ValueError("an empty prefix would end every session of the server")
    deadline = time.monotonic() + patience_seconds
    told = still_there = _end_by_name(connection, prefix)
    while still_there:
        if time.monotonic() > deadline:
            raise EnvironmentProblem(
                say("A session of {name} does not end, although PostgreSQL was told to end it.", name=prefix)
            )
        time.sleep(POLL_SECONDS)
        still_there = _end_by_name(connection, prefix)
    return told


def _end_by_name(connection: psycopg.Connection[TupleRow], prefix: str) -> int:
    return int(one_row(connection, _END_BY_NAME, {"prefix": prefix})[0])


def end_these(server: Server, pids: Iterable[int]) -> dict[int, bool]:
    """End the sessions of these process ids; for each that is there, whether it was told to end.

    False where this role may not end it: it needs to be a member of the session's role, or of
    pg_signal_backend.
    """
    with translated(server), connect(server, application_name=APPLICATION_NAME) as connection:
        return {int(pid): bool(is_told) for pid, is_told in connection.execute(_END_THESE, (list(pids),))}


def end_sessions_of(connection: psycopg.Connection[TupleRow], names: Iterable[str]) -> int:
    """End every session of the databases ``names`` that this role may end; returns how many."""
    with suppress(psycopg.errors.InsufficientPrivilege):
        return int(one_row(connection, _END_OF_DATABASES, (list(names),))[0])
    return 0


def count_sessions_of(connection: psycopg.Connection[TupleRow], names: Iterable[str]) -> int:
    """How many clients are connected to the databases ``names``."""
    query = (
        "SELECT count(*) FROM pg_catalog.pg_stat_activity"
        " WHERE datname = ANY (%s) AND usesysid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid()"
    )
    return int(one_row(connection, query, (list(names),))[0])


def describe_sessions(connection: psycopg.Connection[TupleRow], names: Iterable[str]) -> str:
    """Who is connected to the databases ``names``, for a sentence of any language; empty when nobody is."""
    return ", ".join(_named(*row) for row in connection.execute(_WHO, (list(names),)))


def _named(user: str, application: str, pid: int) -> str:
    number = f"PID {pid}"
    about = f"{application}, {number}" if application else number
    return f"{user} ({about})" if user else about


def is_at_work(connection: psycopg.Connection[TupleRow]) -> bool:
    """Whether a session of ours in this database does something right now: not idle, waiting for nobody."""
    return bool(one_row(connection, _AT_WORK)[0])


def expected_rows(connection: psycopg.Connection[TupleRow]) -> int:
    """About how many rows the tables of this database hold, by the planner's statistics."""
    return int(one_row(connection, _EXPECTED)[0])
