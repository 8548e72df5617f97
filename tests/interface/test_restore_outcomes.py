"""How a restore came out is told the same everywhere: on its page, in the lists and on the overview."""

from __future__ import annotations

import importlib
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.test import Client
from django.utils import timezone

from backups_app import migrations
from backups_app.models import Operation, RestoreEvent
from backups_app.presentation import words
from tests.interface.conftest import make_backup, make_restore

pytestmark = pytest.mark.django_db

BROKEN = "The migrations failed with status 1. The database was replaced."


@pytest.fixture(autouse=True)
def room(tmp_path: Path, settings: Any) -> None:
    settings.BACKUP_LOCATIONS = f"working={tmp_path}"


def restore(outcome: str, state: str, *, day: int = 25, error: str = "", **changes: Any) -> RestoreEvent:
    event = make_restore(make_backup(f"qrdb_202605{day}_143022.sql"), outcome=outcome, **changes)
    ended = None if state == "running" else timezone.now()
    Operation.objects.filter(pk=event.operation_id).update(state=state, error=error, finished_at=ended)
    event.refresh_from_db()
    return event


def banners(client: Client) -> list[str]:
    """Those about restores."""
    found = client.get("/").context["banners"]
    return [banner.text for banner in found if "restore" in banner.text.lower()]


def card(client: Client) -> Any:
    return next(card for card in client.get("/").context["cards"] if card.title == "Last restore")


@pytest.mark.parametrize("state", ["failed", "interrupted", "cancelled"])
def test_a_restore_that_broke_off_after_the_swap_is_nowhere_told_as_done(staff: Client, state: str) -> None:
    event = restore("restored", state, error=BROKEN)
    badge = '<span class="state state-bad">Restored, but not finished</span>'

    assert badge in staff.get(f"/backups_app/restoreevent/{event.pk}/change/").content.decode()
    assert badge in staff.get("/backups_app/restoreevent/").content.decode()
    assert badge in staff.get(f"/backups_app/backup/{event.backup_id}/change/").content.decode()
    assert (card(staff).tone, card(staff).detail) == ("bad", "Restored, but not finished")
    assert banners(staff) == [f"The last restore replaced the database, but was not finished: {BROKEN}"]


def test_a_cancelled_restore_is_no_alarm_anywhere(staff: Client) -> None:
    event = restore("cancelled", "cancelled", error="It was cancelled by itstaff.")
    badge = '<span class="state state-quiet">Cancelled, live data untouched</span>'

    page = staff.get(f"/backups_app/restoreevent/{event.pk}/change/").content.decode()
    listed = staff.get("/backups_app/restoreevent/?outcome__exact=cancelled")

    assert badge in page
    assert (
        '<div class="banner quiet"><p><span class="copyable">It was cancelled by itstaff.</span></p></div>'
        in page
    )
    assert 'role="alert"' not in page
    assert event.replaced_database not in page
    assert badge in listed.content.decode()
    assert 'href="?outcome__exact=cancelled"' in staff.get("/backups_app/restoreevent/").content.decode()
    assert (card(staff).tone, card(staff).detail) == ("plain", "Cancelled, live data untouched")
    assert banners(staff) == []


@pytest.mark.parametrize(
    ("newest", "told"),
    [
        (("cancelled", "cancelled"), ["The last restore did not succeed: Rolled back."]),
        (("under_way", "running"), ["The last restore did not succeed: Rolled back."]),
        (("restored", "succeeded"), []),
        (("undone", "succeeded"), []),
    ],
)
def test_only_a_restore_that_went_through_ends_the_banner_of_one_that_failed(
    staff: Client, newest: tuple[str, str], told: list[str]
) -> None:
    restore("rolled_back", "failed", created_at=timezone.now() - timedelta(hours=2))
    restore(newest[0], newest[1], day=26)

    assert banners(staff) == told


def test_a_restore_whose_swap_is_unclear_is_told_whatever_came_after_it(staff: Client) -> None:
    long_ago = timezone.now() - timedelta(days=30)
    unclear = restore("unclear", "interrupted", created_at=long_ago)
    restore("restored", "succeeded", day=26)

    assert banners(staff) == [f"{unclear} did not succeed: Interrupted, look at the database."]


def test_a_failed_restore_of_long_ago_is_no_banner(staff: Client) -> None:
    restore("untouched", "failed", created_at=timezone.now() - timedelta(days=8))

    assert banners(staff) == []


def test_restores_that_were_cancelled_before_there_was_a_word_for_it_get_it() -> None:
    cancelled, failed = restore("untouched", "cancelled"), restore("untouched", "failed", day=26)
    (file,) = Path(migrations.__path__[0]).glob("*_cancelled_restores.py")
    migration: Any = importlib.import_module(f"{migrations.__name__}.{file.stem}")

    migration.tell_the_cancelled_apart(apps, SimpleNamespace(connection=connection))

    cancelled.refresh_from_db()
    failed.refresh_from_db()
    assert (cancelled.outcome, failed.outcome) == ("cancelled", "untouched")


def test_a_long_name_may_be_broken_at_its_underscores_and_shows_no_markup() -> None:
    assert words.at_underscores("qr_<b>") == "qr_<wbr>&lt;b&gt;"
    assert words.at_joints("public.qr_<b>") == "public.<wbr>qr_<wbr>&lt;b&gt;"
