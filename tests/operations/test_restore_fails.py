"""A restore that fails, is cancelled or ended at any stage leaves every live row as it was, and says so."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError
from pytest_django.fixtures import Settings

from backups_app.errors import NoSpace, ServerUnavailable
from backups_app.models import Backup, Operation
from backups_app.operations import backup as backup_operation
from backups_app.operations import housekeeping, staging
from backups_app.operations.journal import Journal
from backups_app.systems.postgres import clients, databases, manifest, swap
from tests.conftest import on_all_majors
from tests.operations.fake_api import FakeApi
from tests.operations.site import ANOTHER_IS_LOOKED_FOR, Site, change_bytes

UNTOUCHED = "The live database was not touched."
Break = Callable[[str], None]


@contextmanager
def every_row_stays(site: Site) -> Iterator[list[Operation]]:
    """The block puts its restore into the list; afterwards everything is as it was before."""
    rows, names, files = site.rows(), site.databases(), site.files()
    done: list[Operation] = []
    yield done
    operation = done[0]
    assert operation.state in {"failed", "cancelled"}, "it was meant to fail"
    assert UNTOUCHED in operation.error
    assert site.rows() == rows
    assert site.databases() == names
    assert {name for name in site.files() - files if "_before_restore" not in name} == set()
    assert not list(site.working.glob(".*"))
    assert site.event().outcome == {"failed": "untouched", "cancelled": "cancelled"}[operation.state]
    assert site.event().replaced_database == ""
    assert operation.leftovers == []


def test_without_the_right_to_create_databases(one_folder: Site, superuser: psycopg.Connection[Any]) -> None:
    backup = one_folder.backup()
    superuser.execute("ALTER ROLE qr_owner NOCREATEDB")

    with every_row_stays(one_folder) as done:
        done.append(one_folder.restore(backup))

    assert "ALTER ROLE qr_owner CREATEDB;" in done[0].error


def test_while_the_present_rows_cannot_be_counted(one_folder: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(manifest._PATIENCE_SETTINGS, "lock_timeout", "200ms")
    backup = one_folder.backup()

    with every_row_stays(one_folder) as done, one_folder.locked():
        done.append(one_folder.restore(backup))

    assert "waited too long for a lock" in done[0].error
    assert done[0].blame == "environment"


def test_when_the_end_of_the_time_for_an_undo_cannot_be_reckoned(
    one_folder: Site, settings: Settings
) -> None:
    settings.REPLACED_DATABASE_HOURS = 99_999_999
    backup = one_folder.backup()

    with every_row_stays(one_folder) as done:
        done.append(one_folder.restore(backup))


def test_when_one_byte_of_the_only_copy_changed(one_folder: Site) -> None:
    backup = one_folder.backup()
    change_bytes(one_folder.working / backup.name, lambda data: data.__setitem__(-100, data[-100] ^ 1))

    with every_row_stays(one_folder) as done:
        done.append(one_folder.restore(backup))

    backup.refresh_from_db()
    assert "differs from its record in size or SHA-256" in done[0].error
    assert (done[0].blame, backup.state) == ("backup", "damaged")


def test_when_the_file_went_between_the_page_and_the_worker(one_folder: Site) -> None:
    backup = one_folder.backup()
    (one_folder.working / backup.name).unlink()

    with every_row_stays(one_folder) as done:
        done.append(one_folder.restore(backup))

    assert backup.copies.get().state == "missing"


def test_without_the_client_of_the_server_s_version(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = one_folder.backup()
    real = clients.installed
    monkeypatch.setattr(
        clients, "installed", lambda *which: [found for found in real(*which) if found.major != 16]
    )

    with every_row_stays(one_folder) as done:
        done.append(one_folder.restore(backup))

    assert "pg_restore 16 is not installed: install the package postgresql-client-16." in done[0].error
    backup.refresh_from_db()
    assert (done[0].blame, backup.state) == ("environment", "validated")


def test_when_the_server_has_no_room_for_another_database(one_folder: Site, broken: Any) -> None:
    backup = one_folder.backup()
    broken(staging, "create_like", NoSpace("The disk of PostgreSQL is full."))

    with every_row_stays(one_folder) as done:
        done.append(one_folder.restore(backup))

    assert done[0].error.startswith("The disk of PostgreSQL is full.")


def test_when_the_location_is_lost_while_pg_restore_begins(one_folder: Site, at_step: Any) -> None:
    backup = one_folder.backup()
    file = one_folder.working / backup.name
    at_step("Restore into it", lambda _: file.rename(file.with_suffix(".away")))

    with every_row_stays(one_folder) as done:
        done.append(one_folder.restore(backup))
        file.with_suffix(".away").rename(file)

    backup.refresh_from_db()
    assert "could not be read just now: No such file or directory" in done[0].error
    assert (done[0].blame, backup.state) == ("environment", "validated")


def test_a_restore_whose_location_is_lost_in_the_middle_takes_the_next_copy(site: Site, at_step: Any) -> None:
    backup = site.backup()
    wanted = site.rows()
    site.execute("DELETE FROM qr_codes WHERE id IN (SELECT id FROM qr_codes LIMIT 20)")
    file = site.working / backup.name
    at_step("Restore into it", lambda _: file.exists() and file.rename(file.with_suffix(".away")))

    done = site.restore(backup)

    file.with_suffix(".away").rename(file)
    backup.refresh_from_db()
    assert done.state == "succeeded", done.error
    assert site.rows() == wanted
    assert done.steps.filter(what=ANOTHER_IS_LOOKED_FOR).exists()
    assert backup.state == "validated"


@on_all_majors
def test_when_pg_restore_stops_at_an_error(one_folder: Site) -> None:
    one_folder.execute(
        "CREATE FUNCTION is_known(text) RETURNS bool LANGUAGE sql AS"
        " 'SELECT EXISTS (SELECT FROM public.qr_codes WHERE id = $1)'"
    )
    one_folder.execute("CREATE TABLE a_note (code text CHECK (is_known(code)))")
    one_folder.execute("INSERT INTO a_note SELECT id FROM qr_codes LIMIT 1")
    backup = one_folder.backup()

    with every_row_stays(one_folder) as done:
        done.append(one_folder.restore(backup))

    backup.refresh_from_db()
    assert "cannot be restored" in done[0].error
    assert "a_note" in done[0].error_detail
    assert backup.state == "damaged"


def test_when_one_checksum_differs(one_folder: Site) -> None:
    backup = one_folder.backup()
    assert backup.manifest is not None
    backup.manifest["tables"]["public.qr_codes"]["checksum"] += "1"
    backup.save()

    with every_row_stays(one_folder) as done:
        done.append(one_folder.restore(backup))

    backup.refresh_from_db()
    assert "table public.qr_codes: 334 rows as expected, but their contents differ" in done[0].error
    assert backup.state == "damaged"


def test_when_the_restored_copy_is_not_what_the_api_needs(one_folder: Site, settings: Settings) -> None:
    backup = one_folder.backup()
    settings.REQUIRED_COLUMNS = "qr_codes: id owner_email"

    with every_row_stays(one_folder) as done:
        done.append(one_folder.restore(backup))

    backup.refresh_from_db()
    assert "The restored copy is no sound database." in done[0].error
    assert "owner_email" in done[0].error
    assert (done[0].blame, backup.state) == ("database", "validated")


def test_when_there_is_no_room_for_the_safety_backup(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch, broken: Any
) -> None:
    backup = one_folder.backup()
    broken(backup_operation, "_insist_on_room", NoSpace("working is full: make room."))

    with every_row_stays(one_folder) as done:
        done.append(one_folder.restore(backup))

    assert done[0].error == f"working is full: make room. {UNTOUCHED}"


def test_when_the_safety_backup_cannot_be_read_back_the_restored_one_is_not_blamed(
    one_folder: Site, at_step: Any
) -> None:
    backup = one_folder.backup()
    seen: list[str] = []

    def spoil(journal: Journal) -> None:
        seen.append(journal.operation.kind)
        change_bytes(next(one_folder.working.glob(".*.part")), lambda data: data.__delitem__(slice(60, None)))

    at_step("Read the whole archive", spoil)

    with every_row_stays(one_folder) as done:
        done.append(one_folder.restore(backup))

    backup.refresh_from_db()
    assert seen == ["restore"]
    assert "just written cannot be read back" in done[0].error
    assert (done[0].blame, backup.state) == ("environment", "validated")


def test_when_the_safety_backup_takes_too_long(one_folder: Site, settings: Settings, at_step: Any) -> None:
    backup = one_folder.backup()
    settings.SAFETY_BACKUP_TIME_LIMIT = 1
    holding = one_folder.locked()
    at_step("Check server, client program and room", lambda _: holding.__enter__())

    with every_row_stays(one_folder) as done:
        done.append(one_folder.restore(backup))
        holding.__exit__(None, None, None)

    assert "It took longer than the safety backup's time limit of 1 seconds." in done[0].error
    assert Backup.objects.count() == 1


def test_a_failure_after_the_safety_backup_tells_that_it_is_kept(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = one_folder.backup()

    def fail(*_: object) -> None:
        raise ServerUnavailable("The server went away.")

    monkeypatch.setattr("backups_app.operations.api.stop_for", fail)

    with every_row_stays(one_folder) as done:
        done.append(one_folder.restore(backup))

    safety = Backup.objects.get(origin="safety")
    assert f"{UNTOUCHED} The safety backup {safety.name} was made and is kept." in done[0].error


@on_all_majors
def test_when_the_databases_cannot_be_swapped(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch, at_step: Any
) -> None:
    monkeypatch.setattr(swap, "swap", functools.partial(swap.swap, patience_seconds=0.5))
    backup = one_folder.backup()
    statements = ("BEGIN", "INSERT INTO alembic_version VALUES ('x')", "PREPARE TRANSACTION 'stays'")

    def prepare(_: Journal) -> None:
        with one_folder.connected() as connection:
            for statement in statements:
                connection.execute(statement)

    at_step("Swap the databases", prepare)

    with every_row_stays(one_folder) as done:
        done.append(one_folder.restore(backup))
        one_folder.execute("ROLLBACK PREPARED 'stays'")

    assert "the prepared transaction 'stays'" in done[0].error
    assert Backup.objects.get(origin="safety").name in done[0].error


CANCELLABLE = (
    "Record the present state",
    "Look for a fitting pg_restore",
    "Create a fresh database",
    "Restore into it",
    "Compare every row and checksum",
    "Check the restored copy",
    "Dump and count in one snapshot",
    "Swap the databases",
)


@pytest.mark.parametrize("step", CANCELLABLE)
def test_a_cancel_in_each_step_before_the_swap(one_folder: Site, at_step: Any, step: str) -> None:
    backup = one_folder.backup()
    at_step(step, cancel)

    with every_row_stays(one_folder) as done:
        done.append(one_folder.restore(backup))

    assert done[0].state == "cancelled"
    assert done[0].error.startswith(f"It was cancelled by an operator. {UNTOUCHED}")


def cancel(journal: Journal) -> None:
    assert Operation.objects.get(pk=journal.operation.pk).request_cancel("an operator")
    journal._look()


def test_a_cancel_after_the_swap_comes_too_late(one_folder: Site, at_step: Any) -> None:
    backup = one_folder.backup()
    answers: list[bool] = []

    def try_to_cancel(journal: Journal) -> None:
        answers.append(Operation.objects.get(pk=journal.operation.pk).request_cancel("an operator"))

    at_step("Compare before with after", try_to_cancel)

    operation = one_folder.restore(backup)

    assert answers == [False]
    assert operation.state == "succeeded"


def test_a_worker_told_to_stop_while_it_restores(one_folder: Site, at_step: Any) -> None:
    backup = one_folder.backup()
    at_step("Compare every row", _raise(SystemExit("the queue's time-out")))

    with every_row_stays(one_folder) as done:
        with pytest.raises(SystemExit):
            one_folder.restore(backup)
        done.append(Operation.objects.latest("pk"))

    assert done[0].state == "failed"
    assert done[0].error.startswith("Its worker was told to stop.")


def test_a_restore_that_is_ended_at_the_keyboard_counts_as_cancelled(one_folder: Site, at_step: Any) -> None:
    backup = one_folder.backup()
    at_step("Compare every row", _raise(KeyboardInterrupt()))

    with every_row_stays(one_folder) as done:
        with pytest.raises(KeyboardInterrupt):
            one_folder.restore(backup)
        done.append(Operation.objects.latest("pk"))

    assert done[0].state == "cancelled"


def test_a_restore_that_was_cancelled_within_the_swap_is_no_failure_once_housekeeping_has_looked(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = one_folder.backup()
    real = databases.exists

    def lose(*_: Any, **__: Any) -> float:
        monkeypatch.setattr(databases, "exists", _raise(ServerUnavailable("It is away.")))
        raise KeyboardInterrupt

    monkeypatch.setattr(swap, "swap", lose)

    with pytest.raises(KeyboardInterrupt):
        one_folder.restore(backup)
    monkeypatch.setattr(databases, "exists", real)

    assert one_folder.event().outcome == "unclear"
    housekeeping.keep_house()
    assert one_folder.event().outcome == "cancelled"


def test_a_worker_told_to_stop_just_after_the_swap_says_that_the_database_was_replaced(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = one_folder.backup()
    before = one_folder.rows()
    one_folder.execute("UPDATE qr_codes SET title = 'damaged'")
    real = swap.swap

    def swap_then_stop(*arguments: Any, **options: Any) -> float:
        real(*arguments, **options)
        raise SystemExit("the queue's time-out")

    monkeypatch.setattr(swap, "swap", swap_then_stop)

    with pytest.raises(SystemExit):
        one_folder.restore(backup)
    operation = Operation.objects.latest("pk")

    event = one_folder.event()
    assert operation.state == "failed"
    assert f"The database was replaced; what was live before is kept as {event.replaced_database}" in (
        operation.error
    )
    assert UNTOUCHED not in operation.error
    housekeeping.keep_house()
    assert one_folder.event().outcome == "restored"
    assert one_folder.event().why_not_undoable == ""
    assert one_folder.rows() == before


def test_a_server_lost_in_the_middle_of_the_swap_leaves_it_unclear_until_housekeeping_looks(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = one_folder.backup()
    real = databases.exists

    def lose(*_: Any, **__: Any) -> float:
        monkeypatch.setattr(databases, "exists", _raise(ServerUnavailable("It is away.")))
        raise ServerUnavailable("It was lost.")

    monkeypatch.setattr(swap, "swap", lose)

    operation = one_folder.restore(backup)
    monkeypatch.setattr(databases, "exists", real)

    assert operation.state == "failed"
    assert "Whether the databases were swapped is not known yet" in operation.error
    assert UNTOUCHED not in operation.error
    assert one_folder.event().outcome == "unclear"
    housekeeping.keep_house()
    assert one_folder.event().outcome == "untouched"
    assert one_folder.databases() == {"qrdb"}


def test_a_site_s_database_that_is_away_just_after_the_swap_does_not_make_it_untouched(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = one_folder.backup()
    real = Journal.left_nothing

    def be_away(journal: Journal, what: str, name: str) -> None:
        if what == "database":
            raise DatabaseError("away")
        real(journal, what, name)

    monkeypatch.setattr(Journal, "left_nothing", be_away)

    operation = one_folder.restore(backup)

    assert operation.state == "failed"
    assert operation.error.startswith("The site's own database")
    assert "The database was replaced" in operation.error
    assert one_folder.event().outcome == "unclear"


def test_an_api_that_does_not_become_healthy_gets_its_database_back(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = one_folder.backup()
    one_folder.execute("UPDATE qr_codes SET title = 'newer'")
    before, api = one_folder.rows(), FakeApi(sick_starts=1)
    monkeypatch.setattr("backups_app.config.api", lambda: api)

    operation = one_folder.restore(backup)

    assert operation.state == "failed"
    assert "The database that was live before is live again, unchanged." in operation.error
    assert one_folder.rows() == before
    assert one_folder.databases() == {"qrdb"}
    assert one_folder.event().outcome == "rolled_back"
    assert api.calls == ["stop", "start", "stop", "start"]
    assert operation.leftovers == []
    assert not operation.api_stop_intended


def test_a_worker_that_dies_after_swapping_back_leaves_a_restore_that_was_rolled_back(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch, broken: Any
) -> None:
    backup = one_folder.backup()
    one_folder.execute("UPDATE qr_codes SET title = 'newer'")
    before, api = one_folder.rows(), FakeApi(sick_starts=1)
    monkeypatch.setattr("backups_app.config.api", lambda: api)
    real = swap.swap

    def die_after_the_second(*arguments: Any, **options: Any) -> float:
        seconds = real(*arguments, **options)
        if "staging" in options["replaced"]:
            broken(Journal, "close", RuntimeError("dead"))
            raise SystemExit
        return seconds

    monkeypatch.setattr(swap, "swap", die_after_the_second)
    with pytest.raises(RuntimeError):
        one_folder.restore(backup)
    Operation.objects.running().update(state="interrupted", finished_at="2025-01-01T00:00Z")

    housekeeping.keep_house()

    assert one_folder.event().outcome == "rolled_back"
    assert one_folder.rows() == before
    assert one_folder.databases() == {"qrdb"}


def _raise(error: BaseException) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail
