"""A clean-up and an import at one moment: no file goes whose backup is in the list again."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from backups_app import tasks
from backups_app.models import Backup, Operation
from backups_app.operations import imports, retention
from backups_app.systems.vault import LocalLocation
from tests.operations.site import WHO, Site
from tests.operations.test_retention import prune


@pytest.fixture
def waiting(site: Site) -> Backup:
    """A clean-up has removed it, but has not yet reached its file in the second location."""
    backup = site.backup()
    backup.mark_removed("a clean-up")
    (site.working / backup.name).unlink()
    backup.copies.filter(location="working").update(state="removed", checked_at=timezone.now())
    return backup


def states(backup: Backup) -> dict[str, str]:
    return dict(backup.copies.values_list("location", "state"))


def import_now() -> Operation:
    return tasks.run_here(tasks.request_import(**WHO))


def test_what_an_import_brings_back_during_a_clean_up_keeps_its_file(
    site: Site, waiting: Backup, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, imported = retention.config.location, []

    def meanwhile(alias: str) -> Any:
        if not imported:
            imported.append(import_now())
        return real(alias)

    monkeypatch.setattr(retention.config, "location", meanwhile)

    prune(site)

    waiting.refresh_from_db()
    assert imported[0].result["adopted"] == [waiting.name]
    assert waiting.is_present
    assert states(waiting) == {"working": "pending", "second": "stored"}
    assert (site.second / waiting.name).is_file()


def test_an_import_brings_nothing_back_whose_file_is_being_removed(
    site: Site, waiting: Backup, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, imported = LocalLocation.remove, []

    def meanwhile(location: LocalLocation, name: str) -> bool:
        imported.append(import_now())
        return real(location, name)

    monkeypatch.setattr(LocalLocation, "remove", meanwhile)

    prune(site)

    waiting.refresh_from_db()
    assert imported[0].result["unread"] == [waiting.name]
    assert (waiting.is_present, states(waiting)) == (False, {"working": "removed", "second": "removed"})
    assert not (site.second / waiting.name).exists()


def test_an_import_brings_nothing_back_whose_file_was_removed_since_it_was_read(
    site: Site, waiting: Backup, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = imports.adoption.insist_on_our_database

    def meanwhile(*arguments: Any) -> None:
        tasks.run_here(tasks.request_prune(**WHO))
        real(*arguments)

    monkeypatch.setattr(imports.adoption, "insist_on_our_database", meanwhile)

    imported = site.import_found()

    waiting.refresh_from_db()
    assert imported.result["unread"] == [waiting.name]
    assert (waiting.is_present, states(waiting)) == (False, {"working": "removed", "second": "removed"})


def test_a_removal_that_broke_off_is_done_by_the_next_clean_up(
    site: Site, waiting: Backup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(LocalLocation, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            prune(site)

    prune(site)

    assert states(waiting) == {"working": "removed", "second": "removed"}
    assert not (site.second / waiting.name).exists()
