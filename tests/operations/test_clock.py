"""A clock that was set back: no name is given twice, the newest stays the newest, nothing waits for it."""

from __future__ import annotations

import os
import socket
import subprocess
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from backups_app import tasks
from backups_app.broker import AtMostOnceBroker
from backups_app.errors import Busy
from backups_app.models import Backup, Operation
from backups_app.operations import backup as backup_module
from backups_app.operations import copy_check, housekeeping, interruption
from backups_app.systems.vault import parse_name
from tests.operations.site import WHO, Site

DAY = timedelta(days=1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function: this machine's clock is so much behind, and moves on; PostgreSQL has its own."""
    behind = [timedelta()]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) - behind[0]

    monkeypatch.setattr(backup_module, "datetime", Clock)
    return lambda **by: behind.__setitem__(0, timedelta(**by))


def test_the_newest_stays_the_newest_when_the_clock_is_set_back(one_folder: Site, clock: Any) -> None:
    first = one_folder.backup()
    clock(hours=3)

    second = one_folder.backup()

    assert parse_name(second.name).moment < parse_name(first.name).moment
    assert second.created_at > first.created_at
    assert Backup.objects.first() == second


def test_the_drill_proves_no_backup_that_bears_a_time_in_the_future(one_folder: Site) -> None:
    now, ahead = one_folder.backup(), one_folder.backup()
    Backup.objects.filter(pk=ahead.pk).update(created_at=timezone.now() + DAY)

    assert tasks._request_drill(**WHO).backup == now


def test_a_second_that_comes_twice_gives_two_names(one_folder: Site, clock: Any) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    taken = [one_folder.backup() for _ in range(2)]
    clock(seconds=(datetime.now(UTC) - now).total_seconds())

    again = one_folder.backup()

    assert again.name not in {backup.name for backup in taken}
    assert len(list(one_folder.working.glob("*.sql"))) == 3


# --- what was written down while the clock was ahead -------------------------------------------------------


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function: so many seconds have passed, whatever the clock says."""
    passed = [1000.0]
    monkeypatch.setattr(interruption.time, "monotonic", lambda: passed[0])
    interruption._suspects.clear()
    return lambda seconds: passed.__setitem__(0, passed[0] + seconds)


def ahead(operation: Operation, *, host: str = "elsewhere", pid: int = 1, by: timedelta = DAY) -> Operation:
    """Claimed while the clock was ahead, and not heard of since."""
    claimed = Operation.objects.claim(operation.pk, host=host, pid=pid)
    assert claimed is not None
    Operation.objects.filter(pk=operation.pk).update(heartbeat_at=timezone.now() + by)
    return claimed


def gone_process() -> int:
    """The number of a process of this machine that has ended."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    return ended.pid


def state_of(operation: Operation) -> str:
    operation.refresh_from_db()
    return operation.state


def test_an_operation_whose_process_is_gone_is_closed_at_the_second_look(one_folder: Site) -> None:
    operation = ahead(tasks.request_backup(**WHO), host=socket.gethostname(), pid=gone_process())

    housekeeping.rescue()
    after_one = state_of(operation)
    housekeeping.rescue()

    assert (after_one, state_of(operation)) == ("running", "interrupted")
    assert one_folder.try_backup().state == "succeeded"


def test_an_operation_of_another_machine_is_closed_when_it_has_been_silent_for_long_enough(
    one_folder: Site, passing: Any
) -> None:
    operation = ahead(tasks.request_backup(**WHO))

    states = []
    for _ in range(11):
        housekeeping.rescue()
        states.append(state_of(operation))
        passing(10)

    assert states == ["running"] * 9 + ["interrupted"] * 2


def test_an_operation_that_lives_on_a_machine_whose_clock_is_ahead_is_left_alone(
    one_folder: Site, passing: Any
) -> None:
    operation = ahead(tasks.request_backup(**WHO))

    for look in range(30):
        Operation.objects.filter(pk=operation.pk).update(heartbeat_at=timezone.now() + DAY + look * DAY / 100)
        housekeeping.rescue()
        housekeeping.keep_house()
        passing(10)

    assert state_of(operation) == "running"


def test_one_whose_clock_is_set_right_again_while_it_is_looked_at_is_not_closed(one_folder: Site) -> None:
    operation = ahead(tasks.request_backup(**WHO))
    operation.refresh_from_db()
    Operation.objects.filter(pk=operation.pk).update(heartbeat_at=timezone.now())

    assert not operation.interrupt("It was silent.")
    assert state_of(operation) == "running"


def test_a_command_goes_on_where_no_worker_runs(one_folder: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "LOOK_AGAIN_SECONDS", 0.01)
    dead = ahead(tasks.request_backup(**WHO), host=socket.gethostname(), pid=gone_process())

    done = one_folder.attempt(tasks.request_validate_database(**WHO))

    assert (state_of(dead), done.state) == ("interrupted", "succeeded")


def test_a_command_does_not_end_what_lives(one_folder: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "LOOK_AGAIN_SECONDS", 0.01)
    living = ahead(tasks.request_backup(**WHO), host=socket.gethostname(), pid=os.getpid())

    with pytest.raises(Busy):
        tasks.run_here(tasks.request_validate_database(**WHO))

    assert state_of(living) == "running"


def test_what_waits_is_sent_again_and_given_up_in_time(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(tasks, "_dispatch", lambda operation: sent.append(operation.pk))
    then = timezone.now() + DAY
    never, once = (tasks.request_check_copies(only_pending=pending, by="x") for pending in (True, False))
    sent.clear()
    Operation.objects.update(created_at=then, expires_at=then + timedelta(hours=6))
    Operation.objects.filter(pk=once.pk).update(dispatched_at=then)

    tasks.keep_house()

    assert sorted(sent) == sorted([never.pk, once.pk])
    once.refresh_from_db()
    assert once.expires_at <= timezone.now() + timedelta(hours=6)
    assert once.created_at == then


def test_a_stop_of_the_api_does_not_wait_for_the_clock(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(tasks, "perform", lambda operation: done.append(operation.kind))
    operation = tasks.request("stop_api", by="x")
    Operation.objects.filter(pk=operation.pk).update(created_at=timezone.now() + DAY)

    tasks.run_urgent()

    assert done == ["stop_api"]


def test_the_next_try_to_start_the_api_does_not_wait_for_the_clock(one_folder: Site) -> None:
    operation = tasks.request_backup(**WHO)
    now = timezone.now()
    rows = Operation.objects.filter(pk=operation.pk)

    rows.update(api_stop_intended=True, api_retry_at=now + timedelta(minutes=1))
    is_held = not Operation.objects.take_api_start(operation.pk, now, until=now)
    rows.update(api_retry_at=now + DAY)

    assert is_held
    assert Operation.objects.take_api_start(operation.pk, now, until=now)
    assert not Operation.objects.take_api_start(operation.pk, now - timedelta(seconds=1), until=now)


def test_a_message_that_was_sent_while_the_clock_was_ahead_is_delivered_now(db: None) -> None:
    broker = AtMostOnceBroker("qradmin")
    OrmQ.objects.create(key=broker.list_key, payload="later", lock=timezone.now() + DAY)

    assert [payload for _, payload in broker.dequeue() or []] == ["later"]
    assert not OrmQ.objects.exists()


def test_a_copy_that_waits_is_tried_again(one_folder: Site) -> None:
    backup = one_folder.backup()
    backup.copies.update(state="pending", checked_at=timezone.now() + DAY)

    assert copy_check.is_retry_due(timezone.now())
