"""An operation in which nothing moves says which sessions block it, and offers to end them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from backups_app.errors import ServerUnavailable
from backups_app.models import Operation
from backups_app.operations import blocking
from backups_app.operations.blocking import Blocker
from backups_app.systems.postgres.activity import Session
from tests.interface.conftest import Log_in, make_operation

pytestmark = pytest.mark.django_db
HOLDER = Session(
    4711,
    "reporter",
    "old report",
    "10.0.0.7",
    "idle in transaction",
    datetime(2026, 5, 25, 4, 0, tzinfo=UTC),
    None,
    "LOCK TABLE qr_codes",
    (),
)
PREPARED = Session(0, "", "a prepared transaction", "", "", None, None, "", ())


@pytest.fixture
def held_up() -> Operation:
    return make_operation("backup", "running", moved_at=timezone.now() - timedelta(seconds=20))


@pytest.fixture
def blockers(monkeypatch: pytest.MonkeyPatch) -> list[Blocker]:
    """What blocks every operation: a session and a prepared transaction."""
    found = [Blocker(HOLDER, is_root=True), Blocker(PREPARED, is_root=True)]
    monkeypatch.setattr(blocking, "blockers_of", lambda _: found)
    return found


def page_of(client: Client, operation: Operation) -> str:
    return client.get(f"/backups_app/operation/{operation.pk}/change/").content.decode()


def test_who_blocks_it_is_shown(staff: Client, held_up: Operation, blockers: list[Blocker]) -> None:
    page = page_of(staff, held_up)

    assert "Nothing has moved for 20 s" in page
    for told in ("4711", "reporter", "old report", "10.0.0.7", "idle in transaction", "LOCK TABLE qr_codes"):
        assert told in page
    assert "2026-05-25T04:00:00Z" in page
    assert "see pg_prepared_xacts" in page
    assert page.count('name="pid"') == 1
    assert "End the chosen sessions" in page


def test_the_help_desk_sees_it_without_a_button(
    log_in: Log_in, held_up: Operation, blockers: list[Blocker]
) -> None:
    page = page_of(log_in("helpdesk"), held_up)

    assert "old report" in page
    assert "End the chosen sessions" not in page
    assert 'name="pid"' not in page


def test_what_moves_is_not_asked_about(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    moving = make_operation("backup", "running", moved_at=timezone.now())

    def refuse(_: Operation) -> Any:
        raise AssertionError("the database was asked")

    monkeypatch.setattr(blocking, "blockers_of", refuse)

    assert "Nothing has moved" not in page_of(staff, moving)
    assert staff.get(f"/backups_app/operation/{moving.pk}/progress/").json()["stands_still"] is False


def test_the_limit_is_a_setting(
    staff: Client, held_up: Operation, blockers: list[Blocker], settings: Any
) -> None:
    settings.STANDSTILL_SECONDS = 60

    assert "Nothing has moved" not in page_of(staff, held_up)


def test_without_a_blocker_that_is_said(
    staff: Client, held_up: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "blockers_of", lambda _: [])

    assert "No session blocks it in the database." in page_of(staff, held_up)


def test_a_server_that_does_not_answer_is_said(
    staff: Client, held_up: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Operation) -> Any:
        raise ServerUnavailable("The server refused the connection.")

    monkeypatch.setattr(blocking, "blockers_of", fail)

    assert "The server refused the connection." in page_of(staff, held_up)
    assert staff.get(f"/backups_app/operation/{held_up.pk}/progress/").json()["stands_still"] is True


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"pid": ["4711"], "reason": " "}, "A reason is needed"),
        ({"pid": [], "reason": "x"}, "Choose at least one session"),
        ({"pid": ["-1", "x"], "reason": "x"}, "Choose at least one session"),
    ],
)
def test_what_makes_no_sense_ends_nothing(
    staff: Client, held_up: Operation, sent: dict[str, Any], told: str, blockers: list[Blocker]
) -> None:
    answer = staff.post(f"/backups_app/operation/{held_up.pk}/end-sessions/", sent, follow=True)

    assert told in answer.content.decode()
    assert not Operation.objects.filter(kind="end_sessions").exists()


def test_an_operation_that_has_ended_is_blocked_by_nobody(staff: Client) -> None:
    done = make_operation()

    answer = staff.post(
        f"/backups_app/operation/{done.pk}/end-sessions/", {"pid": "1", "reason": "x"}, follow=True
    )

    assert "is not running: nothing blocks it" in answer.content.decode()
