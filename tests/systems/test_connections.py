"""Each way in which PostgreSQL cannot be reached has its own sentence, and none holds the password."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backups_app.errors import EnvironmentProblem, MissingPrivilege, NoSpace, QradminError, ServerUnavailable
from backups_app.systems.postgres.connections import (
    Server,
    connect,
    environment,
    error_line,
    program_problem,
    translate,
)
from tests.operations.site import beside


def failure(server: Server, statement: str = "SELECT 1") -> QradminError:
    """The error of connecting to ``server`` and running ``statement``."""
    with pytest.raises(QradminError) as caught, connect(server, application_name="test") as connection:
        connection.execute(statement)  # type: ignore[call-overload]
    assert server.password not in caught.value.message + caught.value.detail
    return caught.value


def test_a_closed_port_says_that_the_server_cannot_be_reached(managed: Server) -> None:
    error = failure(replace(managed, port=1))

    assert isinstance(error, ServerUnavailable)
    assert "127.0.0.1:1 cannot be reached" in error.message


def test_an_unknown_host_is_named(managed: Server) -> None:
    error = failure(replace(managed, host="no-such-host.invalid"))

    assert isinstance(error, ServerUnavailable)
    assert "The host no-such-host.invalid is unknown" in error.message


def test_a_wrong_password_says_that_the_login_was_refused(managed: Server) -> None:
    error = failure(replace(managed, password="wrong-password-1"))

    assert isinstance(error, ServerUnavailable)
    assert "refused the login of qr_owner" in error.message


def test_an_unknown_role_says_that_the_login_was_refused(managed: Server) -> None:
    assert "refused the login of nobody_here" in failure(replace(managed, user="nobody_here")).message


def test_a_missing_database_is_named(managed: Server) -> None:
    error = failure(managed.at("not_there"))

    assert isinstance(error, ServerUnavailable)
    assert "There is no database not_there" in error.message


def test_a_database_without_free_connections_says_so(
    managed: Server, superuser: psycopg.Connection[Any]
) -> None:
    superuser.execute("ALTER ROLE qr_owner CONNECTION LIMIT 0")

    try:
        error = failure(managed)
    finally:
        superuser.execute("ALTER ROLE qr_owner CONNECTION LIMIT -1")

    assert isinstance(error, ServerUnavailable)
    assert "has no free connection" in error.message


def test_a_root_certificate_that_is_missing_is_named(managed: Server, tmp_path: Path) -> None:
    missing = tmp_path / "database.pem"

    def agree_to_tls() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(8)
            client.sendall(b"S")
            client.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener, beside(agree_to_tls):
        port = listener.getsockname()[1]
        options = (("sslrootcert", str(missing)),)
        error = failure(replace(managed, port=port, sslmode="verify-full", options=options))

    assert isinstance(error, ServerUnavailable)
    assert error.message.startswith(f"A certificate for PostgreSQL at 127.0.0.1:{port} cannot be used")
    assert f'root certificate file "{missing}" does not exist' in error.message


def test_required_encryption_that_the_server_lacks_is_said(managed: Server) -> None:
    error = failure(replace(managed, sslmode="require"))

    assert isinstance(error, ServerUnavailable)
    assert "sslmode require do not fit" in error.message


def test_a_missing_privilege_is_no_missing_server(managed: Server) -> None:
    error = failure(managed, "SELECT pg_read_file('/etc/hostname')")

    assert isinstance(error, MissingPrivilege)
    assert "The role qr_owner may not do this" in error.message


def test_any_other_error_keeps_postgresql_s_first_line(managed: Server) -> None:
    error = failure(managed, "SELECT 1 / 0")

    assert type(error) is EnvironmentProblem
    assert "division by zero" in error.message


def test_a_full_disk_of_the_server_is_said(managed: Server) -> None:
    assert isinstance(translate(psycopg.errors.DiskFull("could not extend file"), managed), NoSpace)


def test_a_server_never_prints_its_password(managed: Server) -> None:
    assert managed.password not in repr(managed) + str(managed)


def test_programs_get_the_password_in_their_environment_alone(managed: Server) -> None:
    found = environment(managed, "qradmin-op-1")

    assert found["PGPASSWORD"] == managed.password
    assert found["PGAPPNAME"] == "qradmin-op-1"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (
            "pg_restore: error: could not execute query: ERROR:  permission denied for schema x",
            MissingPrivilege,
        ),
        ('ERROR:  must be member of role "boss"', MissingPrivilege),
        ('ERROR:  extension "postgis" is not available', EnvironmentProblem),
        ("could not write to file: No space left on device", NoSpace),
        ("server closed the connection unexpectedly", ServerUnavailable),
        ('connection to server at "db" failed: Connection refused', ServerUnavailable),
    ],
)
def test_what_a_program_says_of_the_surroundings_is_told_apart(
    managed: Server, said: str, kind: type[QradminError]
) -> None:
    assert isinstance(program_problem(said, managed), kind)


def test_a_fault_of_the_archive_is_no_fault_of_the_surroundings(managed: Server) -> None:
    said = "pg_restore: error: could not read from input file: end of file"

    assert program_problem(said, managed) is None


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            (
                "pg_dump: warning: there were no errors before\n"
                "pg_dump: error: query failed: ERROR:  relation x does not exist\n"
                "pg_dump: detail: Query was: SELECT 1"
            ),
            "pg_dump: error: query failed: ERROR:  relation x does not exist",
        ),
        (
            (
                "pg_restore: error: could not execute query: ERROR:  type y does not exist\n"
                "Command was: CREATE TABLE error ();\n"
                "pg_restore: error: a worker process died unexpectedly"
            ),
            "pg_restore: error: could not execute query: ERROR:  type y does not exist",
        ),
        ("it began\nFATAL ERROR of its own\nit ended", "FATAL ERROR of its own"),
        ("it began\nit ended", "it ended"),
        ("", ""),
    ],
)
def test_the_line_with_the_error_of_a_program_is_found(said: str, line: str) -> None:
    assert error_line(said) == line


def test_a_network_that_swallows_everything_is_noticed_within_half_a_minute(managed: Server) -> None:
    with connect(managed, application_name="test") as connection:
        opened = socket.socket(fileno=os.dup(connection.fileno()))
        with opened:
            idle, interval, count, unanswered = (
                opened.getsockopt(socket.IPPROTO_TCP, option)
                for option in (
                    socket.TCP_KEEPIDLE,
                    socket.TCP_KEEPINTVL,
                    socket.TCP_KEEPCNT,
                    socket.TCP_USER_TIMEOUT,
                )
            )

    assert idle + interval * count <= 30
    assert 0 < unanswered <= 30_000
