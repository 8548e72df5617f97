"""Backups are proven on a server of their own: another release, other roles, and never the live one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from pytest_django.fixtures import Settings

from backups_app.systems.postgres.connections import Server
from deploy.demo import embedded
from tests.conftest import connect_as_superuser, url_of
from tests.operations.site import Site


@pytest.fixture
def bench(start_postgres: Callable[[int], embedded.EmbeddedServer], settings: Settings) -> Iterator[Server]:
    """A second server, of another release, where only a role of its own may create databases."""
    running = start_postgres(18)
    password = secrets.token_hex(8)
    with connect_as_superuser(running) as connection:
        connection.execute(f"CREATE ROLE driller LOGIN CREATEDB PASSWORD '{password}'")
        connection.execute("CREATE DATABASE drills OWNER driller")
    server = Server(running.host, running.port, "driller", password, "drills")
    settings.DRILL_DATABASE_URL = url_of(server)
    yield server
    with connect_as_superuser(running) as connection:
        connection.execute("DROP DATABASE drills WITH (FORCE)")
        connection.execute("DROP ROLE driller")


@pytest.fixture
def with_foreign_rights(one_folder: Site, superuser: psycopg.Connection[Any]) -> Site:
    """Roles in the backup that the other server does not have."""
    superuser.execute("CREATE ROLE reader")
    one_folder.execute("GRANT SELECT ON qr_codes TO reader")
    return one_folder


def databases_of(bench: Server) -> set[str]:
    with psycopg.connect(url_of(bench)) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


def test_a_backup_is_proven_on_another_server_without_its_roles(
    with_foreign_rights: Site, bench: Server
) -> None:
    site = with_foreign_rights
    backup = site.backup()
    before = databases_of(bench)

    operation = site.prove(backup)

    assert operation.state == "succeeded", f"{operation.error} {operation.error_detail}"
    backup.refresh_from_db()
    assert backup.state == "proven"
    assert backup.proof["rows"] == 1337
    assert backup.proof["server"] == f"{bench.host}:{bench.port}"
    said = operation.steps.get(what__startswith="Proven restorable in")
    assert said.what.endswith("every row and checksum equal.")
    assert databases_of(bench) == before
    assert not [name for name in site.databases() if "staging" in name]


def test_no_session_of_a_proof_reaches_the_live_server(
    one_folder: Site, bench: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = one_folder.backup()
    connected: list[str] = []
    real = psycopg.connect

    def noted(*words: Any, **more: Any) -> Any:
        connection = real(*words, **more)
        connected.append(str(connection.info.port))
        return connection

    monkeypatch.setattr(psycopg, "connect", noted)

    assert one_folder.prove(backup).state == "succeeded"

    assert str(bench.port) in connected
    assert str(one_folder.server.port) not in connected


def test_a_bench_that_is_down_says_nothing_about_the_backup(
    one_folder: Site, bench: Server, settings: Settings
) -> None:
    backup = one_folder.backup()
    settings.DRILL_DATABASE_URL = url_of(Server("127.0.0.1", 1, "u", "p", "drills"))

    operation = one_folder.prove(backup)

    backup.refresh_from_db()
    assert (operation.state, operation.blame, backup.state) == ("failed", "environment", "validated")
    assert "127.0.0.1:1 cannot be reached" in operation.error


def test_a_database_that_could_not_be_dropped_on_the_bench_is_dropped_there_later(
    one_folder: Site, bench: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backups_app.errors import ServerUnavailable
    from backups_app.operations import leftovers
    from backups_app.systems.postgres import databases

    backup = one_folder.backup()
    before = databases_of(bench)

    def fail(*_words: object) -> None:
        raise ServerUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(databases, "drop", fail)
        operation = one_folder.prove(backup)
    assert len(databases_of(bench) - before) == 1

    leftovers.clean_up()

    operation.refresh_from_db()
    assert operation.leftovers == []
    assert databases_of(bench) == before
