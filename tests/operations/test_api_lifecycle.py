"""The API around operations: whoever stopped it starts it, and a wish by hand stands above that."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from backups_app import tasks
from backups_app.models import Backup, Operation
from backups_app.operations import api as lifecycle
from backups_app.operations import api_debts, housekeeping, interruption, restore
from backups_app.operations import backup as backups
from backups_app.operations.journal import Journal
from tests.operations.fake_api import FakeApi
from tests.operations.site import WHO, Site


def owed(site: Site, **changes: Any) -> Operation:
    """An operation that ended while it owed the API a start, which it had stopped ten seconds ago."""
    operation = site.validate_database()
    stopped = timezone.now() - timedelta(seconds=10)
    Operation.objects.filter(pk=operation.pk).update(
        api_stop_intended=True, api_stopped_at=stopped, **changes
    )
    return operation


def lines(operation: Operation) -> list[str]:
    return list(operation.steps.values_list("what", flat=True))


def test_the_api_waits_for_no_other_location(site: Site, api: FakeApi) -> None:
    operation = site.attempt(tasks.request_backup(stop_api=True, **WHO))

    told = lines(operation)
    assert operation.state == "succeeded", operation.error
    assert told.index("Start the API and wait until it is healthy") < told.index("Copy to second")


def stop_by_hand() -> None:
    done = tasks.run_here(tasks.request_api_stop(reason="emergency", **WHO))
    assert done.state == "succeeded", done.error


def test_the_commands_stop_the_api_and_run_the_migrations_when_asked(
    one_folder: Site, api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("backup", "--api-stop", "--json")
    taken = json.loads(capsys.readouterr().out)
    during_backup = list(api.calls)
    call_command("restore", taken["backup"], "--reason", "test", "--yes", "--migrate", "--json")
    restored = json.loads(capsys.readouterr().out)

    assert (taken["state"], restored["state"]) == ("succeeded", "succeeded"), (taken, restored)
    assert during_backup == ["stop", "start"]
    assert Backup.objects.get(name=taken["backup"]).is_api_stopped
    assert api.calls[2:] == ["stop", "start", "alembic upgrade head"]


def test_migrations_that_outlive_their_worker_are_told_and_waited_for(one_folder: Site, api: FakeApi) -> None:
    """What `docker exec` began goes on in the container when its client is killed."""
    backup = one_folder.backup()
    operation = tasks.request_migrate_database(reason="an upgrade", **WHO)
    claimed = Operation.objects.claim(operation.pk, host="elsewhere", pid=1)
    assert claimed is not None
    api.programs.add("abc123")
    Journal(claimed).will_leave(lifecycle.PROGRAM, "abc123")
    Operation.objects.filter(pk=operation.pk).update(heartbeat_at=timezone.now() - timedelta(minutes=3))

    housekeeping.keep_house()
    held_up = [
        one_folder.attempt(tasks.request_migrate_database(reason="again", **WHO)),
        one_folder.restore(backup),
    ]
    api.programs.clear()
    housekeeping.keep_house()
    done = one_folder.attempt(tasks.request_migrate_database(reason="again", **WHO))

    operation.refresh_from_db()
    ended = "The migrations no longer run in the API's container: validate the database."
    assert "may still run in the API's container" in operation.error
    assert [one.error.partition(": ")[0] for one in held_up] == [
        f"The migrations of {operation}, which ended early, still run in the API's container"
    ] * 2
    assert (lines(operation).count(ended), operation.leftovers) == (1, [])
    assert (done.state, done.leftovers, api.calls) == ("succeeded", [], ["alembic upgrade head"])


def test_a_stop_by_hand_while_the_api_comes_up_is_no_verdict_on_the_restored_database(
    one_folder: Site, api: FakeApi
) -> None:
    backup = one_folder.backup()
    wanted = one_folder.rows()
    one_folder.execute("UPDATE qr_codes SET title = 'damaged'")
    api.meanwhile = stop_by_hand

    operation = one_folder.restore(backup)

    assert operation.state == "succeeded", operation.error
    assert one_folder.event().outcome == "restored"
    assert one_folder.rows() == wanted
    assert "The API stays stopped, as was asked by hand meanwhile." in lines(operation)
    assert (api.calls, api.is_running) == (["stop", "start", "stop"], False)


def test_a_stop_by_hand_does_not_wait_for_busy_workers(one_folder: Site, api: FakeApi) -> None:
    Operation.objects.claim(tasks.request_backup(**WHO).pk, host="elsewhere", pid=1)
    stop = tasks.request_api_stop(reason="emergency", by="itstaff")

    tasks.run_urgent()
    at_once = api.is_running
    Operation.objects.filter(pk=stop.pk).update(created_at=timezone.now() - timedelta(seconds=3))
    tasks.run_urgent()
    tasks.run_urgent()

    stop.refresh_from_db()
    assert at_once, "a free worker comes first"
    assert (stop.state, stop.attempts) == ("succeeded", 1)
    assert api.calls == ["stop"]


def test_a_stop_by_hand_during_the_check_of_the_database_holds(
    one_folder: Site, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = owed(one_folder)
    real = lifecycle.check_structure
    asked: list[None] = []

    def then_stopped(*arguments: Any, **options: Any) -> Any:
        checks = real(*arguments, **options)
        if not asked:
            asked.append(None)
            stop_by_hand()
        return checks

    monkeypatch.setattr(lifecycle, "check_structure", then_stopped)
    api.is_running = False
    api_debts.start_the_api_again()

    assert asked
    assert "start" not in api.calls
    assert lines(operation)[-1] == "The API stays stopped, as was asked by hand meanwhile."


def test_an_api_that_something_starts_before_the_swap_is_stopped_again(
    one_folder: Site, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = one_folder.backup()
    real, seen = lifecycle.stop_for, []

    def then_started(*arguments: Any) -> bool:
        done = real(*arguments)
        api.start()
        return done

    def swap(*arguments: Any, **options: Any) -> float:
        seen.append(api.is_running)
        return real_swap(*arguments, **options)

    real_swap = restore.swap.swap
    monkeypatch.setattr(lifecycle, "stop_for", then_started)
    monkeypatch.setattr(restore.swap, "swap", swap)

    operation = one_folder.restore(backup)

    assert operation.state == "succeeded", operation.error
    assert seen == [False]
    assert "The API was started by something else meanwhile: it is stopped again." in lines(operation)


@pytest.mark.parametrize("is_started", [False, True])
def test_a_backup_during_which_something_started_the_api_does_not_claim_that_it_was_stopped(
    one_folder: Site, api: FakeApi, monkeypatch: pytest.MonkeyPatch, is_started: bool
) -> None:
    real = backups._dump

    def then_started(*arguments: Any) -> Any:
        taken = real(*arguments)
        if is_started:
            api.start()
        return taken

    monkeypatch.setattr(backups, "_dump", then_started)

    operation = one_folder.attempt(tasks.request_backup(stop_api=True, **WHO))

    backup = Backup.objects.get()
    assert operation.state == "succeeded", operation.error
    assert backup.is_api_stopped is not is_started
    told = [
        line for line in operation.result["warnings"] if line.startswith("The API was started by something")
    ]
    assert bool(told) is is_started
    assert (
        f'"is_api_stopped": {str(not is_started).lower()}'
        in (one_folder.working / f"{backup.name}.json").read_text()
    )


def test_housekeeping_writes_down_for_how_long_the_api_was_down(one_folder: Site, api: FakeApi) -> None:
    operation = owed(one_folder)
    api.is_running, api.serving_seconds = False, 4.0

    api_debts.start_the_api_again()

    operation.refresh_from_db()
    assert api.is_running
    assert not operation.api_stop_intended
    assert 6 <= operation.result["downtime_seconds"] < 9


def test_the_time_in_which_it_served_already_does_not_count_as_down(one_folder: Site, api: FakeApi) -> None:
    backup = one_folder.backup()
    api.meanwhile = lambda: lifecycle.time.sleep(1)
    api.serving_seconds = 0.9

    operation = one_folder.restore(backup)

    down = one_folder.event().downtime_seconds
    assert operation.state == "succeeded", operation.error
    assert down is not None
    assert down >= 0.1
    stopped = operation.steps.get(what="Stop the API").at
    healthy = operation.steps.get(what="The API is healthy.").at
    assert down < (healthy - stopped).total_seconds() - 0.5


def test_an_api_that_does_not_get_well_is_tried_once_a_minute_by_one_worker_alone(
    one_folder: Site, api: FakeApi
) -> None:
    operation = owed(one_folder)
    api.is_running, api.sick_starts = False, 9
    api.meanwhile = api_debts.start_the_api_again  # another worker, while this one waits

    api_debts.start_the_api_again()
    api_debts.start_the_api_again()
    at_once = api.calls.count("start")
    Operation.objects.update(api_retry_at=timezone.now())
    api_debts.start_the_api_again()

    operation.refresh_from_db()
    assert (at_once, api.calls.count("start")) == (1, 2)
    assert operation.api_stop_intended
    assert operation.api_retry_at is not None
    assert operation.api_retry_at > timezone.now() + timedelta(seconds=50)


def test_a_try_of_a_worker_that_died_is_taken_over(one_folder: Site, api: FakeApi) -> None:
    owed(one_folder, api_retry_at=timezone.now() + timedelta(seconds=30))
    api.is_running = False

    api_debts.start_the_api_again()
    still_held = api.is_running
    Operation.objects.update(api_retry_at=timezone.now() - timedelta(seconds=1))
    api_debts.start_the_api_again()

    assert (still_held, api.is_running) == (False, True)


def test_the_queue_never_waits_for_an_api_that_does_not_get_well(one_folder: Site, api: FakeApi) -> None:
    owed(one_folder)
    api.is_running = False

    tasks.keep_house()

    assert api.calls == []


def die_after_the_swap(site: Site, backup: Backup, monkeypatch: pytest.MonkeyPatch) -> Operation:
    """The worker is killed while it waits for the API on the restored database."""

    def die(*_: Any, **__: Any) -> None:
        raise RuntimeError("dead")

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "close", die)
        patched.setattr(lifecycle, "start_validated", die)
        patched.setattr(lifecycle, "bring_back", lambda *_: None)
        with pytest.raises(RuntimeError):
            site.restore(backup)
    Operation.objects.running().update(state="interrupted", finished_at=timezone.now())
    housekeeping.keep_house()
    return Operation.objects.filter(kind="restore").latest("pk")


@pytest.mark.parametrize(("sick_starts", "outcome"), [(0, "restored"), (1, "rolled_back")])
def test_a_restore_whose_worker_died_after_the_swap_is_rolled_back_when_the_api_does_not_get_well(
    one_folder: Site, api: FakeApi, monkeypatch: pytest.MonkeyPatch, sick_starts: int, outcome: str
) -> None:
    backup = one_folder.backup()
    wanted = one_folder.rows()
    one_folder.execute("UPDATE qr_codes SET title = 'newer'")
    before = one_folder.rows()
    operation = die_after_the_swap(one_folder, backup, monkeypatch)
    assert one_folder.event().outcome == "restored"
    assert one_folder.rows() == wanted
    api.sick_starts = sick_starts

    api_debts.start_the_api_again()
    housekeeping.keep_house()

    operation.refresh_from_db()
    assert one_folder.event().outcome == outcome
    assert one_folder.rows() == (wanted if outcome == "restored" else before)
    assert api.is_running
    assert not operation.api_stop_intended
    assert operation.leftovers == []
    assert len(one_folder.databases()) == (2 if outcome == "restored" else 1)


def test_nothing_is_swapped_back_beside_another_operation(
    one_folder: Site, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = one_folder.backup()
    operation = die_after_the_swap(one_folder, backup, monkeypatch)
    Operation.objects.claim(tasks.request_backup(**WHO).pk, host="elsewhere", pid=1)
    api.sick_starts = 9

    api_debts.start_the_api_again()

    operation.refresh_from_db()
    assert one_folder.event().outcome == "restored"
    assert operation.api_stop_intended


def test_an_undo_to_a_database_that_is_not_sound_is_refused_before_the_api_is_stopped(
    one_folder: Site, api: FakeApi
) -> None:
    one_folder.restore(one_folder.backup())
    event = one_folder.event()
    with one_folder.connected(event.replaced_database) as connection:
        connection.execute("DROP TABLE qr_codes CASCADE")
    api.calls.clear()

    operation = one_folder.undo(event)

    assert operation.state == "failed"
    assert operation.error.startswith("The replaced database is no sound database.")
    assert "The live database was not touched." in operation.error
    assert api.calls == []


def test_the_revision_after_is_what_the_database_has_when_the_api_has_come_up(
    one_folder: Site, api: FakeApi
) -> None:
    """The API runs pending migrations when it starts."""
    one_folder.execute("UPDATE alembic_version SET version_num = 'd59b26b7dd93'")
    backup = one_folder.backup()
    api.meanwhile = lambda: one_folder.execute("UPDATE alembic_version SET version_num = '8d13a4dfeb1d'")

    operation = one_folder.restore(backup)

    assert operation.state == "succeeded", operation.error
    assert one_folder.event().revision_after == "8d13a4dfeb1d"
    assert operation.result["revision"][1] == "8d13a4dfeb1d"


def test_an_operation_that_is_silent_wherever_it_ran_is_given_up_between_two_housekeepings(
    one_folder: Site, api: FakeApi
) -> None:
    operation = tasks.request_backup(stop_api=True, **WHO)
    Operation.objects.claim(operation.pk, host="elsewhere", pid=1)
    silent = timezone.now() - timedelta(seconds=91)
    Operation.objects.filter(pk=operation.pk).update(heartbeat_at=silent)

    housekeeping.rescue()
    operation.refresh_from_db()
    after_one_look = operation.state
    housekeeping.rescue()
    operation.refresh_from_db()

    assert (after_one_look, operation.state) == ("running", "interrupted")
    assert lines(operation)[-1] == interruption.NO_SIGN_OF_LIFE


def test_a_production_safe_backup_is_not_taken_for_a_quick_one_that_runs(
    one_folder: Site, api: FakeApi
) -> None:
    quick = tasks.request_backup(**WHO)

    safe, again = (tasks.request_backup(stop_api=True, **WHO) for _ in range(2))

    assert safe.pk == again.pk != quick.pk
    assert (quick.parameters, safe.parameters) == ({"stop_api": False}, {"stop_api": True})


def test_a_start_by_hand_that_has_begun_cannot_be_cancelled(one_folder: Site, api: FakeApi) -> None:
    api.is_running = False
    operation = tasks.request_api_start(reason="x", **WHO)

    tasks.run_here(operation)

    operation.refresh_from_db()
    assert (operation.state, operation.is_past_cancelling) == ("succeeded", True)
