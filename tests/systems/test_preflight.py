"""What would make a restore fail is told beforehand, with what to do about it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from backups_app.errors import ServerUnavailable
from backups_app.systems.postgres.connections import Server
from backups_app.systems.postgres.preflight import restore_problems
from deploy.demo import embedded
from tests.conftest import connect_as_superuser, on_all_majors
from tests.systems.pg_tools import as_superuser, create_peculiar_tables, url

Connection = psycopg.Connection[Any]


@on_all_majors
def test_nothing_stands_in_the_way_of_the_owner_of_the_sample(managed: Server, owner: Connection) -> None:
    create_peculiar_tables(owner)

    assert restore_problems(managed) == []


@on_all_majors
def test_without_createdb_the_statement_that_helps_is_told(managed: Server, superuser: Connection) -> None:
    superuser.execute("ALTER ROLE qr_owner NOCREATEDB")

    (problem,) = restore_problems(managed)

    assert "ALTER ROLE qr_owner CREATEDB;" in problem


@on_all_majors
def test_a_database_of_somebody_else_needs_a_membership(managed: Server, superuser: Connection) -> None:
    superuser.execute('CREATE ROLE "Boss"')
    superuser.execute('ALTER DATABASE qrdb OWNER TO "Boss"')

    (problem,) = restore_problems(managed)
    assert 'GRANT "Boss" TO qr_owner;' in problem

    superuser.execute('GRANT "Boss" TO qr_owner')
    assert restore_problems(managed) == []


@pytest.mark.parametrize("pg_major", [16, 18], indirect=True)
def test_a_membership_without_the_right_to_act_is_not_enough(managed: Server, superuser: Connection) -> None:
    superuser.execute("CREATE ROLE boss")
    superuser.execute("ALTER DATABASE qrdb OWNER TO boss")
    superuser.execute("GRANT boss TO qr_owner WITH SET FALSE")

    (problem,) = restore_problems(managed)

    assert "GRANT boss TO qr_owner;" in problem


@on_all_majors
def test_connections_of_others_are_told_until_they_may_be_ended(
    managed: Server, superuser: Connection
) -> None:
    superuser.execute("CREATE ROLE reader LOGIN PASSWORD 'reader'")
    reader = Server(managed.host, managed.port, "reader", "reader", managed.database)

    with psycopg.connect(url(reader), application_name="reports"):
        (problem,) = restore_problems(managed)
        superuser.execute("GRANT pg_signal_backend TO qr_owner")
        later = restore_problems(managed)
    superuser.execute("REVOKE pg_signal_backend FROM qr_owner")

    assert problem == (
        "The role qr_owner may not end 1 connection of reader to this database (reports): "
        "let a superuser run GRANT pg_signal_backend TO qr_owner;"
    )
    assert later == []


def test_several_connections_of_one_role_are_one_sentence(
    managed: Server, superuser: Connection, postgres_server: embedded.EmbeddedServer
) -> None:
    superuser.execute("CREATE ROLE reader LOGIN PASSWORD 'reader'")
    reader = Server(managed.host, managed.port, "reader", "reader", managed.database)

    with (
        psycopg.connect(url(reader), application_name="reports"),
        psycopg.connect(url(reader)),
        connect_as_superuser(postgres_server, managed.database),
        connect_as_superuser(postgres_server, managed.database),
    ):
        problems = restore_problems(managed)

    assert problems == [
        (
            "The role qr_owner may not end 2 connections of postgres to this database (no name): "
            "close them before the restore."
        ),
        (
            "The role qr_owner may not end 2 connections of reader to this database (reports): "
            "let a superuser run GRANT pg_signal_backend TO qr_owner;"
        ),
    ]


@on_all_majors
def test_a_superusers_connection_has_to_be_closed(
    managed: Server, postgres_server: embedded.EmbeddedServer
) -> None:
    with connect_as_superuser(postgres_server, managed.database):
        (problem,) = restore_problems(managed)
        of_superuser = restore_problems(as_superuser(managed, postgres_server))

    assert "1 connection of postgres to this database (no name): close it before the restore." in problem
    assert of_superuser == []


def test_a_prepared_transaction_is_told_with_its_statements(managed: Server) -> None:
    with psycopg.connect(url(managed)) as connection:
        connection.execute("CREATE TABLE passing (id int)")
        connection.execute("PREPARE TRANSACTION 'left ''behind'")

    (problem,) = restore_problems(managed)

    assert "ROLLBACK PREPARED 'left ''behind';" in problem


@on_all_majors
def test_objects_that_cannot_be_given_back_are_told_by_their_owner(
    managed: Server, superuser: Connection, postgres_server: embedded.EmbeddedServer
) -> None:
    superuser.execute("CREATE ROLE other")
    with connect_as_superuser(postgres_server, managed.database) as connection:
        connection.execute("ALTER TABLE scan_logs OWNER TO other")
        connection.execute("CREATE FUNCTION helper() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        connection.execute("CREATE FUNCTION another() RETURNS int LANGUAGE sql AS 'SELECT 2'")

    problems = restore_problems(managed)

    assert [problem.split(", whom")[0] for problem in problems] == [
        "1 object belongs to other",
        "2 objects belong to postgres",
    ]
    assert problems[0].endswith("may not give it back to: let a superuser run GRANT other TO qr_owner;")
    assert "may not give them back to" in problems[1]


@on_all_majors
def test_an_extension_that_only_a_superuser_may_create_is_told(
    managed: Server, postgres_server: embedded.EmbeddedServer
) -> None:
    with connect_as_superuser(postgres_server, managed.database) as connection:
        row = connection.execute(
            "SELECT name FROM pg_available_extension_versions"
            " WHERE superuser AND NOT trusted AND requires IS NULL ORDER BY name LIMIT 1"
        ).fetchone()
        if row is None:
            pytest.skip("this server has no such extension")
        connection.execute(f'CREATE EXTENSION "{row[0]}"')

    (problem,) = restore_problems(managed)

    assert f"the extension {row[0]}" in problem
    assert restore_problems(as_superuser(managed, postgres_server)) == []


def test_a_database_that_cannot_be_reached_is_told_as_such(managed: Server) -> None:
    with pytest.raises(ServerUnavailable):
        restore_problems(managed.at("qrdb_never"))
