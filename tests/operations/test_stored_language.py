"""What is written down is English for everybody, whatever the site's language and whoever asks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone, translation
from django_q.models import Schedule
from pytest_django.fixtures import Settings

from backups_app import schedules, tasks
from backups_app.models import Backup, BackupCopy, Operation, Step
from backups_app.operations import housekeeping, retention
from tests.operations.site import WHO, Site
from tests.operations.test_retention import older

GERMAN = re.compile(
    r"[äöüÄÖÜß]|\b(der|die|das|den|des|ist|wird|und|oder|nicht|nichts|mit|von|seit|als|eine?)\b"
    r"|Sicherung|Datenbank|Jeden|Nummer",
    re.IGNORECASE,
)


@pytest.fixture
def german(one_folder: Site, settings: Settings) -> Iterator[Site]:
    """A site whose language is German, and a reader of German."""
    settings.LANGUAGE_CODE = "de"
    with translation.override("de"):
        yield one_folder


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from texts_in(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from texts_in(one)


def stored() -> set[str]:
    """Every text that the work has left in a row."""
    rows = [
        *Step.objects.values_list("what", "detail"),
        *Operation.objects.values_list("error", "result", "reason"),
        *Backup.objects.values_list("removed_reason", "damage", "warnings"),
        *BackupCopy.objects.values_list("problem"),
    ]
    return {text for row in rows for text in texts_in(list(row))}


def german_in(texts: set[str]) -> list[str]:
    return sorted(text for text in texts if GERMAN.search(text))


def test_the_work_writes_english(german: Site, settings: Settings) -> None:
    settings.BACKUP_KEEP = "50"
    first = older(german.backup(), 9)
    german.execute("DELETE FROM scan_logs WHERE id IN (SELECT id FROM scan_logs LIMIT 3)")
    german.validate_database()
    settings.BACKUP_KEEP = "1"
    safety = older(german.backup(), 8)
    Backup.objects.filter(pk=safety.pk).update(origin="safety", removed_at=None)
    german.backup()
    german.execute("UPDATE alembic_version SET version_num = 'd59b26b7dd93'")
    german.validate_database()
    german.execute("UPDATE alembic_version SET version_num = '8d13a4dfeb1d'")
    german.prove(Backup.objects.validated().first() or first)
    german.restore(Backup.objects.validated().first() or first)
    german.undo(german.event())
    german.check_copies()
    german.import_found()
    now = timezone.now()
    Operation.objects.create(kind="backup", state="failed", expires_at=now, finished_at=now)
    german.attempt(tasks.request_prune(**WHO))

    texts = stored()

    assert "Older than the 1 newest intact ones." in texts
    assert any("Deleted since: scans" in text for text in texts)
    assert any(text.startswith("Nothing is removed while the last backup has failed") for text in texts)
    assert german_in(texts) == []
    assert german_in({one.reason for one in retention.plan().decisions}), (
        "the page speaks the reader's language"
    )


def test_what_is_refused_and_cancelled_is_told_in_english(german: Site) -> None:
    backup = german.backup()
    waiting = tasks.request_prove_backup(backup, **WHO)
    waiting.request_cancel("tester")
    overdue = tasks.request_validate_database(**WHO)
    Operation.objects.filter(pk=overdue.pk).update(expires_at=timezone.now())
    dead = tasks.request_backup(**WHO)
    Operation.objects.claim(dead.pk, host="elsewhere", pid=1)
    Operation.objects.filter(pk=dead.pk).update(heartbeat_at=timezone.now() - timedelta(minutes=3))
    housekeeping.keep_house()
    (german.working / backup.name).unlink()
    german.validate(backup)

    errors = set(Operation.objects.exclude(error="").values_list("error", flat=True))

    assert len(errors) == 4
    assert german_in(stored()) == []


def test_a_change_of_a_schedule_is_told_in_english(german: Site) -> None:
    schedules.make_schedules()
    row = Schedule.objects.get(name="prune")
    monday = schedules.Timing(schedules.timing_of(row).at, ("1",), is_paused=True)

    operation = schedules.change(row, monday, user=User.objects.create_user("leserin"))

    assert operation is not None
    assert operation.result["after"] == "Monday at 06:00, paused"
    assert german_in(stored()) == []


def test_housekeeping_asks_and_tells_in_english(german: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(housekeeping, "keep_house", lambda: seen.append(str(translation.get_language())))

    tasks.keep_house()

    assert seen == ["en"]
