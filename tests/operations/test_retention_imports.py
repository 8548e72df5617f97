"""What an import does not do: it ends no freeze, and no clean-up takes away what was just brought in."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from backups_app.models import Backup, Operation
from backups_app.operations import retention
from tests.operations.site import Site
from tests.operations.test_imports import old_dump
from tests.operations.test_retention import older, prune

NAME = "qrdb_20250101_030405.sql"


@pytest.fixture
def three(one_folder: Site, settings: Settings) -> list[Backup]:
    """Three backups, the oldest first, of which two are to be kept."""
    settings.BACKUP_KEEP = "50"
    made = [older(one_folder.backup(), days) for days in (3, 2, 1)]
    settings.BACKUP_KEEP = "2"
    return made


def fail_a_backup() -> Operation:
    now = timezone.now()
    return Operation.objects.create(kind="backup", state="failed", expires_at=now, finished_at=now)


def bring_in(site: Site, folder: Path) -> Backup:
    old_dump(site, folder / "dump").rename(site.working / NAME)
    assert site.import_found().result["adopted"] == [NAME]
    return Backup.objects.get(name=NAME)


def test_an_import_does_not_end_the_freeze_while_backups_fail(
    one_folder: Site, three: list[Backup], tmp_path: Path
) -> None:
    failed = fail_a_backup()
    bring_in(one_folder, tmp_path)

    operation = prune(one_folder)

    assert operation.result["removed"] == []
    assert operation.result["frozen"].endswith(f"the last backup has failed (operation {failed.pk}).")


def test_a_safety_backup_ends_it(one_folder: Site, three: list[Backup]) -> None:
    fail_a_backup()
    assert "has failed" in retention.plan().frozen

    assert one_folder.restore(three[2]).state == "succeeded"

    assert retention.plan().frozen == ""


def test_an_older_file_that_was_imported_stays_for_as_long_as_a_safety_backup(
    one_folder: Site, three: list[Backup], tmp_path: Path
) -> None:
    imported = bring_in(one_folder, tmp_path)

    first = prune(one_folder)
    Backup.objects.filter(pk=imported.pk).update(imported_at=timezone.now() - timedelta(days=7))
    later = prune(one_folder)

    assert first.result["removed"] == [three[0].name]
    assert later.result["removed"] == [NAME]


def test_a_removed_backup_that_was_put_back_and_imported_stays_too(
    one_folder: Site, three: list[Backup], tmp_path: Path
) -> None:
    kept = tmp_path / three[0].name
    kept.write_bytes((one_folder.working / three[0].name).read_bytes())
    assert prune(one_folder).result["removed"] == [three[0].name]
    kept.rename(one_folder.working / kept.name)
    assert one_folder.import_found().result["adopted"] == [kept.name]

    again = prune(one_folder)

    assert again.result["removed"] == []
    decision = next(one for one in retention.plan().decisions if one.name == kept.name)
    assert decision.reason == "Imported of late, kept for 7 days."


def test_an_uploaded_file_stays_too(one_folder: Site, three: list[Backup], tmp_path: Path) -> None:
    operation = one_folder.upload(old_dump(one_folder, tmp_path / "dump", "--exclude-table=x").read_bytes())
    uploaded = older(Backup.objects.get(name=operation.result["backup"]), 300)

    assert uploaded.name not in prune(one_folder).result["removed"]
