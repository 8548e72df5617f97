"""Validating a backup finds every damage, says which copy, and forgives when all is well again."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django.fixtures import Settings

from backups_app.errors import Refused
from backups_app.models import Backup
from tests.operations.site import ANOTHER_IS_LOOKED_FOR, Site, change_bytes


def states(backup: Backup) -> dict[str, str]:
    return dict(backup.copies.values_list("location", "state"))


def test_an_intact_backup_is_valid_in_every_location(site: Site) -> None:
    backup = site.backup()

    operation = site.validate(backup)

    assert operation.state == "succeeded"
    assert operation.result["copies"] == {"working": "stored", "second": "stored"}


def test_a_missing_copy_is_recorded_and_the_other_one_counts(site: Site) -> None:
    backup = site.backup()
    (site.working / backup.name).unlink()

    operation = site.validate(backup)

    assert operation.state == "succeeded"
    assert operation.result["copies"] == {"working": "missing", "second": "stored"}
    assert site.prove(backup).state == "succeeded"


def test_a_changed_byte_is_found(site: Site) -> None:
    backup = site.backup()
    change_bytes(site.second / backup.name, lambda data: data.__setitem__(2000, data[2000] ^ 1))

    operation = site.validate(backup)

    assert operation.state == "succeeded"
    assert states(backup) == {"working": "stored", "second": "corrupt"}
    assert operation.steps.filter(
        level="warning", what="The copy in second differs from its record in its SHA-256."
    ).exists()


def test_a_truncated_copy_is_found(site: Site) -> None:
    backup = site.backup()
    change_bytes(site.working / backup.name, lambda data: data.__delitem__(slice(-500, None)))

    site.validate(backup)

    assert states(backup) == {"working": "corrupt", "second": "stored"}
    assert backup.copies.get(location="working").problem.endswith("differs from its record in its size.")


def test_a_backup_without_an_intact_copy_is_damaged_until_one_is_put_back(site: Site) -> None:
    backup = site.backup()
    whole = (site.working / backup.name).read_bytes()
    (site.second / backup.name).unlink()
    change_bytes(site.working / backup.name, lambda data: data.__setitem__(2000, data[2000] ^ 1))

    operation = site.validate(backup)

    backup.refresh_from_db()
    assert (operation.state, operation.blame, backup.state) == ("failed", "backup", "damaged")
    assert operation.error.startswith(f"No copy of {backup.name} is intact")
    assert operation.error.endswith("The backup's files were only read.")
    with pytest.raises(Refused, match="damaged"):
        site.restore(backup)

    (site.working / backup.name).write_bytes(whole)
    site.validate(backup)
    backup.refresh_from_db()
    assert backup.state == "validated"
    assert states(backup) == {"working": "stored", "second": "missing"}


def test_a_location_that_is_lost_in_the_middle_leaves_the_next_copy_to_be_read(
    site: Site, at_step: Any
) -> None:
    backup = site.backup()
    file = site.working / backup.name
    at_step("Read the whole archive", lambda _: file.exists() and file.rename(file.with_suffix(".away")))

    operation = site.validate(backup)

    file.with_suffix(".away").rename(file)
    assert operation.state == "succeeded", operation.error
    assert operation.steps.filter(what=ANOTHER_IS_LOOKED_FOR).exists()


def test_a_location_that_is_down_says_nothing_about_the_backup(site: Site) -> None:
    backup = site.backup()
    site.working.rename(site.working.with_name("unmounted"))

    operation = site.validate(backup)

    backup.refresh_from_db()
    assert operation.state == "succeeded"
    assert operation.result["copies"] == {"working": "unreachable", "second": "stored"}
    assert site.prove(backup).state == "succeeded"


def test_all_locations_down_is_the_storage_s_fault(site: Site) -> None:
    backup = site.backup()
    for folder in (site.working, site.second):
        folder.rename(folder.with_name(f"{folder.name}-unmounted"))

    operation = site.validate(backup)

    backup.refresh_from_db()
    assert (operation.state, operation.blame, backup.state) == ("failed", "environment", "validated")
    assert "does not exist: create the folder, mount it" in operation.error


def test_a_location_that_left_the_settings_says_nothing_about_the_backup(
    site: Site, settings: Settings
) -> None:
    backup = site.backup()
    settings.BACKUP_LOCATIONS = f"elsewhere={site.working.parent}"

    operation = site.validate(backup)

    backup.refresh_from_db()
    assert (operation.state, operation.blame, backup.state) == ("failed", "environment", "validated")
    assert "lies in working, which is no longer configured" in operation.error


def test_a_backup_without_a_manifest_is_to_be_proven(one_folder: Site) -> None:
    backup = one_folder.backup()
    Backup.objects.filter(pk=backup.pk).update(manifest=None)

    operation = one_folder.validate(backup)

    assert operation.state == "succeeded"
    assert operation.steps.filter(level="warning", what__contains="has no manifest").exists()

    assert one_folder.prove(backup).state == "succeeded"
    assert one_folder.validate(backup).state == "succeeded"
    backup.refresh_from_db()
    assert backup.state == "proven"
    assert backup.rows == 1337


def test_a_manifest_that_cannot_be_read_is_the_backup_s_fault(one_folder: Site) -> None:
    backup = one_folder.backup()
    Backup.objects.filter(pk=backup.pk).update(manifest={"format": 99})

    operation = one_folder.validate(backup)

    assert (operation.state, operation.blame) == ("failed", "backup")


def test_a_removed_backup_is_neither_validated_nor_restored(one_folder: Site) -> None:
    backup = one_folder.backup()
    backup.mark_removed("a test")

    with pytest.raises(Refused, match="has been removed"):
        one_folder.validate(backup)
    with pytest.raises(Refused, match="has been removed"):
        one_folder.restore(backup)


def test_a_backup_removed_between_the_page_and_the_worker_is_refused(one_folder: Site) -> None:
    from backups_app import tasks
    from tests.operations.site import WHO

    backup = one_folder.backup()
    operation = tasks.request_restore(backup, reason="a test", **WHO)
    backup.mark_removed("by the clean-up")

    operation = one_folder.attempt(operation)

    assert operation.state == "failed"
    assert operation.error == f"The backup {backup.name} has been removed. Nothing was changed."


def test_a_live_database_with_faults_is_told_each_with_its_remedy(one_folder: Site) -> None:
    assert one_folder.validate_database().state == "succeeded"
    one_folder.execute("ALTER TABLE qr_codes DROP COLUMN fill_color")
    one_folder.execute("DROP TABLE alembic_version")

    operation = one_folder.validate_database()

    assert (operation.state, operation.blame) == ("failed", "database")
    assert "fill_color" in operation.error
    assert "alembic_version" in operation.error
    assert operation.error.endswith("The database was only read.")
    assert operation.result["valid"] is False
