"""What dead workers leave is found, told once and cleaned up; nothing is started again."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError
from django.utils import timezone

from backups_app import tasks
from backups_app.models import Backup, Operation, RestoreEvent
from backups_app.operations import aftermath, housekeeping, interruption, leftovers
from backups_app.operations.journal import Journal
from backups_app.systems import vault
from backups_app.systems.postgres import swap
from backups_app.systems.waiting import Watch
from tests.operations.site import WHO, Site

TOLD = interruption.NO_SIGN_OF_LIFE


def dead(operation: Operation, **changes: Any) -> Operation:
    """Claimed by a worker that has not been heard of for three minutes."""
    claimed = Operation.objects.claim(operation.pk, host="elsewhere", pid=1)
    assert claimed is not None
    long_ago = timezone.now() - timedelta(minutes=3)
    Operation.objects.filter(pk=operation.pk).update(heartbeat_at=long_ago, **changes)
    return claimed


def aged(path: Path, hours: int) -> None:
    """Nobody has written to it for so long."""
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))


def test_a_silent_operation_is_interrupted_once_and_never_started_again(one_folder: Site) -> None:
    operation = dead(tasks.request_backup(**WHO))

    housekeeping.keep_house()
    housekeeping.keep_house()

    operation.refresh_from_db()
    assert operation.state == "interrupted"
    assert operation.error.startswith("Its worker stopped without a word")
    assert operation.error.endswith("The live database was not touched.")
    assert operation.steps.filter(what=TOLD).count() == 1
    assert Operation.objects.claim(operation.pk, host="here", pid=2) is None
    assert tasks.run(operation.pk) == "was already started, or is no longer wanted"


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("migrate_database", "The migrations may have changed the live database: validate it before"),
        ("end_sessions", "Some of the chosen sessions may have been ended"),
        ("prune", "What was removed before stands in the trail"),
        ("stop_api", "Whether the API runs is shown on the overview; nobody starts it by himself now."),
        ("start_api", "Whether the API runs is shown on the overview."),
    ],
)
def test_an_interrupted_operation_says_what_it_may_have_done(one_folder: Site, kind: str, told: str) -> None:
    operation = dead(tasks.request(kind, **WHO))

    interruption.close_dead_operations()

    operation.refresh_from_db()
    assert operation.state == "interrupted"
    assert told in operation.error
    assert ("The live database was not touched." in operation.error) == (kind == "prune")


def test_what_is_noted_after_the_end_of_an_operation_holds_no_password(one_folder: Site) -> None:
    operation = dead(tasks.request_backup(**WHO))
    secret = one_folder.server.password

    aftermath.Aftermath(operation).note(f"Said {secret}.", log=f"postgresql://a:{secret}@db/qrdb")

    step = operation.steps.get()
    assert secret not in f"{step.what} {step.detail}"
    assert step.what == "Said ***."


def test_a_living_operation_is_left_alone(one_folder: Site) -> None:
    operation = tasks.request_backup(**WHO)
    Operation.objects.claim(operation.pk, host="elsewhere", pid=1)

    housekeeping.keep_house()

    operation.refresh_from_db()
    assert operation.state == "running"


def test_what_waited_too_long_is_given_up(one_folder: Site) -> None:
    operation = tasks.request_backup(**WHO)
    Operation.objects.filter(pk=operation.pk).update(expires_at=timezone.now())

    housekeeping.keep_house()

    operation.refresh_from_db()
    assert operation.state == "expired"
    assert "Nothing was touched." in operation.error


def test_the_sessions_and_the_staging_database_of_a_dead_worker_go(one_folder: Site) -> None:
    import psycopg

    from tests.conftest import url_of

    with one_folder.connected("postgres") as connection:
        connection.execute("CREATE DATABASE qrdb_staging_1_abc")
    operation = dead(
        tasks.request_prove_backup(one_folder.backup(), **WHO),
        leftovers=[{"what": "database", "name": "qrdb_staging_1_abc", "is_drill": True}],
    )
    orphan = psycopg.connect(
        url_of(one_folder.server.at("qrdb_staging_1_abc")), application_name=operation.application_name
    )

    housekeeping.keep_house()

    operation.refresh_from_db()
    assert one_folder.databases() == {"qrdb"}
    assert operation.leftovers == []
    assert operation.steps.filter(what="Cleaned up: database qrdb_staging_1_abc.").count() == 1
    with pytest.raises(psycopg.OperationalError):
        orphan.execute("SELECT 1")
    orphan.close()


def test_the_half_file_of_a_dead_backup_goes_and_a_recorded_one_stays(one_folder: Site) -> None:
    backup = one_folder.backup()
    half = one_folder.working / ".qrdb_20250525_143023.sql.part"
    half.write_text("half")
    unrecorded = one_folder.working / "qrdb_20250525_143023.sql"
    unrecorded.write_text("named, but its record was never written")
    leftovers = [
        {"what": "file", "name": name, "location": "working"} for name in (unrecorded.name, backup.name)
    ]
    dead(tasks.request_backup(**WHO), leftovers=leftovers)

    housekeeping.keep_house()

    assert one_folder.files() == {backup.name, f"{backup.name}.json"}


def test_a_recorded_backup_stays_while_something_else_runs(one_folder: Site) -> None:
    backup = one_folder.backup()
    left = [{"what": "file", "name": backup.name, "location": "working"}]
    Operation.objects.filter(pk=backup.operation_id).update(leftovers=left)
    Operation.objects.claim(tasks.request_backup(**WHO).pk, host="elsewhere", pid=1)

    housekeeping.keep_house()

    assert one_folder.files() == {backup.name, f"{backup.name}.json"}


@pytest.mark.parametrize(("hours", "stays"), [(1, True), (25, False)])
def test_what_may_be_another_sites_unfinished_work_goes_after_a_day_alone(
    one_folder: Site, hours: int, stays: bool
) -> None:
    ours = one_folder.working / f".{one_folder.backup().name}.0123abcd.part"
    theirs = one_folder.working / ".qrdb_20250525_143022.sql.part"
    for path in (ours, theirs):
        path.write_text("half")
        aged(path, hours)

    housekeeping.keep_house()

    assert (ours.exists(), theirs.exists()) == (False, stays)
    theirs.unlink(missing_ok=True)


def test_a_copy_on_its_way_is_never_swept_however_late_it_was_begun(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is slow: an operation begins while it is being swept."""
    ours = one_folder.working / f".{one_folder.backup().name}.0123abcd.part"
    ours.write_text("half")
    aged(ours, 25)
    whole = vault.LocalLocation.sweep_temporary

    def slowly(self: vault.LocalLocation, *args: Any, **options: Any) -> list[str]:
        if not Operation.objects.active().exists():
            Operation.objects.claim(tasks.request_backup(**WHO).pk, host="elsewhere", pid=1)
        return whole(self, *args, **options)

    monkeypatch.setattr(vault.LocalLocation, "sweep_temporary", slowly)

    leftovers.sweep_temporary_files()

    assert ours.exists()
    ours.unlink()


def test_a_location_that_does_not_answer_is_swept_again_later_only(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = one_folder.working / f".{one_folder.backup().name}.0123abcd.part"
    ours.write_text("half")
    aged(ours, 25)
    one_folder.working.rename(one_folder.working.with_name("away"))
    leftovers.sweep_temporary_files()
    one_folder.working.with_name("away").rename(one_folder.working)

    leftovers.sweep_temporary_files()
    assert ours.exists()
    monkeypatch.setattr(leftovers, "_left_alone_until", {"working": 0.0})
    leftovers.sweep_temporary_files()
    assert not ours.exists()


def test_what_a_killed_fetch_left_goes_with_its_operation_and_else_after_a_day(one_folder: Site) -> None:
    def fetched(hours: int) -> Path:
        folder = vault.scratch_path(one_folder.working)
        vault.make_scratch(folder)
        (folder / "a_20250525_143022.sql").write_text("fetched")
        for path in (folder / "a_20250525_143022.sql", folder):
            aged(path, hours)
        return folder

    recorded, fresh, old = fetched(0), fetched(1), fetched(25)
    foreign = one_folder.working / "qradmin-scratch-theirs"
    foreign.mkdir()
    aged(foreign, 25)
    linked = vault.scratch_path(one_folder.working)
    linked.symlink_to(foreign)
    dead(tasks.request_backup(**WHO), leftovers=[{"what": "folder", "name": str(recorded)}])

    housekeeping.keep_house()

    left = sorted(path for path in (recorded, fresh, old, foreign, linked) if path.exists())
    assert left == sorted([fresh, foreign, linked])
    vault.remove_scratch(fresh)
    linked.unlink()
    foreign.rmdir()


def test_a_file_of_no_backup_is_never_removed(one_folder: Site) -> None:
    foreign = [one_folder.working / name for name in ("notes.txt", ".hidden.part", "a_20250525_143022.sql")]
    for path in foreign:
        path.write_text("somebody's")
        os.utime(path, (0, 0))

    housekeeping.keep_house()

    assert all(path.exists() for path in foreign)
    for path in foreign:
        path.unlink()


def test_one_duty_that_fails_does_not_keep_the_others_from_being_done(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = dead(tasks.request_backup(**WHO))
    real = housekeeping._do

    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(interruption, "end_sessions", lambda _: real(fail))

    housekeeping.keep_house()

    operation.refresh_from_db()
    assert operation.state == "interrupted"


def test_a_server_that_is_away_delays_the_cleaning_up(one_folder: Site, settings: Any) -> None:
    with one_folder.connected("postgres") as connection:
        connection.execute("CREATE DATABASE qrdb_staging_1_abc")
    operation = dead(
        tasks.request_backup(**WHO), leftovers=[{"what": "database", "name": "qrdb_staging_1_abc"}]
    )
    right = settings.MANAGED_DATABASE_URL
    settings.MANAGED_DATABASE_URL = "postgresql://a:b@127.0.0.1:1/qrdb"
    housekeeping.keep_house()
    operation.refresh_from_db()
    assert (operation.state, len(operation.leftovers)) == ("interrupted", 1)

    settings.MANAGED_DATABASE_URL = right
    housekeeping.keep_house()

    operation.refresh_from_db()
    assert operation.leftovers == []
    assert one_folder.databases() == {"qrdb"}


# --- a worker that dies in the middle of a restore -----------------------------------------------------


def dead_restore(site: Site, backup: Backup, staged: str) -> RestoreEvent:
    operation = dead(
        tasks.request_restore(backup, reason="a test", **WHO),
        leftovers=[{"what": "database", "name": staged, "is_drill": False}],
    )
    with site.connected("postgres") as connection:
        connection.execute(f"CREATE DATABASE {staged}")
    return RestoreEvent.objects.create(
        operation=operation, backup=backup, staged_database=staged, replaced_database="qrdb_replaced_x"
    )


def test_a_restore_that_died_before_the_swap_left_the_live_database_untouched(one_folder: Site) -> None:
    before = one_folder.rows()
    event = dead_restore(one_folder, one_folder.backup(), "qrdb_staging_2_abc")

    housekeeping.keep_house()

    event.refresh_from_db()
    assert event.outcome == "untouched"
    assert one_folder.databases() == {"qrdb"}
    assert one_folder.rows() == before
    assert event.operation.steps.filter(what__contains="had not been swapped").count() == 1
    assert event.operation.steps.filter(what=TOLD).count() == 1


@pytest.mark.parametrize("is_frozen", ["before its last look", "after its last look"])
def test_a_worker_that_was_frozen_within_the_swap_cannot_finish_it_once_it_is_interrupted(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch, is_frozen: str
) -> None:
    backup = one_folder.backup()
    one_folder.execute("UPDATE qr_codes SET title = 'newer'")
    before, real = one_folder.rows(), swap.swap

    def swap_frozen(*arguments: Any, before_commit: Watch, **options: Any) -> float:
        def sleep_meanwhile() -> None:
            if is_frozen.startswith("after"):
                before_commit()
            Operation.objects.running().update(heartbeat_at=timezone.now() - timedelta(minutes=3))
            housekeeping.keep_house()
            if is_frozen.startswith("before"):
                before_commit()

        return real(*arguments, before_commit=sleep_meanwhile, **options)

    monkeypatch.setattr(swap, "FROZEN_SECONDS", 600.0)  # PostgreSQL ends nothing by itself
    monkeypatch.setattr(swap, "swap", swap_frozen)
    monkeypatch.setattr(Journal, "_look", lambda _: None)

    operation = one_folder.restore(backup)

    operation.refresh_from_db()
    assert operation.state == "interrupted"
    assert one_folder.event().outcome == "untouched"
    assert one_folder.databases() == {"qrdb"}
    assert one_folder.rows() == before


def test_an_undo_that_was_frozen_before_its_swap_does_not_do_it_once_it_is_interrupted(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_folder.restore(one_folder.backup())
    restored, real = one_folder.event(), swap.swap
    one_folder.execute("UPDATE qr_codes SET title = 'newer'")
    before = one_folder.rows()

    def swap_late(*arguments: Any, **options: Any) -> float:
        Operation.objects.running().update(heartbeat_at=timezone.now() - timedelta(minutes=3))
        housekeeping.keep_house()
        return real(*arguments, **options)

    monkeypatch.setattr(swap, "swap", swap_late)
    monkeypatch.setattr(Journal, "_look", lambda _: None)

    operation = one_folder.undo(restored)

    operation.refresh_from_db()
    restored.refresh_from_db()
    assert operation.state == "interrupted"
    assert (one_folder.event().outcome, restored.outcome) == ("untouched", "restored")
    assert one_folder.rows() == before


def test_a_swap_that_shows_only_after_it_was_taken_for_not_done_can_be_undone(one_folder: Site) -> None:
    before = one_folder.rows()
    event = dead_restore(one_folder, one_folder.backup(), "qrdb_staging_2_abc")
    housekeeping.keep_house()
    with one_folder.connected("postgres") as connection:
        connection.execute("CREATE DATABASE qrdb_staging_2_abc")
    swap.swap(one_folder.server, live="qrdb", staged="qrdb_staging_2_abc", replaced="qrdb_replaced_x")

    housekeeping.keep_house()

    event.refresh_from_db()
    assert event.outcome == "restored"
    assert one_folder.undo(event).state == "succeeded"
    assert one_folder.rows() == before


def test_a_restore_that_died_after_the_swap_is_restored_and_can_be_undone(one_folder: Site) -> None:
    before = one_folder.rows()
    event = dead_restore(one_folder, one_folder.backup(), "qrdb_staging_2_abc")
    with one_folder.connected("qrdb_staging_2_abc") as connection:
        connection.execute("CREATE TABLE restored (id int)")
    swap.swap(one_folder.server, live="qrdb", staged="qrdb_staging_2_abc", replaced="qrdb_replaced_x")

    housekeeping.keep_house()
    housekeeping.keep_house()

    event.refresh_from_db()
    assert event.outcome == "restored"
    assert event.rows_after == {"public.restored": 0}
    assert one_folder.databases() == {"qrdb", "qrdb_replaced_x"}
    assert event.operation.steps.filter(what__contains="had been swapped").count() == 1
    assert one_folder.undo(event).state == "succeeded"
    assert one_folder.rows() == before


@pytest.mark.parametrize("is_done", [True, False])
def test_an_undo_and_its_restore_are_told_together_or_not_at_all(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch, is_done: bool
) -> None:
    one_folder.restore(one_folder.backup())
    restored = one_folder.event()
    operation = dead(tasks.request_undo_restore(restored, reason="a test", **WHO))
    undo = RestoreEvent.objects.create(
        operation=operation, undoes=restored, replaced_database="qrdb_again", swap_seconds=0.1
    )
    if is_done:
        swap.swap(one_folder.server, live="qrdb", staged=restored.replaced_database, replaced="qrdb_again")
    real = RestoreEvent.change

    def break_off(event: RestoreEvent, **changes: Any) -> None:
        if event.pk == restored.pk:
            raise DatabaseError("broken off")
        real(event, **changes)

    with monkeypatch.context() as patched:
        patched.setattr(RestoreEvent, "change", break_off)
        housekeeping.keep_house()
    undo.refresh_from_db()
    assert undo.outcome == "under_way"

    housekeeping.keep_house()
    undo.refresh_from_db()
    restored.refresh_from_db()
    told = ("restored", "undone") if is_done else ("rolled_back", "restored")
    assert (undo.outcome, restored.outcome) == told


def test_an_undo_that_died_after_its_swap_makes_the_restore_undone(one_folder: Site) -> None:
    one_folder.restore(one_folder.backup())
    restored = one_folder.event()
    operation = dead(tasks.request_undo_restore(restored, reason="a test", **WHO))
    undo = RestoreEvent.objects.create(operation=operation, undoes=restored, replaced_database="qrdb_again")
    swap.swap(one_folder.server, live="qrdb", staged=restored.replaced_database, replaced="qrdb_again")

    housekeeping.keep_house()

    undo.refresh_from_db()
    restored.refresh_from_db()
    assert (undo.outcome, restored.outcome) == ("restored", "undone")
    assert one_folder.databases() == {"qrdb", "qrdb_again"}
