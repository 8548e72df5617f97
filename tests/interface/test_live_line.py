"""After a restore the newest backup is not the one that the live database goes on from."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from backups_app.models import Backup, RestoreEvent
from backups_app.operations.lineage import Line
from backups_app.presentation import morning
from backups_app.presentation.standing import standing
from tests.interface.conftest import make_backup, make_operation, make_restore

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_place(tmp_path: Any, settings: Any) -> None:
    settings.BACKUP_LOCATIONS = f"working={tmp_path}"


def taken(name: str, hours_ago: float, **changes: Any) -> Backup:
    return make_backup(f"qrdb_{name}.sql", created_at=timezone.now() - timedelta(hours=hours_ago), **changes)


def restored(backup: Backup, hours_ago: float, **changes: Any) -> RestoreEvent:
    """A restore, whose safety backup was made after it had begun."""
    safety = taken(
        f"2026052{RestoreEvent.objects.count()}_111111_before_restore", hours_ago - 0.01, origin="safety"
    )
    when = timezone.now() - timedelta(hours=hours_ago)
    return make_restore(backup, safety_backup=safety, created_at=when, **changes)


def age() -> morning.Finding:
    return next(one for one in morning.judge(standing()) if one.name == "age")


def test_without_a_restore_the_newest_validated_backup_counts() -> None:
    taken("20260520_040000", 30)
    newest = taken("20260521_040000", 6)

    assert (standing().good, standing().line) == (newest, Line.LIVE)


def test_after_a_restore_the_restored_backup_counts_until_there_is_a_new_one() -> None:
    chosen = taken("20260520_040000", 72)
    taken("20260521_040000", 48)
    restored(chosen, 0.5)

    now = standing()
    assert (now.good, now.line) == (chosen, Line.PUT_BACK)
    assert age().severity is morning.Severity.OK
    assert "was restored" in age().message

    later = taken("20260523_040000", 0.1)
    assert (standing().good, standing().line) == (later, Line.LIVE)


def test_a_backup_that_never_came_after_a_restore_is_an_alarm() -> None:
    restored(taken("20260520_040000", 90), 50)

    assert age().severity is morning.Severity.CRITICAL
    assert "since the restore" in age().message


def test_after_an_undo_the_state_before_the_restore_counts() -> None:
    first = restored(taken("20260520_040000", 72), 2, outcome="undone")
    restored(taken("20260521_040000", 48), 1, undoes=first)

    now = standing()
    assert (now.good, now.line) == (first.safety_backup, Line.PUT_BACK)


def test_a_restore_that_changed_nothing_does_not_count() -> None:
    event = restored(taken("20260520_040000", 72), 5, outcome="rolled_back")

    # the safety backup holds the live state
    assert (standing().good, standing().line) == (event.safety_backup, Line.LIVE)


def test_where_the_restored_backup_is_gone_the_card_says_what_is_left(staff: Client) -> None:
    chosen = taken("20260520_040000", 72)
    event = restored(chosen, 0.5)
    chosen.removed_at = timezone.now()
    chosen.save()

    now = standing()
    assert (now.good, now.line) == (event.safety_backup, Line.REPLACED)
    assert "holds the state before the restore" in staff.get("/").content.decode()


def test_the_card_names_the_restore(staff: Client) -> None:
    restored(taken("20260520_040000", 72), 0.5)

    assert "restored 30 minutes ago" in staff.get("/").content.decode().replace("\xa0", " ")


def test_what_was_counted_before_the_restore_is_not_told_after_it() -> None:
    chosen = taken("20260520_040000", 72)
    counted = {"exposure": {"backup": chosen.name, "scans": 412, "codes": 2}}
    make_operation("validate_database", result=counted)
    assert morning.exposure_of(standing()) is not None

    restored(chosen, 0)
    assert morning.exposure_of(standing()) is None

    make_operation("validate_database", result=counted)
    assert morning.exposure_of(standing()) is not None
