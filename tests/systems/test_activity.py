"""Who works on a server: seen, ended and followed."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from backups_app.errors import EnvironmentProblem
from backups_app.systems.postgres import activity
from backups_app.systems.postgres.activity import (
    CopyTally,
    Session,
    expected_rows,
    sessions,
)
from backups_app.systems.postgres.connections import Server
from backups_app.systems.postgres.databases import end_sessions
from deploy.demo import embedded
from tests.conftest import connect_as_superuser, on_all_majors
from tests.patience import wait_until
from tests.systems.pg_tools import url

Connection = psycopg.Connection[Any]


def named(server: Server, name: str) -> Connection:
    return psycopg.connect(url(server), application_name=name, autocommit=True)


def seen(server: Server, *, count: int) -> list[Session]:
    """All sessions, as soon as there are so many: one that asked before may not be gone yet."""
    found: list[Session] = []

    def is_settled() -> bool:
        found[:] = sessions(server, "qrdb")
        return len(found) == count

    wait_until(is_settled)
    return found


def is_alive(connection: Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


@on_all_majors
def test_sessions_tell_who_does_what_and_waits_for_whom(managed: Server) -> None:
    with named(managed, "holder") as holder, named(managed, "waiter") as waiter:
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE qr_codes")
        thread = threading.Thread(target=waiter.execute, args=("SELECT count(*) FROM qr_codes",))
        thread.start()
        wait_until(lambda: any(session.blocked_by for session in sessions(managed, "qrdb")))

        first, second = seen(managed, count=2)
        holder.execute("ROLLBACK")
        thread.join()

    assert (first.application, first.user, first.state) == ("holder", "qr_owner", "idle in transaction")
    assert (second.application, second.query) == ("waiter", "SELECT count(*) FROM qr_codes")
    assert second.blocked_by == (first.pid,)
    assert first.address == "127.0.0.1"
    assert first.since is not None
    assert first.since.tzinfo is not None


@on_all_majors
def test_a_session_of_another_role_is_seen_although_its_query_is_not(
    managed: Server, postgres_server: embedded.EmbeddedServer
) -> None:
    with connect_as_superuser(postgres_server, managed.database) as connection:
        connection.execute("SET application_name = 'an old console'")
        (session,) = seen(managed, count=1)

    assert (session.user, session.application) == ("postgres", "an old console")
    assert (session.since, session.state) == (None, "")


@on_all_majors
def test_sessions_are_ended_by_the_start_of_their_name(managed: Server) -> None:
    with (
        named(managed, "qradmin-op-1") as one,
        named(managed, "qradmin-op-1-restore") as its_child,
        named(managed, "qradmin-op-12") as another,
        named(managed, "api") as api,
    ):
        assert end_sessions(managed, application_prefix="qradmin-op-1") == 2

        assert [is_alive(each) for each in (one, its_child, another, api)] == [False, False, True, True]
        assert end_sessions(managed, application_prefix="qradmin-op-") == 1
        assert [is_alive(each) for each in (another, api)] == [False, True]


def test_sessions_that_were_ended_are_gone_afterwards(managed: Server) -> None:
    with named(managed, "qradmin-op-1") as frozen:
        frozen.execute("BEGIN")
        end_sessions(managed, application_prefix="qradmin-op-1")

        assert all(found.application != "qradmin-op-1" for found in sessions(managed, managed.database))
        assert not is_alive(frozen)


def test_a_session_that_does_not_end_is_said(managed: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    only_told = activity._END_BY_NAME.replace("pg_terminate_backend(a.pid)", "pg_cancel_backend(a.pid)")
    monkeypatch.setattr(activity, "_END_BY_NAME", only_told)

    with (
        named(managed, "qradmin-op-1"),
        pytest.raises(EnvironmentProblem, match="A session of qradmin-op-1 does not end"),
    ):
        end_sessions(managed, application_prefix="qradmin-op-1", patience_seconds=0.1)


def test_sessions_of_a_superuser_are_left_alone(managed: Server, superuser: Connection) -> None:
    superuser.execute("SET application_name = 'qradmin-op-3'")

    assert end_sessions(managed, application_prefix="qradmin-op-3") == 0

    assert is_alive(superuser)


def test_an_empty_prefix_ends_nobody(managed: Server) -> None:
    with named(managed, "api") as api:
        with pytest.raises(ValueError, match="every session"):
            end_sessions(managed, application_prefix="")

        assert is_alive(api)


@on_all_majors
def test_the_rows_of_copies_are_followed_and_finished_ones_kept(managed: Server, owner: Connection) -> None:
    tally = CopyTally()
    with named(managed, "loader") as loader:
        for table, begins in (("first", 0), ("second", 20_000)):
            loader.execute(f"CREATE TABLE {table} (id int)")
            with loader.cursor().copy(f"COPY {table} FROM STDIN") as copy:
                copy.write("".join(f"{number}\n" for number in range(50_000)))
                wait_until(lambda least=begins: tally.rows(owner) > least + 10_000)

        assert 20_000 < tally.rows(owner) <= 100_000


@on_all_majors
def test_about_as_many_rows_are_expected_as_there_are(managed: Server, owner: Connection) -> None:
    owner.execute("CREATE TABLE never_analyzed AS SELECT generate_series(1, 10)")

    assert expected_rows(owner) == 1337
