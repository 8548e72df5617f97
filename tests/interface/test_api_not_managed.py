"""Without a container for the API, every page on which that matters says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.interface.conftest import Log_in, make_backup, make_operation, make_restore
from tests.interface.test_speed import PAGES

pytestmark = pytest.mark.django_db
NOT_OFFERED = '<button type="button" class="act" disabled'


@pytest.fixture(autouse=True)
def no_container(settings: Any) -> None:
    settings.API_CONTAINER = ""


@pytest.mark.parametrize("address", ["", "backups_app/backup/", "runbooks/upgrade/"])
def test_a_production_safe_backup_is_not_offered_and_the_page_says_why(staff: Client, address: str) -> None:
    page = staff.get(f"/{address}").content.decode()

    assert NOT_OFFERED in page
    assert "the API is not managed" in page
    assert 'name="stop_api"' not in page


@pytest.mark.parametrize("address", [page for page in PAGES if not page.endswith(("progress/", "export/"))])
def test_every_page_says_it(log_in: Log_in, settings: Any, tmp_path: Path, address: str) -> None:
    settings.BACKUP_LOCATIONS = f"working={tmp_path}"
    make_restore(make_backup(pk=1), pk=1)
    make_operation(pk=1000)

    page = log_in("superuser").get(f"/{address}").content.decode()

    assert "The API is not managed from here: no container is set for it (API_CONTAINER)." in page


@pytest.mark.parametrize("address", ["", "backups_app/backup/", "runbooks/upgrade/"])
def test_with_a_container_it_is_offered(staff: Client, settings: Any, address: str) -> None:
    settings.API_CONTAINER = "qr_generator_api"

    page = staff.get(f"/{address}").content.decode()

    assert 'name="stop_api"' in page
    assert NOT_OFFERED not in page


def test_the_server_refuses_one_with_the_reason(staff: Client) -> None:
    answer = staff.post("/backups_app/backup/create/", {"stop_api": "1"}, follow=True)

    assert "API_CONTAINER" in answer.content.decode()


def test_a_restore_and_an_undo_say_it(staff: Client) -> None:
    backup = make_backup()
    event = make_restore(backup)

    for address in (f"backup/{backup.pk}/restore/", f"restoreevent/{event.pk}/undo/"):
        assert "The API is not managed from here" in staff.get(f"/backups_app/{address}").content.decode()
