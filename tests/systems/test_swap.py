"""Databases change names in one step, under clients that never give up, or keep the names they have."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from backups_app.errors import ClaimLost, EnvironmentProblem, MissingPrivilege
from backups_app.systems.postgres import activity
from backups_app.systems.postgres import swap as swapping
from backups_app.systems.postgres.connections import Server
from backups_app.systems.postgres.databases import end_sessions, exists
from backups_app.systems.postgres.likeness import create_like
from backups_app.systems.postgres.swap import rename, swap
from deploy.demo import embedded
from tests.conftest import connect_as_superuser, databases_like, on_all_majors
from tests.patience import wait_until
from tests.systems.pg_tools import url

Connection = psycopg.Connection[Any]

LIVE, STAGED, REPLACED = "qrdb", "qrdb_staged", "qrdb_replaced"
SWAPPER = "qradmin-op-7"


@pytest.fixture
def staged(managed: Server) -> Server:
    """The live database and a staged one beside it, which a table tells apart."""
    create_like(managed, STAGED, live=LIVE)
    with psycopg.connect(url(managed, STAGED), autocommit=True) as connection:
        connection.execute("CREATE TABLE staged_mark (id int)")
    return managed


def swapped(server: Server, **more: Any) -> float:
    return swap(server, live=LIVE, staged=STAGED, replaced=REPLACED, **more)


def names(server: Server) -> list[str]:
    return databases_like(server, "^qrdb")


def is_staged_one(server: Server, name: str) -> bool:
    with psycopg.connect(url(server, name)) as connection:
        return connection.execute("SELECT to_regclass('staged_mark')").fetchone() != (None,)


@on_all_majors
def test_the_staged_database_becomes_the_live_one_for_an_owner_without_superuser(staged: Server) -> None:
    swapped(staged)

    assert names(staged) == [LIVE, REPLACED]
    assert is_staged_one(staged, LIVE)
    assert not is_staged_one(staged, REPLACED)


@on_all_majors
def test_a_swap_wins_against_clients_that_reconnect_at_once(staged: Server) -> None:
    with clients(staged, 6) as count, idle_clients(staged, 3):
        wait_until(lambda: count() >= 6)
        swapped(staged)
        before = count()
        wait_until(lambda: count() >= before and is_staged_one(staged, LIVE))

    assert is_staged_one(staged, LIVE)


@on_all_majors
def test_a_client_that_slips_in_is_ended_while_the_rename_waits(
    staged: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def let_somebody_in(*_: object) -> None:
        late.append(psycopg.connect(url(staged)))

    late: list[Connection] = []
    monkeypatch.setattr(swapping, "_end_and_wait", let_somebody_in)

    swapped(staged)

    assert is_staged_one(staged, LIVE)
    assert len(late) == 1
    late[0].close()


@on_all_majors
def test_a_swap_back_and_forth_brings_each_database_back(staged: Server) -> None:
    swapped(staged)
    swap(staged, live=LIVE, staged=REPLACED, replaced=STAGED)

    assert names(staged) == [LIVE, STAGED]
    assert is_staged_one(staged, STAGED)


@on_all_majors
def test_a_name_that_is_taken_leaves_every_name_as_it_was(staged: Server) -> None:
    create_like(staged, REPLACED, live=LIVE)

    with pytest.raises(EnvironmentProblem, match="already"):
        swapped(staged)

    assert names(staged) == [LIVE, REPLACED, STAGED]
    assert is_staged_one(staged, STAGED)


@on_all_majors
def test_a_missing_staged_database_leaves_the_live_one_its_name(managed: Server) -> None:
    with pytest.raises(EnvironmentProblem, match="no such database"):
        swapped(managed)

    assert names(managed) == [LIVE]


@on_all_majors
def test_a_staged_database_of_another_owner_leaves_the_live_one_its_name(
    staged: Server, superuser: Connection
) -> None:
    superuser.execute(f"ALTER DATABASE {STAGED} OWNER TO postgres")

    with pytest.raises(MissingPrivilege, match="own"):
        swapped(staged)

    assert names(staged) == [LIVE, STAGED]
    assert not exists(staged, REPLACED)


def test_a_swap_without_createdb_says_what_is_missing(staged: Server, superuser: Connection) -> None:
    superuser.execute("ALTER ROLE qr_owner NOCREATEDB")

    with pytest.raises(MissingPrivilege, match="CREATEDB"):
        swapped(staged)

    assert names(staged) == [LIVE, STAGED]


@on_all_majors
def test_a_connection_that_may_not_be_ended_stops_the_swap_and_is_named(
    staged: Server, postgres_server: embedded.EmbeddedServer
) -> None:
    with connect_as_superuser(postgres_server, LIVE) as holder:
        holder.execute("SET application_name = 'an old console'")
        with pytest.raises(EnvironmentProblem, match=r"in use by postgres \(an old console, PID \d+\)"):
            swapped(staged, patience_seconds=1)

    assert names(staged) == [LIVE, STAGED]


@on_all_majors
def test_a_swap_waits_for_a_connection_that_goes_by_itself(
    staged: Server, postgres_server: embedded.EmbeddedServer
) -> None:
    holder = connect_as_superuser(postgres_server, LIVE)
    timer = threading.Timer(1.5, holder.close)
    timer.start()

    swapped(staged)

    timer.join()
    assert is_staged_one(staged, LIVE)


@on_all_majors
def test_a_prepared_transaction_stops_the_swap(staged: Server, owner: Connection) -> None:
    with psycopg.connect(url(staged)) as connection:
        connection.execute("CREATE TABLE passing (id int)")
        connection.execute("PREPARE TRANSACTION 'left behind'")

        with pytest.raises(EnvironmentProblem, match="the prepared transaction 'left behind' holds it"):
            swapped(staged, patience_seconds=0.5)

    assert names(staged) == [LIVE, STAGED]


def test_several_prepared_transactions_are_all_named(staged: Server) -> None:
    for name in ("first", "second"):
        with psycopg.connect(url(staged)) as connection:
            connection.execute(sql.SQL("CREATE TABLE {} (id int)").format(sql.Identifier(name)))
            connection.execute(sql.SQL("PREPARE TRANSACTION {}").format(sql.Literal(name)))

    with pytest.raises(EnvironmentProblem, match="prepared transactions hold it: 'first', 'second'"):
        swapped(staged, patience_seconds=0.5)

    assert names(staged) == [LIVE, STAGED]


def test_a_user_who_has_just_left_is_not_named(
    staged: Server, postgres_server: embedded.EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "describe_sessions", lambda *_: "")

    with (
        connect_as_superuser(postgres_server, LIVE),
        pytest.raises(EnvironmentProblem, match=r"though nobody is connected now\. Try again\."),
    ):
        swapped(staged, patience_seconds=0.5)


def test_a_transaction_of_the_application_is_rolled_back_by_the_swap(staged: Server) -> None:
    connection = psycopg.connect(url(staged))
    connection.execute("DELETE FROM scan_logs")

    swapped(staged)

    with pytest.raises(psycopg.OperationalError):
        connection.commit()
    with psycopg.connect(url(staged, REPLACED)) as replaced:
        assert replaced.execute("SELECT count(*) FROM scan_logs").fetchone() == (1002,)


def test_a_commit_whose_answer_is_lost_counts_as_done(
    staged: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = psycopg.Connection.transaction

    @contextmanager
    def cut_after_commit(connection: Connection) -> Iterator[None]:
        with real(connection):
            yield
        connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(psycopg.Connection, "transaction", cut_after_commit)

    swapped(staged)

    assert is_staged_one(staged, LIVE)


def test_a_connection_that_is_lost_before_the_commit_leaves_every_name(
    staged: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def cut_before_commit(connection: Connection) -> Iterator[None]:
        connection.execute("BEGIN")
        yield
        connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(psycopg.Connection, "transaction", cut_before_commit)

    with pytest.raises(EnvironmentProblem, match="every name is as it was"):
        swapped(staged)

    assert names(staged) == [LIVE, STAGED]


@on_all_majors
def test_names_with_quotes_spaces_and_capitals_are_renamed(staged: Server) -> None:
    odd = 'Odd "name" with.dot; --'

    rename(staged, STAGED, odd)

    assert exists(staged, odd)
    assert names(staged) == [LIVE]
    assert is_staged_one(staged, odd.replace(" ", "%20"))


def test_a_name_that_postgresql_would_cut_short_is_refused(staged: Server) -> None:
    with pytest.raises(EnvironmentProblem, match="63 bytes"):
        rename(staged, STAGED, "x" * 64)

    assert names(staged) == [LIVE, STAGED]


def test_the_ending_from_beside_stops_with_the_swap(staged: Server) -> None:
    swapped(staged)

    assert not [thread for thread in threading.enumerate() if thread.name == "end-sessions"]


@on_all_majors
def test_a_frozen_swap_whose_sessions_are_ended_leaves_every_name(staged: Server) -> None:
    def housekeeping() -> None:
        assert end_sessions(staged, application_prefix=SWAPPER) == 2

    with pytest.raises(EnvironmentProblem, match="every name is as it was"):
        swapped(staged, application_name=SWAPPER, before_commit=housekeeping)

    assert names(staged) == [LIVE, STAGED]
    assert is_staged_one(staged, STAGED)


@on_all_majors
def test_a_frozen_swap_is_ended_by_postgresql_itself(staged: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swapping, "FROZEN_SECONDS", 0.2)

    with pytest.raises(EnvironmentProblem, match="every name is as it was"):
        swapped(staged, before_commit=lambda: time.sleep(1))

    assert names(staged) == [LIVE, STAGED]
    assert is_staged_one(staged, STAGED)


def test_a_swap_that_nobody_wants_any_more_leaves_every_name(staged: Server) -> None:
    def give_up() -> None:
        raise ClaimLost("given up")

    with pytest.raises(ClaimLost):
        swapped(staged, before_commit=give_up)

    assert names(staged) == [LIVE, STAGED]


@contextmanager
def clients(server: Server, number: int) -> Iterator[Callable[[], int]]:
    """Clients that stay until they are ended and come back at once; yields how often they got in."""
    is_over = threading.Event()
    open_ones: dict[int, Connection] = {}
    counts = [0] * number

    def knock(index: int) -> None:
        while not is_over.is_set():
            try:
                with psycopg.connect(url(server), connect_timeout=20) as connection:
                    open_ones[index] = connection
                    counts[index] += 1
                    connection.execute("SELECT pg_sleep(30)")
            except psycopg.Error:
                continue

    threads = [threading.Thread(target=knock, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: sum(counts)
    finally:
        is_over.set()
        for thread in threads:
            while thread.is_alive():
                for connection in list(open_ones.values()):
                    connection.cancel_safe()
                thread.join(0.1)


@contextmanager
def idle_clients(server: Server, number: int) -> Iterator[None]:
    """Clients of the live database that hold a transaction open."""
    connections = [psycopg.connect(url(server)) for _ in range(number)]
    for connection in connections:
        connection.execute("SELECT count(*) FROM qr_codes")
    try:
        yield
    finally:
        for connection in connections:
            connection.close()
