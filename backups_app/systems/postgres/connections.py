"""Connections to PostgreSQL, with its errors said in one plain sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
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
from backups_app.sentences import say
from backups_app.systems.secrecy import hidden

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
            return problem(sentence(server, _first_line(text)), detail=text)
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return _connection_problem(text, server)
    return EnvironmentProblem(say("PostgreSQL refused a step: {text}", text=_first_line(text)), detail=text)


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
            return problem(sentence(server, error_line(text)), detail=text)
    if "connection to server" in lowered or "could not translate host name" in lowered:
        return _connection_problem(text, server)
    return None


# --- what is said, of a server and of its own words --------------------------------------------------------

Sentence = Callable[[Server, str], str]


def _not_reached(server: Server, _text: str) -> str:
    return say(
        "PostgreSQL at {host}:{port} cannot be reached: check that it runs and that host and port are right.",
        host=server.host,
        port=server.port,
    )


def _lost(server: Server, _text: str) -> str:
    return say(
        "The connection to PostgreSQL at {host}:{port} was lost: check that it still runs, then try again.",
        host=server.host,
        port=server.port,
    )


def _login_refused(server: Server, _text: str) -> str:
    return say(
        "PostgreSQL refused the login of {user}: check the user and password of this database's URL.",
        user=server.user,
    )


def _no_database(server: Server, _text: str) -> str:
    return say(
        "There is no database {database} at {host}:{port}: check the name in its URL.",
        database=server.database,
        host=server.host,
        port=server.port,
    )


def _too_many(server: Server, _text: str) -> str:
    return say(
        "PostgreSQL at {host}:{port} has no free connection: end some sessions or raise max_connections.",
        host=server.host,
        port=server.port,
    )


def _starting(server: Server, _text: str) -> str:
    return say(
        "PostgreSQL at {host}:{port} is starting, stopping or recovering: wait a moment and try again.",
        host=server.host,
        port=server.port,
    )


def _not_let_in(server: Server, _text: str) -> str:
    return say(
        "PostgreSQL at {host}:{port} accepts no login of {user} to {database} from this machine: "
        "add a line to its pg_hba.conf.",
        host=server.host,
        port=server.port,
        user=server.user,
        database=server.database,
    )


def _sslmode_unfit(server: Server, _text: str) -> str:
    return say(
        "PostgreSQL at {host}:{port} and the sslmode {sslmode} do not fit: check the URL.",
        host=server.host,
        port=server.port,
        sslmode=server.sslmode,
    )


def _unknown_host(server: Server, _text: str) -> str:
    return say(
        "The host {host} is unknown on this network: check the host in the database's URL.", host=server.host
    )


def _denied(server: Server, text: str) -> str:
    return say("The role {user} may not do this: {text}", user=server.user, text=text)


def _server_full(server: Server, _text: str) -> str:
    return say(
        "The disk of PostgreSQL at {host}:{port} is full: make room, then try again.",
        host=server.host,
        port=server.port,
    )


def _disk_full(_server: Server, text: str) -> str:
    return say("A disk is full: make room, then try again ({text}).", text=text)


def _locked(_server: Server, _text: str) -> str:
    return say("PostgreSQL waited too long for a lock: end the session that holds it, then try again.")


def _extension_missing(_server: Server, text: str) -> str:
    return say("An extension that the backup needs is not installed on the server: {text}", text=text)


def _out_of_memory(_server: Server, text: str) -> str:
    return say("A program was ended for want of memory, which says nothing of the backup: {text}", text=text)


def _something_missing(_server: Server, text: str) -> str:
    return say("The server lacks something that the backup needs: {text}", text=text)


def _role_missing(_server: Server, text: str) -> str:
    return say("A role that the backup needs is missing on the server: {text}", text=text)


# --- by which sign each is known --------------------------------------------------------------------------

_KNOWN: tuple[tuple[tuple[type[psycopg.Error], ...], type[QradminError], Sentence], ...] = (
    ((pg.InvalidPassword, pg.InvalidAuthorizationSpecification), ServerUnavailable, _login_refused),
    ((pg.InvalidCatalogName,), ServerUnavailable, _no_database),
    ((pg.TooManyConnections,), ServerUnavailable, _too_many),
    ((pg.CannotConnectNow,), ServerUnavailable, _starting),
    ((pg.InsufficientPrivilege,), MissingPrivilege, _denied),
    ((pg.DiskFull,), NoSpace, _server_full),
    ((pg.LockNotAvailable,), EnvironmentProblem, _locked),
    ((pg.AdminShutdown, pg.CrashShutdown, pg.IdleSessionTimeout), ServerUnavailable, _lost),
)

_SAID_BY_PROGRAMS: tuple[tuple[tuple[str, ...], type[QradminError], Sentence], ...] = (
    (("no space left on device", "could not extend file", "disk full"), NoSpace, _disk_full),
    (
        (
            "permission denied",
            "must be owner",
            "must be member",
            "must be superuser",
            "must be able to set role",
        ),
        MissingPrivilege,
        _denied,
    ),
    (("must have createdb", "permission to create"), MissingPrivilege, _denied),
    (("canceling statement due to lock timeout",), EnvironmentProblem, _locked),
    (
        (
            "terminating connection",
            "server closed the connection",
            "no connection to the server",
            "ssl syscall error",
        ),
        ServerUnavailable,
        _lost,
    ),
    (("extension control file", "is not available"), EnvironmentProblem, _extension_missing),
    (
        ("worker process died unexpectedly", "out of memory", "cannot allocate memory"),
        EnvironmentProblem,
        _out_of_memory,
    ),
    (
        ("default_tablespace", 'tablespace "', 'collation "', "could not access file"),
        EnvironmentProblem,
        _something_missing,
    ),
    (('role "',), MissingPrivilege, _role_missing),
)


def _connection_problem(text: str, server: Server) -> QradminError:
    return ServerUnavailable(_why_not_connected(text.lower())(server, _first_line(text)), detail=text)


def _why_not_connected(lowered: str) -> Sentence:
    if "password authentication failed" in lowered or "no password supplied" in lowered:
        return _login_refused
    if "too many" in lowered or "remaining connection slots" in lowered:
        return _too_many
    if "does not exist" in lowered and "database" in lowered:
        return _no_database
    if "role" in lowered and "does not exist" in lowered:
        return _login_refused
    if "no pg_hba.conf entry" in lowered:
        return _not_let_in
    if "ssl" in lowered and ("not support" in lowered or "required" in lowered):
        return _sslmode_unfit
    if "could not translate host name" in lowered or "name or service" in lowered or "resolve" in lowered:
        return _unknown_host
    if "starting up" in lowered or "shutting down" in lowered or "recovery" in lowered:
        return _starting
    return _lost if "lost" in lowered or "closed" in lowered else _not_reached


def _masked(text: str, server: Server) -> str:
    return hidden(text, [server.password], (server.host, server.user, server.database))


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else say("no message.")


def error_line(stderr: str) -> str:
    """The line of a client program's output that says what went wrong; empty when it said nothing.

    Of several it is the first: a pg_restore with several jobs then tells that one of them has died.
    """
    lines = stderr.splitlines()
    own = (line for line in lines if re.match(r"\S+: error: ", line))
    any_of_it = (line for line in lines if "error" in line.lower())
    return next(own, next(any_of_it, lines[-1] if lines else "")).strip()
