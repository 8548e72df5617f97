"""Checking the copies finds every damage and repairs it; what waits is tried again, ever more rarely."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from backups_app import tasks
from backups_app.errors import StorageProblem
from backups_app.models import Backup, BackupCopy, Operation
from backups_app.operations import copy_check
from backups_app.systems.vault import LocalLocation, Stored
from tests.operations.site import Site, change_bytes


def states(backup: Backup) -> dict[str, str]:
    return dict(backup.copies.values_list("location", "state"))


def flip(file: Path) -> None:
    change_bytes(file, lambda data: data.__setitem__(2000, data[2000] ^ 1))


def test_intact_copies_are_read_and_left_alone(site: Site) -> None:
    backup = site.backup()
    before = {path: path.stat().st_mtime_ns for path in site.second.iterdir()}

    operation = site.check_copies()

    assert operation.state == "succeeded"
    assert operation.result == {"intact": 2, "repaired": [], "waiting": [], "lost": [], "unreachable": []}
    assert {path: path.stat().st_mtime_ns for path in site.second.iterdir()} == before
    assert all(copy.checked_at for copy in backup.copies.all())


@pytest.mark.parametrize("where", ["working", "second"])
def test_a_missing_and_a_damaged_copy_are_brought_back(site: Site, where: str) -> None:
    lost, damaged = site.backup(), site.backup()
    folder = {"working": site.working, "second": site.second}[where]
    whole = (folder / damaged.name).read_bytes()
    (folder / lost.name).unlink()
    (folder / f"{lost.name}.json").unlink()
    flip(folder / damaged.name)

    operation = site.check_copies()

    assert operation.state == "succeeded"
    assert sorted(operation.result["repaired"]) == sorted(
        [f"{lost.name} in {where}", f"{damaged.name} in {where}"]
    )
    assert (folder / damaged.name).read_bytes() == whole
    assert json.loads((folder / f"{lost.name}.json").read_text())["sha256"] == lost.sha256
    assert states(lost) == states(damaged) == {"working": "stored", "second": "stored"}
    told = list(operation.steps.values_list("what", flat=True))
    assert f"The copy in {where} differs from its record in its SHA-256." in told
    assert f"{where} holds an intact copy of {lost.name} again." in told


def test_a_damaged_copy_stays_until_its_replacement_was_read_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = site.backup()
    flip(site.second / backup.name)
    damaged = (site.second / backup.name).read_bytes()

    def differs(*_: object, **__: object) -> None:
        from backups_app.errors import StorageProblem

        raise StorageProblem("It does not give back what was written.")

    monkeypatch.setattr(LocalLocation, "_insist_on_equal_copy", differs)

    operation = site.check_copies()

    assert operation.state == "succeeded"
    assert operation.result["waiting"] == [f"{backup.name} in second"]
    assert (site.second / backup.name).read_bytes() == damaged
    assert states(backup) == {"working": "stored", "second": "corrupt"}


def test_a_copy_that_cannot_be_read_where_others_can_is_replaced(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup, real = site.backup(), LocalLocation.digest
    broken = (site.second / backup.name).stat().st_ino

    def digest(self: LocalLocation, name: str, **options: Any) -> Stored:
        if (self.folder / name).stat().st_ino == broken:
            raise StorageProblem("It cannot be read: Input/output error.")
        return real(self, name, **options)

    monkeypatch.setattr(LocalLocation, "digest", digest)

    operation = site.check_copies()

    assert operation.state == "succeeded"
    assert operation.result["repaired"] == [f"{backup.name} in second"]
    assert operation.steps.filter(what__contains="Input/output error", level="warning").exists()
    assert (site.second / backup.name).stat().st_ino != broken
    assert states(backup) == {"working": "stored", "second": "stored"}


@pytest.mark.parametrize("text", [None, "no JSON"])
def test_a_damaged_copy_that_was_found_before_is_ours_without_its_description_too(
    site: Site, text: str | None
) -> None:
    backup = site.backup()
    flip(site.working / backup.name)
    (site.working / f"{backup.name}.json").unlink()
    if text:
        (site.working / f"{backup.name}.json").write_text(text)
    assert site.validate(backup).state == "succeeded"
    assert states(backup) == {"working": "corrupt", "second": "stored"}

    operation = site.check_copies()

    assert operation.result["repaired"] == [f"{backup.name} in working"]


def test_a_backup_without_any_intact_copy_is_said_and_the_others_are_repaired(site: Site) -> None:
    gone, other = site.backup(), site.backup()
    flip(site.working / gone.name)
    flip(site.second / gone.name)
    (site.second / other.name).unlink()

    operation = site.check_copies()

    assert (operation.state, operation.blame) == ("failed", "backup")
    assert operation.error.startswith(f"No intact copy is left of {gone.name}:")
    assert operation.result["repaired"] == [f"{other.name} in second"]
    gone.refresh_from_db()
    assert gone.state == "damaged"
    assert (site.working / gone.name).exists()
    assert (site.second / gone.name).exists()


def test_a_location_that_was_added_later_gets_every_backup(
    site: Site, settings: Settings, tmp_path: Path
) -> None:
    backups = [site.backup(), site.backup()]
    third = tmp_path / "third"
    third.mkdir(mode=0o700)
    settings.BACKUP_LOCATIONS += f",third={third}"

    operation = site.check_copies()

    assert operation.state == "succeeded"
    assert {path.name for path in third.iterdir()} == {path.name for path in site.second.iterdir()}
    assert all(states(backup)["third"] == "stored" for backup in backups)


def test_a_location_that_is_down_is_a_warning_and_its_copies_are_not_called_missing(site: Site) -> None:
    backup = site.backup()
    site.second.rename(site.second.with_name("elsewhere"))

    operation = site.check_copies()

    assert operation.state == "succeeded"
    assert operation.result["unreachable"] == ["second"]
    assert states(backup) == {"working": "stored", "second": "stored"}
    warnings = operation.steps.filter(level="warning").values_list("what", flat=True)
    assert [text for text in warnings if "second" in text and "does not exist" in text]


def test_a_copy_whose_location_was_down_is_brought_by_a_retry(site: Site) -> None:
    away = site.second.with_name("elsewhere")
    site.second.rename(away)
    backup = site.backup()
    assert states(backup) == {"working": "stored", "second": "pending"}
    still_down = site.check_copies(only_pending=True)
    assert still_down.result["waiting"] == [f"{backup.name} in second"]
    away.rename(site.second)

    operation = site.check_copies(only_pending=True)

    assert operation.result["repaired"] == [f"{backup.name} in second"]
    assert states(backup) == {"working": "stored", "second": "stored"}
    assert (site.second / backup.name).read_bytes() == (site.working / backup.name).read_bytes()


def test_a_retry_looks_at_the_waiting_copies_alone(site: Site) -> None:
    waits, flipped = site.backup(), site.backup()
    flip(site.second / flipped.name)
    (site.second / waits.name).unlink()
    waits.copies.filter(location="second").update(state="pending")

    site.check_copies(only_pending=True)

    assert states(waits)["second"] == "stored"
    assert states(flipped)["second"] == "stored", "nobody looked at it"


def test_a_waiting_copy_that_got_there_after_all_is_found(site: Site) -> None:
    backup = site.backup()
    backup.copies.all().update(state="pending")

    operation = site.check_copies(only_pending=True)

    assert operation.result["intact"] == 2
    assert states(backup) == {"working": "stored", "second": "stored"}


def test_somebody_elses_file_of_the_same_name_is_never_replaced(site: Site) -> None:
    backup = site.backup()
    (site.second / backup.name).write_bytes(b"somebody else's")
    (site.second / f"{backup.name}.json").unlink()
    backup.copies.filter(location="second").update(state="pending")

    for _ in range(2):
        operation = site.check_copies()

    assert operation.state == "succeeded"
    assert (site.second / backup.name).read_bytes() == b"somebody else's"
    assert "holds another file" in backup.copies.get(location="second").problem


@pytest.mark.parametrize("text", [None, "no JSON", "{}", '{"format": 1, "sha256": "other"}'])
def test_a_description_that_is_missing_or_does_not_fit_is_written_anew(site: Site, text: str | None) -> None:
    backup = site.backup()
    sidecar = site.second / f"{backup.name}.json"
    right = sidecar.read_text()
    sidecar.unlink()
    if text is not None:
        sidecar.write_text(text)

    operation = site.check_copies()

    assert sidecar.read_text() == right
    assert operation.steps.filter(what__contains="written anew").count() == 1


def test_removed_backups_and_removed_copies_are_not_brought_back(site: Site) -> None:
    removed, thinned = site.backup(), site.backup()
    for folder in (site.working, site.second):
        (folder / removed.name).unlink()
    removed.mark_removed("a test")
    (site.second / thinned.name).unlink()
    thinned.copies.get(location="second").found("removed")

    site.check_copies()

    assert not (site.working / removed.name).exists()
    assert not (site.second / thinned.name).exists()


def test_a_backup_that_a_clean_up_removes_meanwhile_is_not_brought_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = site.backup()
    real = LocalLocation.digest

    def removed_meanwhile(location: LocalLocation, name: str, **options: Any) -> Any:
        if location.alias == "second":
            location.remove(name)
            backup.mark_removed("the clean-up")
        return real(location, name, **options)

    monkeypatch.setattr(LocalLocation, "digest", removed_meanwhile)

    site.check_copies()

    assert not (site.second / backup.name).exists()


# --- the retries of housekeeping ---------------------------------------------------------------------


def waiting(backup: Backup, *, made: timedelta, tried: timedelta | None) -> None:
    now = timezone.now()
    Backup.objects.filter(pk=backup.pk).update(created_at=now - made)
    backup.copies.filter(location="second").update(
        state="pending", checked_at=None if tried is None else now - tried
    )


@pytest.mark.parametrize(
    ("made", "tried", "is_due"),
    [
        (timedelta(minutes=1), None, True),
        (timedelta(minutes=4), timedelta(minutes=4), False),
        (timedelta(minutes=6), timedelta(minutes=6), True),
        (timedelta(minutes=70), timedelta(minutes=30), False),
        (timedelta(minutes=70), timedelta(minutes=36), True),
        (timedelta(days=30), timedelta(hours=5, minutes=50), False),
        (timedelta(days=30), timedelta(hours=6, minutes=10), True),
    ],
    ids=["never", "4-min", "6-min", "30-after-40", "36-after-34", "6-h-almost", "6-h"],
)
def test_the_pause_doubles_up_to_six_hours(
    site: Site, made: timedelta, tried: timedelta | None, is_due: bool
) -> None:
    waiting(site.backup(), made=made, tried=tried)

    assert copy_check.is_retry_due(timezone.now()) is is_due


def test_housekeeping_asks_once_for_what_waits_and_does_not_do_it_itself(site: Site) -> None:
    waiting(site.backup(), made=timedelta(hours=1), tried=None)

    for _ in range(3):
        tasks.retry_waiting_copies()

    asked = Operation.objects.get(kind="check_copies")
    assert (asked.state, asked.parameters) == ("queued", {"only_pending": True})
    assert (asked.source, asked.requested_by_name) == ("schedule", "housekeeping")


def test_housekeeping_asks_for_nothing_where_nothing_can_be_done(site: Site, settings: Settings) -> None:
    removed, elsewhere = site.backup(), site.backup()
    for backup in (removed, elsewhere):
        waiting(backup, made=timedelta(hours=1), tried=None)
    removed.mark_removed("a test")
    settings.BACKUP_LOCATIONS = f"working={site.working}"

    tasks.retry_waiting_copies()

    assert not Operation.objects.filter(kind="check_copies").exists()


@pytest.mark.parametrize("trouble", ["location", "source"])
def test_a_retry_in_vain_is_not_due_again_at_once(site: Site, trouble: str) -> None:
    backup = site.backup()
    (site.second / backup.name).unlink()
    waiting(backup, made=timedelta(hours=1), tried=None)
    (site.second if trouble == "location" else site.working).rename(site.working.with_name("away"))

    site.check_copies(only_pending=True)

    assert BackupCopy.objects.filter(state="pending").count() == 1
    assert not copy_check.is_retry_due(timezone.now())
