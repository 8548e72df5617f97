"""The clean-up's page and command: said beforehand, done by a worker."""

from __future__ import annotations

import io
import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from backups_app.admin import pruning
from backups_app.models import Backup, Operation
from backups_app.operations import places
from backups_app.systems.vault.local import LocalLocation
from tests.interface.conftest import make_backup

PAGE = "/backups_app/backup/prune/"
OLD = "qrdb_20260501_040000.sql"


@pytest.fixture
def three(stored: Backup, settings: Settings) -> None:
    """Three backups with their files, of which two are to be kept."""
    settings.BACKUP_KEEP = "2"
    folder = Path(settings.BACKUP_LOCATIONS.partition("=")[2])
    for days, name in ((1, "qrdb_20260524_040000.sql"), (20, OLD)):
        make_backup(name, created_at=timezone.now() - timedelta(days=days))
        (folder / name).write_bytes(b"hello world")


def test_what_would_go_and_why_is_said_before_anything_is_done(staff: Client, three: None) -> None:
    page = staff.get(PAGE).content.decode()

    assert OLD in page
    assert "Older than the 2 newest intact ones." in page
    assert "Number 2 of the 2 newest." in page
    assert "Remove 1 backup" in page
    assert not Operation.objects.filter(kind="prune").exists()
    answer = staff.post(PAGE)
    asked = Operation.objects.get(kind="prune")
    assert answer.headers["Location"] == f"/backups_app/operation/{asked.pk}/change/"
    assert PAGE in staff.get("/backups_app/backup/").content.decode()


def test_while_it_is_frozen_there_is_no_button(staff: Client, three: None) -> None:
    now = timezone.now()
    Operation.objects.create(kind="backup", state="failed", expires_at=now, finished_at=now)

    page = staff.get(PAGE).content.decode()

    assert "Nothing is removed while the last backup has failed" in page
    assert "Remove 1 backup" not in page


def test_a_location_that_does_not_answer_is_said_and_the_page_comes_back(
    staff: Client, three: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BACKUP_LOCATIONS += f",dead={settings.BACKUP_LOCATIONS.partition('=')[2]}/nothing-here"
    names = LocalLocation.names
    hangs = threading.Event()

    def silent(location: LocalLocation) -> Any:
        return hangs.wait(60) if location.alias == "dead" else names(location)

    monkeypatch.setattr(LocalLocation, "names", silent)
    monkeypatch.setattr(places, "PAGE_SECONDS", 0.2)
    page = staff.get(PAGE).content.decode()
    hangs.set()

    assert "did not answer in time. What lies there alone is kept." in page
    assert "Remove 1 backup" in page


def test_what_the_page_has_no_room_for_is_counted(
    staff: Client, three: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "SHOWN", 1)

    page = staff.get(PAGE).content.decode()

    assert "And 1 older one: manage.py prune --dry-run lists it too." in page
    assert "Remove 1 backup" in page


def test_a_wrong_setting_is_said_on_the_page(staff: Client, three: None, settings: Settings) -> None:
    settings.BACKUP_KEEP = "many"

    page = staff.get(PAGE)

    assert page.status_code == 200
    assert "BACKUP_KEEP has to be a whole number" in page.content.decode()
    assert staff.post(PAGE).headers["Location"] == "/backups_app/backup/"
    assert not Operation.objects.filter(kind="prune").exists()


def test_the_command_says_it_first_and_does_it_then(three: None, stored: Backup) -> None:
    def prune(*words: str) -> Any:
        output = io.StringIO()
        call_command("prune", *words, "--json", stdout=output)
        return json.loads(output.getvalue())

    said = prune("--dry-run")
    assert [one["name"] for one in said["decisions"] if one["goes"]] == [OLD]
    assert Backup.objects.present().count() == 3

    done = prune()
    assert (done["state"], done["removed"]) == ("succeeded", [OLD])
    assert Backup.objects.get(name=OLD).state == "removed"
