"""What the databases of a server are, and that one is dropped, analyzed and counted."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest

from backups_app.errors import Cancelled, EnvironmentProblem, ServerUnavailable
from backups_app.systems.postgres import databases
from backups_app.systems.postgres.connections import Server
from deploy.demo import embedded
from tests.conftest import connect_as_superuser, on_all_majors
from tests.systems.pg_tools import as_superuser, url

Connection = psycopg.Connection[Any]


@on_all_majors
def test_the_facts_of_the_managed_database_are_those_of_its_owner(managed: Server, pg_major: int) -> None:
    facts = databases.facts(managed)

    assert (facts.name, facts.owner, facts.user, facts.encoding) == ("qrdb", "qr_owner", "qr_owner", "UTF8")
    assert facts.major == pg_major == facts.version_number // 10000
    assert facts.version.startswith(f"{pg_major}.")
    assert " " not in facts.version
    assert facts.size_bytes > 1_000_000
    assert (facts.is_superuser, facts.can_create_database, facts.can_signal_backends) == (False, True, False)


@on_all_majors
def test_the_facts_of_a_superuser_allow_everything(
    managed: Server, postgres_server: embedded.EmbeddedServer
) -> None:
    facts = databases.facts(as_superuser(managed, postgres_server))

    assert (facts.is_superuser, facts.can_create_database, facts.can_signal_backends) == (True, True, True)


def test_a_database_is_found_by_its_exact_name(managed: Server) -> None:
    assert databases.exists(managed, "qrdb")
    assert not databases.exists(managed, "QRDB")
    assert not databases.exists(managed, "qrd")


@on_all_majors
def test_a_database_in_use_is_dropped_by_its_owner(managed: Server, owner: Connection) -> None:
    owner.execute("CREATE DATABASE qrdb_old")
    user = psycopg.connect(url(managed, "qrdb_old"))
    user.execute("SELECT 1")

    assert databases.drop(managed, "qrdb_old") is True

    assert not databases.exists(managed, "qrdb_old")
    with pytest.raises(psycopg.OperationalError):
        user.execute("SELECT 1")


def test_the_database_that_the_settings_name_is_never_dropped(managed: Server) -> None:
    with pytest.raises(databases.LiveDatabase, match="qrdb is the one that this site's settings name"):
        databases.drop(managed, "qrdb")

    assert databases.exists(managed, "qrdb")


def test_dropping_what_is_not_there_is_no_error(managed: Server) -> None:
    assert databases.drop(managed, "qrdb_never") is False


def test_a_database_that_a_superuser_uses_is_not_dropped_and_the_user_named(
    managed: Server, owner: Connection, postgres_server: embedded.EmbeddedServer
) -> None:
    owner.execute("CREATE DATABASE qrdb_old")

    with connect_as_superuser(postgres_server, "qrdb_old") as holder:
        holder.execute("SET application_name = 'an old console'")
        with pytest.raises(EnvironmentProblem, match="in use by postgres \\(an old console"):
            databases.drop(managed, "qrdb_old", patience_seconds=0.3)

    assert databases.drop(managed, "qrdb_old")


def test_a_database_that_only_a_prepared_transaction_uses_is_not_dropped_and_says_so(
    managed: Server, owner: Connection
) -> None:
    owner.execute("CREATE DATABASE qrdb_old")
    with psycopg.connect(url(managed, "qrdb_old")) as connection:
        connection.execute("CREATE TABLE passing (id int)")
        connection.execute("PREPARE TRANSACTION 'stays'")

    with pytest.raises(EnvironmentProblem, match="nobody is connected now: look into pg_prepared_xacts"):
        databases.drop(managed, "qrdb_old", patience_seconds=0.3)

    with psycopg.connect(url(managed, "qrdb_old"), autocommit=True) as connection:
        connection.execute("ROLLBACK PREPARED 'stays'")
    assert databases.drop(managed, "qrdb_old")


@on_all_majors
def test_a_database_that_a_frozen_rename_locks_is_not_waited_for_without_end(
    managed: Server, owner: Connection
) -> None:
    owner.execute("CREATE DATABASE qrdb_old")
    with psycopg.connect(url(managed, "postgres"), application_name="frozen") as frozen:
        frozen.execute("ALTER DATABASE qrdb_old RENAME TO qrdb_older")
        with pytest.raises(EnvironmentProblem, match="waited too long for a lock"):
            databases.drop(managed, "qrdb_old", patience_seconds=0.3)
        frozen.rollback()

    assert databases.drop(managed, "qrdb_old")


@on_all_majors
def test_analyze_gives_the_planner_its_statistics(managed: Server, owner: Connection) -> None:
    owner.execute("CREATE TABLE fresh AS SELECT generate_series(1, 500) AS id")

    databases.analyze(managed)

    assert owner.execute("SELECT reltuples FROM pg_class WHERE relname = 'fresh'").fetchone() == (500.0,)


def test_a_cancelled_count_ends(managed: Server) -> None:
    def watch() -> None:
        raise Cancelled("cancelled")

    with psycopg.connect(url(managed)) as holder:
        holder.execute("LOCK TABLE qr_codes")
        started = time.monotonic()
        with pytest.raises(Cancelled):
            databases.row_counts(managed, watch=watch)

    assert time.monotonic() - started < 30


def test_maintenance_is_done_from_a_database_that_lets_the_role_in(
    managed: Server, superuser: Connection
) -> None:
    def home(*avoiding: str) -> str:
        with databases.maintenance(managed, avoiding=avoiding) as connection:
            return connection.info.dbname

    assert home() == "postgres"
    assert home("postgres") == "template1"

    try:
        superuser.execute("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
        assert home() == "template1"
        superuser.execute("REVOKE CONNECT ON DATABASE template1 FROM PUBLIC")
        superuser.execute("CREATE DATABASE another")
        assert home("qrdb", "qr_template") == "another"
        with pytest.raises(ServerUnavailable, match="GRANT CONNECT ON DATABASE postgres"):
            home("qrdb", "qr_template", "another")
    finally:
        superuser.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
        superuser.execute("GRANT CONNECT ON DATABASE template1 TO PUBLIC")
