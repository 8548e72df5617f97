"""A clock that was set back: no name is given twice, and the newest backup stays the newest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import pytest

from backups_app.models import Backup
from backups_app.operations import backup as backup_module
from backups_app.systems.vault import parse_name
from tests.operations.site import Site


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function: this machine's clock is so much behind, and moves on; PostgreSQL has its own."""
    behind = [timedelta()]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) - behind[0]

    monkeypatch.setattr(backup_module, "datetime", Clock)
    return lambda **by: behind.__setitem__(0, timedelta(**by))


def test_the_newest_stays_the_newest_when_the_clock_is_set_back(one_folder: Site, clock: Any) -> None:
    first = one_folder.backup()
    clock(hours=3)

    second = one_folder.backup()

    assert parse_name(second.name).moment < parse_name(first.name).moment
    assert second.created_at > first.created_at
    assert Backup.objects.first() == second


def test_a_second_that_comes_twice_gives_two_names(one_folder: Site, clock: Any) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    taken = [one_folder.backup() for _ in range(2)]
    clock(seconds=(datetime.now(UTC) - now).total_seconds())

    again = one_folder.backup()

    assert again.name not in {backup.name for backup in taken}
    assert len(list(one_folder.working.glob("*.sql"))) == 3
