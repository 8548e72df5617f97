"""The site's own database is an older one again: what came since is not harmed, what went since is said."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from backups_app import tasks
from backups_app.models import Backup, Operation, RestoreEvent
from backups_app.operations import housekeeping, sidecars, site_recovery
from tests.operations.site import WHO, Site

GONE = "Its file was gone when the site's own database came back."


def running(request: Callable[..., Operation], *args: Any, **facts: Any) -> Operation:
    """An operation that was at work when the site was backed up."""
    operation = Operation.objects.claim(request(*args, **WHO).pk, host="gone", pid=1)
    assert operation is not None
    Operation.objects.filter(pk=operation.pk).update(**facts)
    return operation


def lost_row(site: Site) -> str:
    """A backup that was taken after the site's own was: its files lie there, no record knows it."""
    backup = site.backup()
    Operation.objects.filter(backup=backup).update(backup=None)
    backup.copies.all()._raw_delete("default")
    Backup.objects.filter(pk=backup.pk)._raw_delete("default")
    return backup.name


def test_a_backup_that_was_being_made_then_is_not_cleaned_up_but_found(site: Site) -> None:
    name = lost_row(site)
    half = {"what": "file", "name": name, "location": "working"}
    running(tasks.request_backup, leftovers=[half])

    site_recovery.after_recovery()
    housekeeping.keep_house()

    assert (site.working / name).exists()
    assert site.import_found().result["adopted"] == [name]


def test_a_trial_that_was_being_made_then_is_not_dropped(site: Site) -> None:
    backup = site.backup()
    with site.connected("postgres") as connection:
        connection.execute("CREATE DATABASE qrdb_trial_1_abcdef")
    half = {"what": "database", "name": "qrdb_trial_1_abcdef", "is_drill": False}
    running(tasks.request_trial, backup, leftovers=[half])

    done = site_recovery.after_recovery()
    housekeeping.keep_house()

    assert done.left == ["qrdb_trial_1_abcdef"]
    assert "qrdb_trial_1_abcdef" in site.databases()


def test_the_live_database_is_never_swapped_for_one_of_that_time(site: Site) -> None:
    backup = site.backup()
    restore = running(partial(tasks.request_restore, reason="a test"), backup, api_stop_intended=True)
    event = RestoreEvent.objects.create(operation=restore, backup=backup)

    done = site_recovery.after_recovery()

    assert (done.api, done.closed) == ([restore.pk], [restore.pk])
    assert not Operation.objects.owing_the_api().exists()
    event.refresh_from_db()
    assert "what became of it is not known" in event.warnings[0]


def test_what_a_clean_up_has_removed_since_is_marked_and_does_not_fail_the_check_of_the_copies(
    site: Site,
) -> None:
    gone, there = site.backup(), site.backup()
    for folder in (site.working, site.second):
        (folder / gone.name).unlink()

    done = site_recovery.after_recovery()

    assert done.removed == [gone.name]
    gone.refresh_from_db()
    there.refresh_from_db()
    assert (gone.state, gone.removed_reason, there.is_present) == ("removed", GONE, True)
    assert site.check_copies().state == "succeeded"
    assert site_recovery.after_recovery().removed == []


def test_a_file_that_comes_back_is_found_and_not_removed(site: Site) -> None:
    gone, _there = site.backup(), site.backup()
    files = [folder / gone.name for folder in (site.working, site.second)]
    content = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    site_recovery.after_recovery()
    files[0].write_bytes(content[0])

    site.attempt(tasks.request("prune", **WHO))

    assert files[0].exists()
    assert site.import_found().result["adopted"] == [gone.name]


@pytest.mark.parametrize("away", ["down", "empty", "no longer configured"])
def test_where_a_location_does_not_answer_nothing_is_marked(
    site: Site, settings: Settings, away: str
) -> None:
    backup, _other = site.backup(), site.backup()
    (site.working / backup.name).unlink()
    for file in site.second.iterdir():
        file.unlink()
    if away == "down":
        site.second.rmdir()
    elif away == "no longer configured":
        settings.BACKUP_LOCATIONS = f"working={site.working}"

    done = site_recovery.after_recovery()

    assert done.removed == []
    assert bool(done.warnings) == (away != "no longer configured")


def test_a_pin_that_was_set_since_is_set_again(site: Site) -> None:
    backup = site.backup()
    backup.pin("before the upgrade")
    assert sidecars.write_promptly(backup)
    backup.unpin()  # as the older record has it

    done = site_recovery.after_recovery()

    backup.refresh_from_db()
    assert (done.pinned, backup.is_pinned, backup.pin_reason) == ([backup.name], True, "before the upgrade")


def test_damage_that_was_found_since_is_marked_again(site: Site) -> None:
    backup = site.backup()
    backup.mark_damaged("Its rows differ.")
    assert sidecars.write_promptly(backup)
    backup.mark_validated()  # as the older record has it

    done = site_recovery.after_recovery()

    backup.refresh_from_db()
    assert (done.damaged, backup.damage) == ([backup.name], "Its rows differ.")


def test_a_file_that_was_imported_again_since_is_not_removed_with_the_others(site: Site) -> None:
    backup, _other = site.backup(), site.backup()
    backup.mark_removed("a clean-up that did not reach its files")

    site_recovery.after_recovery()
    site.attempt(tasks.request("prune", **WHO))

    assert (site.working / backup.name).exists()
    assert site.import_found().result["adopted"] == [backup.name]


def test_a_database_of_another_site_is_said(site: Site, settings: Settings) -> None:
    site.backup()
    settings.MANAGED_DATABASE_URL = settings.MANAGED_DATABASE_URL.replace("/qrdb", "/qrtest")

    first = site_recovery.after_recovery()
    now = timezone.now()
    theirs = {"site": "theirs.example", "managed_database": "db:5432/qrdb"}
    Operation.objects.create(
        kind="backup_site", state="succeeded", result={"site": theirs}, expires_at=now, finished_at=now
    )
    second = site_recovery.after_recovery()

    assert "belongs to a site that backs up qrdb, not qrtest" in first.warnings[0]
    assert "is that of theirs.example (db:5432/qrdb), and this one is testserver (" in second.warnings[0]
