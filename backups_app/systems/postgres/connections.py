"""Connections to PostgreSQL, with its errors said in one plain sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from django.utils.translation import gettext_noop
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
    """Where a PostgreSQL database is, and as whom to log in. Its text never holds the password.

    ``options``: what else libpq is told, each with its own name, such as ``sslrootcert``.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    sslmode: str = "prefer"
    options: tuple[tuple[str, str], ...] = ()

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
            **(STILL_THERE | dict(server.options)),
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
            return problem(_said(sentence, server, _first_line(text)), detail=text)
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
        **{f"PG{name.replace('_', '').upper()}": value for name, value in server.options},
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
            return problem(_said(sentence, server, error_line(text)), detail=text)
    if "connection to server" in lowered or "could not translate host name" in lowered:
        return _connection_problem(text, server)
    return None


# --- what is said, of a server and of its own words --------------------------------------------------------

_NOT_REACHED = gettext_noop(
    "PostgreSQL at {host}:{port} cannot be reached: check that it runs and that host and port are right."
)
_LOST = gettext_noop(
    "The connection to PostgreSQL at {host}:{port} was lost: check that it still runs, then try again."
)
_LOGIN_REFUSED = gettext_noop(
    "PostgreSQL refused the login of {user}: check the user and password of this database's URL."
)
_NO_DATABASE = gettext_noop("There is no database {database} at {host}:{port}: check the name in its URL.")
_TOO_MANY = gettext_noop(
    "PostgreSQL at {host}:{port} has no free connection: end some sessions or raise max_connections."
)
_STARTING = gettext_noop(
    "PostgreSQL at {host}:{port} is starting, stopping or recovering: wait a moment and try again."
)
_NOT_LET_IN = gettext_noop(
    "PostgreSQL at {host}:{port} accepts no login of {user} to {database} from this machine: add a "
    "line to its pg_hba.conf."
)
_SSLMODE_UNFIT = gettext_noop(
    "PostgreSQL at {host}:{port} and the sslmode {sslmode} do not fit: check the URL."
)
_CERTIFICATE_UNFIT = gettext_noop(
    "A certificate for PostgreSQL at {host}:{port} cannot be used: check the files in its URL ({text})."
)
_UNKNOWN_HOST = gettext_noop(
    "The host {host} is unknown on this network: check the host in the database's URL."
)
_DENIED = gettext_noop("The role {user} may not do this: {text}")
_SERVER_FULL = gettext_noop("The disk of PostgreSQL at {host}:{port} is full: make room, then try again.")
_DISK_FULL = gettext_noop("A disk is full: make room, then try again ({text}).")
_LOCKED = gettext_noop(
    "PostgreSQL waited too long for a lock: end the session that holds it, then try again."
)
_EXTENSION_MISSING = gettext_noop("An extension that the backup needs is not installed on the server: {text}")
_OUT_OF_MEMORY = gettext_noop(
    "A program was ended for want of memory, which says nothing of the backup: {text}"
)
_SOMETHING_MISSING = gettext_noop("The server lacks something that the backup needs: {text}")
_ROLE_MISSING = gettext_noop("A role that the backup needs is missing on the server: {text}")

# --- by which sign each is known --------------------------------------------------------------------------

_KNOWN: tuple[tuple[tuple[type[psycopg.Error], ...], type[QradminError], str], ...] = (
    ((pg.InvalidPassword, pg.InvalidAuthorizationSpecification), ServerUnavailable, _LOGIN_REFUSED),
    ((pg.InvalidCatalogName,), ServerUnavailable, _NO_DATABASE),
    ((pg.TooManyConnections,), ServerUnavailable, _TOO_MANY),
    ((pg.CannotConnectNow,), ServerUnavailable, _STARTING),
    ((pg.InsufficientPrivilege,), MissingPrivilege, _DENIED),
    ((pg.DiskFull,), NoSpace, _SERVER_FULL),
    ((pg.LockNotAvailable,), EnvironmentProblem, _LOCKED),
    ((pg.AdminShutdown, pg.CrashShutdown, pg.IdleSessionTimeout), ServerUnavailable, _LOST),
)

# libpq's words for a file that is missing or not readable, and for a server that is not trusted.
_CERTIFICATE_SIGNS = (
    "root certificate file",
    'certificate file "',
    'private key file "',
    "certificate verify failed",
    "server certificate",
    "valid client certificate",
)

_SAID_BY_PROGRAMS: tuple[tuple[tuple[str, ...], type[QradminError], str], ...] = (
    (("no space left on device", "could not extend file", "disk full"), NoSpace, _DISK_FULL),
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
    (("extension control file", "is not available"), EnvironmentProblem, _EXTENSION_MISSING),
    (
        ("worker process died unexpectedly", "out of memory", "cannot allocate memory"),
        EnvironmentProblem,
        _OUT_OF_MEMORY,
    ),
    (
        ("default_tablespace", 'tablespace "', 'collation "', "could not access file"),
        EnvironmentProblem,
        _SOMETHING_MISSING,
    ),
    (('role "',), MissingPrivilege, _ROLE_MISSING),
)


def _connection_problem(text: str, server: Server) -> QradminError:
    sentence = _why_not_connected(text.lower())
    return ServerUnavailable(_said(sentence, server, _first_line(text)), detail=text)


def _said(sentence: str, server: Server, text: str) -> str:
    """``text`` is what the server or the program said itself."""
    return say(
        sentence,
        host=server.host,
        port=server.port,
        user=server.user,
        database=server.database,
        sslmode=server.sslmode,
        text=text,
    )


def _why_not_connected(lowered: str) -> str:
    if any(sign in lowered for sign in _CERTIFICATE_SIGNS):
        return _CERTIFICATE_UNFIT
    if "password authentication failed" in lowered or "no password supplied" in lowered:
        return _LOGIN_REFUSED
    if "too many" in lowered or "remaining connection slots" in lowered:
        return _TOO_MANY
    if "does not exist" in lowered and "database" in lowered:
        return _NO_DATABASE
    if "role" in lowered and "does not exist" in lowered:
        return _LOGIN_REFUSED
    if "no pg_hba.conf entry" in lowered:
        return _NOT_LET_IN
    if "ssl" in lowered and ("not support" in lowered or "required" in lowered):
        return _SSLMODE_UNFIT
    if "could not translate host name" in lowered or "name or service" in lowered or "resolve" in lowered:
        return _UNKNOWN_HOST
    if "starting up" in lowered or "shutting down" in lowered or "recovery" in lowered:
        return _STARTING
    return _LOST if "lost" in lowered or "closed" in lowered else _NOT_REACHED


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
