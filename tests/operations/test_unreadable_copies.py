"""A read error is no damage: what cannot be read is read again, and no clean-up gives it up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from backups_app.errors import StorageProblem
from backups_app.models import Backup, Operation
from backups_app.systems.vault import ConnectionBroken, LocalLocation, Stored
from tests.operations.site import Site, change_bytes
from tests.operations.test_copy_check import flip, states
from tests.operations.test_retention import older, prune

Fail = Callable[..., None]


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """A function: the next readings of that backup's copy in a location raise ``error``, so many times."""
    real = LocalLocation.digest

    def arrange(backup: Backup, alias: str, error: StorageProblem, *, times: int = 99) -> None:
        left = [times]

        def digest(self: LocalLocation, name: str, **options: Any) -> Stored:
            if (self.alias, name) == (alias, backup.name) and left[0]:
                left[0] -= 1
                raise error
            return real(self, name, **options)

        monkeypatch.setattr(LocalLocation, "digest", digest)

    return arrange


def refused() -> StorageProblem:
    return StorageProblem("It cannot be used: the disk reports an input/output error.")


def cut() -> StorageProblem:
    return ConnectionBroken("It broke off the connection: try again.")


def told(operation: Operation) -> list[str]:
    return list(operation.steps.values_list("what", flat=True))


@pytest.mark.parametrize("error", [refused, cut])
def test_a_read_error_that_is_over_in_a_moment_changes_nothing(
    site: Site, fails: Fail, error: Callable[[], StorageProblem]
) -> None:
    backup = site.backup()
    before = (site.second / backup.name).stat().st_ino
    fails(backup, "second", error(), times=1)

    operation = site.check_copies()

    assert (operation.result["intact"], operation.result["repaired"]) == (2, [])
    assert states(backup) == {"working": "stored", "second": "stored"}
    assert (site.second / backup.name).stat().st_ino == before
    assert [what for what in told(operation) if "cannot be read now" in what]
    assert not [what for what in told(operation) if what.startswith("Replace")]


def test_a_difference_that_is_gone_at_the_second_reading_is_no_damage(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup, real, readings = site.backup(), LocalLocation.digest, []

    def digest(self: LocalLocation, name: str, **options: Any) -> Stored:
        readings.append(self.alias)
        found = real(self, name, **options)
        return Stored(found.size - 1, "0" * 64) if readings == ["working", "second"] else found

    monkeypatch.setattr(LocalLocation, "digest", digest)

    operation = site.check_copies()

    assert readings == ["working", "second", "second"]
    assert (operation.result["intact"], operation.result["repaired"]) == (2, [])
    assert states(backup) == {"working": "stored", "second": "stored"}
    assert "The copy in second differs from its record: it is read once more." in told(operation)


def test_a_copy_that_cannot_be_read_is_not_called_damaged_and_the_backup_stays_proven(
    one_folder: Site, fails: Fail
) -> None:
    backup = one_folder.backup()
    Backup.objects.filter(pk=backup.pk).update(proven_at=timezone.now())
    fails(backup, "working", refused())

    operation = one_folder.check_copies()

    assert operation.state == "succeeded"
    assert operation.result["waiting"] == [f"{backup.name} in working"]
    assert states(backup) == {"working": "unreadable"}
    assert "input/output error" in backup.copies.get().problem
    backup.refresh_from_db()
    assert backup.state == "proven"


def test_no_clean_up_removes_the_only_proven_backup_because_of_a_read_error(
    one_folder: Site, settings: Settings, fails: Fail
) -> None:
    settings.BACKUP_KEEP = "50"
    proven, *_newer = [older(one_folder.backup(), days) for days in (9, 3, 2, 1)]
    Backup.objects.filter(pk=proven.pk).update(proven_at=timezone.now())
    settings.BACKUP_KEEP = "2"
    fails(proven, "working", refused())
    one_folder.check_copies()

    operation = prune(one_folder)

    assert proven.name not in operation.result["removed"]
    assert len(operation.result["removed"]) == 1
    assert (one_folder.working / proven.name).exists()


def test_a_copy_that_can_be_read_again_is_stored_again(one_folder: Site, fails: Fail) -> None:
    backup = one_folder.backup()
    fails(backup, "working", refused(), times=3)
    one_folder.check_copies()
    assert states(backup) == {"working": "unreadable"}

    operation = one_folder.check_copies()

    assert operation.result["intact"] == 1
    assert states(backup) == {"working": "stored"}


def test_a_copy_whose_connection_broke_twice_is_replaced_only_when_the_next_check_cannot_read_it_either(
    site: Site, fails: Fail
) -> None:
    backup = site.backup()
    before = (site.second / backup.name).stat().st_ino
    fails(backup, "second", cut(), times=4)

    first = site.check_copies()
    in_between = (states(backup)["second"], (site.second / backup.name).stat().st_ino)
    second = site.check_copies()

    assert (first.result["repaired"], first.result["waiting"]) == ([], [f"{backup.name} in second"])
    assert in_between == ("unreadable", before)
    assert second.result["repaired"] == [f"{backup.name} in second"]
    assert "Replace the unreadable copy in second" in told(second)
    assert (site.second / backup.name).stat().st_ino != before
    assert states(backup) == {"working": "stored", "second": "stored"}


def test_a_copy_that_turns_out_intact_before_it_is_replaced_is_left_alone(site: Site, fails: Fail) -> None:
    """The one in the working location is read once more when an intact copy is looked for."""
    backup = site.backup()
    before = (site.working / backup.name).stat().st_ino
    fails(backup, "working", refused(), times=2)

    operation = site.check_copies()

    assert (operation.result["intact"], operation.result["repaired"]) == (2, [])
    assert (site.working / backup.name).stat().st_ino == before
    assert states(backup) == {"working": "stored", "second": "stored"}


def test_an_unreadable_copy_stays_until_its_replacement_was_read_back(
    site: Site, fails: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = site.backup()
    before = (site.second / backup.name).stat().st_ino
    fails(backup, "second", refused())

    def differs(*_: object, **__: object) -> None:
        raise StorageProblem("It does not give back what was written.")

    monkeypatch.setattr(LocalLocation, "_insist_on_equal_copy", differs)

    operation = site.check_copies()

    assert operation.result["waiting"] == [f"{backup.name} in second"]
    assert states(backup) == {"working": "stored", "second": "unreadable"}
    assert (site.second / backup.name).stat().st_ino == before


def test_a_damaged_backup_stays_while_it_is_the_only_one_that_was_ever_proven(
    one_folder: Site, settings: Settings
) -> None:
    settings.BACKUP_KEEP = "50"
    proven, second, _third, newest = [older(one_folder.backup(), days) for days in (9, 3, 2, 1)]
    proven.mark_proven({"rows": 339})
    settings.BACKUP_KEEP = "2"
    flip(one_folder.working / proven.name)
    assert one_folder.check_copies().state == "failed"

    kept = prune(one_folder)
    newest.mark_proven({"rows": 339})
    later = prune(one_folder)

    assert kept.result["removed"] == [second.name]
    assert later.result["removed"] == [proven.name]


def test_a_copy_that_is_cut_short_where_it_lies_is_given_up_though_it_was_unreadable(
    one_folder: Site, settings: Settings
) -> None:
    settings.BACKUP_KEEP = "50"
    hidden, proven, *_newer = [older(one_folder.backup(), days) for days in (8, 9, 2, 1)]
    Backup.objects.filter(pk__in=[hidden.pk, proven.pk]).update(proven_at=timezone.now())
    settings.BACKUP_KEEP = "2"
    hidden.copies.update(state="unreadable")
    change_bytes(one_folder.working / hidden.name, lambda data: data.__delitem__(slice(10, None)))

    operation = prune(one_folder)

    assert operation.result["removed"] == [hidden.name]
