"""What is asked for at one moment by several, and what a command does where it finds the database busy."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.db.models import F
from django.utils import timezone

from backups_app import tasks
from backups_app.errors import Busy
from backups_app.models import Operation, RestoreEvent
from backups_app.models.operation import UNSTARTED_FOR, OperationQuerySet
from backups_app.operations import retention
from tests.operations.site import WHO, Site


def test_a_command_that_finds_the_database_busy_cancels_only_what_it_asked_for_itself(
    one_folder: Site,
) -> None:
    backup = one_folder.backup()
    scheduled = tasks.request_backup(by="schedule", source="schedule", dedupe_key="backup:2026-01-01")
    Operation.objects.claim(tasks.request_validate_database(**WHO).pk, host="elsewhere", pid=1)
    own = tasks.request_prove_backup(backup, **WHO)

    with pytest.raises(Busy):
        tasks.run_here(tasks.request_backup(**WHO))
    with pytest.raises(Busy):
        tasks.run_here(own)

    scheduled.refresh_from_db()
    own.refresh_from_db()
    assert (scheduled.state, own.state) == ("queued", "cancelled")


@pytest.mark.parametrize("key", list(tasks._SCHEDULED))
def test_what_a_schedule_asks_for_does_not_go_with_a_person_s_when_that_is_cancelled(
    one_folder: Site, key: str
) -> None:
    one_folder.backup()
    manual = tasks._SCHEDULED[key](by="itstaff")

    tasks.request_scheduled(key, "2026-05-25T04:00:00+00:00")
    assert manual.request_cancel("itstaff")

    own = Operation.objects.get(dedupe_key__startswith=f"{key}:2026-05-25")
    assert (own.kind, own.state, own.requested_by_name) == (key, "queued", "schedule")
    assert own.pk != manual.pk


def test_what_a_schedule_asks_for_is_asked_for_once_beside_a_person_s(one_folder: Site) -> None:
    tasks.request_backup(by="itstaff")

    asked = {tasks.request_scheduled("backup", "2026-05-25T04:00:00+00:00") for _ in range(3)}

    assert len(asked) == 1
    assert Operation.objects.filter(kind="backup").count() == 2


def test_a_click_finds_the_scheduled_one_that_waits_and_the_next_hour_finds_the_one_before(
    one_folder: Site,
) -> None:
    tasks.request_scheduled("validate_database", "2026-05-25T04:07:00+00:00")
    scheduled = Operation.objects.get()

    clicked = tasks.request_validate_database(by="itstaff")
    tasks.request_scheduled("validate_database", "2026-05-25T05:07:00+00:00")

    assert clicked == scheduled
    assert Operation.objects.count() == 1


def test_a_command_goes_on_where_another_one_was_killed_and_no_worker_runs(one_folder: Site) -> None:
    dead = tasks.request_backup(**WHO)
    Operation.objects.claim(dead.pk, host="elsewhere", pid=1)
    Operation.objects.filter(pk=dead.pk).update(heartbeat_at=timezone.now() - timedelta(days=3))

    done = tasks.run_here(tasks.request_validate_database(**WHO))

    dead.refresh_from_db()
    assert (dead.state, done.state) == ("interrupted", "succeeded")


@pytest.mark.parametrize("error", [OperationalError("database is locked"), KeyboardInterrupt()])
def test_what_a_command_could_not_start_is_never_started(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    own = tasks.request_validate_database(**WHO)
    with monkeypatch.context() as patched:
        patched.setattr(OperationQuerySet, "claim", fail)
        with pytest.raises(type(error)):
            tasks.run_here(own)

    own.refresh_from_db()
    assert own.state == "cancelled"
    assert tasks.run(own.pk) == "was already started, or is no longer wanted"


def test_what_a_command_was_killed_before_is_done_by_no_worker(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Operation] = []
    monkeypatch.setattr(tasks, "_dispatch", sent.append)
    rows = [tasks.request_validate_database(**WHO), tasks.request("stop_api", **WHO)]
    asked_at = timezone.now() - UNSTARTED_FOR + timedelta(seconds=10)
    Operation.objects.update(created_at=asked_at, expires_at=asked_at + UNSTARTED_FOR)

    tasks.dispatch_next()
    tasks.dispatch_waiting(unsent_since=timedelta(seconds=5))
    tasks.run_urgent()
    Operation.objects.update(expires_at=F("expires_at") - UNSTARTED_FOR)
    tasks.keep_house()

    assert sent == []
    assert [Operation.objects.get(pk=row.pk).state for row in rows] == ["expired", "expired"]
    assert all(row.expires_at - row.created_at == UNSTARTED_FOR for row in rows)


def test_what_a_command_was_killed_before_holds_up_no_later_one_where_no_worker_runs(
    one_folder: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = tasks.request_validate_database(**WHO)
    Operation.objects.update(expires_at=timezone.now())

    call_command("validate_database", "--json")

    killed.refresh_from_db()
    done = json.loads(capsys.readouterr().out)
    assert (killed.state, done["state"]) == ("expired", "succeeded")


def test_another_restore_asked_for_at_the_same_moment_is_not_given_out_as_one_s_own(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = one_folder.backup(), one_folder.backup()
    tasks.request_restore(first, reason="mine", **WHO)
    monkeypatch.setattr(OperationQuerySet, "active", lambda self: self.none())

    with pytest.raises(Busy, match="asked for at the same moment"):
        tasks.request_restore(second, reason="theirs", **WHO)


def test_a_backup_of_the_first_revision_can_be_restored(one_folder: Site) -> None:
    """There were no short ids yet, and no scans."""
    one_folder.execute("DROP INDEX ix_qr_codes_short_id")
    one_folder.execute("ALTER TABLE qr_codes DROP COLUMN short_id")
    one_folder.execute("UPDATE alembic_version SET version_num = '17f4914834ef'")
    backup = one_folder.backup()
    before = one_folder.rows()

    assert one_folder.validate_database().state == "succeeded"
    assert one_folder.restore(backup).state == "succeeded"
    assert one_folder.rows() == before


def test_a_fault_that_the_backup_has_too_is_told_and_does_not_keep_it_from_being_restored(
    one_folder: Site,
) -> None:
    one_folder.execute("ALTER TABLE qr_codes ADD CONSTRAINT few CHECK (scan_count < 0) NOT VALID")
    backup = one_folder.backup()

    operation = one_folder.restore(backup)

    assert operation.state == "succeeded", operation.error
    assert operation.steps.filter(what__startswith="Unvalidated constraints", level="error").exists()


def test_the_safety_backup_of_a_restore_that_was_undone_is_needed_no_longer(one_folder: Site) -> None:
    one_folder.restore(one_folder.backup())
    event = one_folder.event()
    assert event.safety_backup_id in retention._in_use()

    one_folder.undo(event)

    undone = RestoreEvent.objects.get(pk=event.pk)
    assert undone.outcome == "undone"
    assert undone.safety_backup_id not in retention._in_use()
