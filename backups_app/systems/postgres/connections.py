"""Connections to PostgreSQL, with its errors said in one plain sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import errors as pg
from psycopg.rows import TupleRow

from backups_app.errors import (
    EnvironmentProblem,
    MissingPrivilege,
    NoSpace,
    QradminError,
    ServerUnavailable,
)

# A time limit that somebody gave the database or the role would end our work anywhere: each call has its own.
NO_TIME_LIMIT = "-c statement_timeout=0"
CHECK_CLIENT = "-c client_connection_check_interval=10s"

# A network that swallows everything is noticed within half a minute, not after the system's hours.
STILL_THERE: dict[str, Any] = {
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
}


@dataclass(frozen=True)
class Server:
    """Where a PostgreSQL database is, and as whom to log in. Its text never holds the password."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    sslmode: str = "prefer"

    def at(self, database: str) -> Server:
        """The same server and login, another database."""
        return replace(self, database=database)

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}/{self.database}"


@contextmanager
def connect(
    server: Server, *, application_name: str, connect_timeout: int = 5, autocommit: bool = True
) -> Iterator[psycopg.Connection[TupleRow]]:
    """A connection that is closed in the end; PostgreSQL's errors come as ours (see `translate`)."""
    with translated(server):
        connection = psycopg.connect(
            host=server.host,
            port=server.port,
            user=server.user,
            password=server.password,
            dbname=server.database,
            sslmode=server.sslmode,
            application_name=application_name,
            connect_timeout=connect_timeout,
            autocommit=autocommit,
            client_encoding="UTF8",
            options=NO_TIME_LIMIT,
            **STILL_THERE,
        )
        try:
            yield connection
        finally:
            connection.close()


@contextmanager
def translated(server: Server) -> Iterator[None]:
    """Raise psycopg's errors as ours."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, server) from error


def translate(error: psycopg.Error, server: Server) -> QradminError:
    """The error of this project that says what ``error`` means for an operator."""
    text = _masked(str(error), server)
    for kinds, problem, sentence in _KNOWN:
        if isinstance(error, kinds):
            return problem(sentence.format(server=server, text=_first_line(text)), detail=text)
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return _connection_problem(text, server)
    return EnvironmentProblem(f"PostgreSQL refused a step: {_first_line(text)}", detail=text)


def environment(server: Server, application_name: str) -> dict[str, str]:
    """What libpq programs read from their environment; the password is among it."""
    return {
        "PGHOST": server.host,
        "PGPORT": str(server.port),
        "PGUSER": server.user,
        "PGPASSWORD": server.password,
        "PGDATABASE": server.database,
        "PGSSLMODE": server.sslmode,
        "PGAPPNAME": application_name,
        "PGCONNECT_TIMEOUT": "10",
        "PGOPTIONS": CHECK_CLIENT,
    }


def program_problem(stderr: str, server: Server) -> QradminError | None:
    """What a client program's message says about the surroundings; None when it says nothing of them."""
    text = _masked(stderr, server)
    lowered = text.lower()
    for words, problem, sentence in _SAID_BY_PROGRAMS:
        if any(word in lowered for word in words):
            return problem(sentence.format(server=server, text=_error_line(text)), detail=text)
    if "connection to server" in lowered or "could not translate host name" in lowered:
        return _connection_problem(text, server)
    return None


_AT = "PostgreSQL at {server.host}:{server.port}"
_NOT_REACHED = _AT + " cannot be reached: check that it runs and that host and port are right."
_LOST = "The connection to " + _AT + " was lost: check that it still runs, then try again."
_LOGIN = "PostgreSQL refused the login of {server.user}: check the user and password of this database's URL."
_NO_DATABASE = (
    "There is no database {server.database} at {server.host}:{server.port}: check the name in its URL."
)
_TOO_MANY = _AT + " has no free connection: end some sessions or raise max_connections."
_STARTING = _AT + " is starting, stopping or recovering: wait a moment and try again."
_DENIED = "The role {server.user} may not do this: {text}"
_FULL = "The disk of PostgreSQL at {server.host}:{server.port} is full: make room, then try again."
_LOCKED = "PostgreSQL waited too long for a lock: end the session that holds it, then try again."

_KNOWN: tuple[tuple[tuple[type[psycopg.Error], ...], type[QradminError], str], ...] = (
    ((pg.InvalidPassword, pg.InvalidAuthorizationSpecification), ServerUnavailable, _LOGIN),
    ((pg.InvalidCatalogName,), ServerUnavailable, _NO_DATABASE),
    ((pg.TooManyConnections,), ServerUnavailable, _TOO_MANY),
    ((pg.CannotConnectNow,), ServerUnavailable, _STARTING),
    ((pg.InsufficientPrivilege,), MissingPrivilege, _DENIED),
    ((pg.DiskFull,), NoSpace, _FULL),
    ((pg.LockNotAvailable,), EnvironmentProblem, _LOCKED),
    ((pg.AdminShutdown, pg.CrashShutdown, pg.IdleSessionTimeout), ServerUnavailable, _LOST),
)

_SAID_BY_PROGRAMS: tuple[tuple[tuple[str, ...], type[QradminError], str], ...] = (
    (
        ("no space left on device", "could not extend file", "disk full"),
        NoSpace,
        "A disk is full: make room, then try again ({text}).",
    ),
    (
        (
            "permission denied",
            "must be owner",
            "must be member",
            "must be superuser",
            "must be able to set role",
        ),
        MissingPrivilege,
        _DENIED,
    ),
    (("must have createdb", "permission to create"), MissingPrivilege, _DENIED),
    (("canceling statement due to lock timeout",), EnvironmentProblem, _LOCKED),
    (
        (
            "terminating connection",
            "server closed the connection",
            "no connection to the server",
            "ssl syscall error",
        ),
        ServerUnavailable,
        _LOST,
    ),
    (
        ("extension control file", "is not available"),
        EnvironmentProblem,
        "An extension that the backup needs is not installed on the server: {text}",
    ),
    (
        ("worker process died unexpectedly", "out of memory", "cannot allocate memory"),
        EnvironmentProblem,
        "A program was ended for want of memory, which says nothing of the backup: {text}",
    ),
    (
        ("default_tablespace", 'tablespace "', 'collation "', "could not access file"),
        EnvironmentProblem,
        "The server lacks something that the backup needs: {text}",
    ),
    (('role "',), MissingPrivilege, "A role that the backup needs is missing on the server: {text}"),
)


def _connection_problem(text: str, server: Server) -> QradminError:
    lowered = text.lower()
    if "password authentication failed" in lowered or "no password supplied" in lowered:
        sentence = _LOGIN
    elif "too many" in lowered or "remaining connection slots" in lowered:
        sentence = _TOO_MANY
    elif "does not exist" in lowered and "database" in lowered:
        sentence = _NO_DATABASE
    elif "role" in lowered and "does not exist" in lowered:
        sentence = _LOGIN
    elif "no pg_hba.conf entry" in lowered:
        sentence = (
            _AT + " accepts no login of {server.user} to {server.database}"
            " from this machine: add a line to its pg_hba.conf."
        )
    elif "ssl" in lowered and ("not support" in lowered or "required" in lowered):
        sentence = _AT + " and the sslmode {server.sslmode} do not fit: check the URL."
    elif "could not translate host name" in lowered or "name or service" in lowered or "resolve" in lowered:
        sentence = "The host {server.host} is unknown on this network: check the host in the database's URL."
    elif "starting up" in lowered or "shutting down" in lowered or "recovery" in lowered:
        sentence = _STARTING
    elif "lost" in lowered or "closed" in lowered:
        sentence = _LOST
    else:
        sentence = _NOT_REACHED
    return ServerUnavailable(sentence.format(server=server), detail=text)


def _masked(text: str, server: Server) -> str:
    return text.replace(server.password, "***") if server.password else text


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "no message"


def _error_line(text: str) -> str:
    """The line of a program's output that holds its error."""
    lines = [line for line in text.splitlines() if "error" in line.lower()] or text.splitlines() or [""]
    return lines[0].strip()
