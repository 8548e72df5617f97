"""On a German page stands no English sentence, whoever wrote it down and when."""

from __future__ import annotations

import html
import re
from functools import lru_cache
from pathlib import Path

import polib
import pytest
from django.conf import settings

from backups_app.models import BackupCopy, Operation
from tests.interface.conftest import Log_in, make_backup, make_operation, make_restore
from tests.interface.test_every_page import GETS

pytestmark = pytest.mark.django_db

_PLACES = re.compile(r"\{\w+\}|%\(\w+\)s|%\(\w+\)d|%[ds]")
LONG_ENOUGH = 14
UNREADABLE = "The file qrdb_20260525_143022.sql cannot be read: Input/output error."
OUT_OF_REACH = (
    "The storage location old (/mnt/old) cannot be used: the network mount is stale: mount it again."
)
FAILED = f"{UNREADABLE} The live database was not touched."
NOT_MIGRATED = "The migrations were not run, because the API is stopped: start it, then run them."
STEPS = (
    "Read the whole archive",
    "The API was already stopped.",
    "The copy in nas cannot be read now: " + UNREADABLE,
    "Left alone: " + UNREADABLE,
    "New since qrdb_20250525_143022.sql: scans 412, QR codes 3. Deleted since: scans 0, QR codes 0.",
    "Removed qrdb_20250101_000000.sql: Older than the 5 newest intact ones.",
    "The rows of the live database cannot be counted: " + UNREADABLE,
)
CHECK = {"title": "Invalid indexes", "outcome": "failed", "message": UNREADABLE, "remedy": ""}
PAGES = [
    (role, address)
    for address, answers in GETS.items()
    for role in ("itstaff", "superuser")
    if answers[role] == 200 and not address.endswith("export/") and (role == "itstaff" or "auth/" in address)
]


@lru_cache
def english() -> dict[str, str]:
    """What is longest between the places of each English text -> that text."""
    catalogue = polib.pofile(str(Path(settings.LOCALE_PATHS[0]) / "de/LC_MESSAGES/django.po"))
    pieces = {}
    for entry in catalogue:
        for written in filter(None, (entry.msgid, entry.msgid_plural)):
            piece = max(_PLACES.split(written), key=len).strip()
            if len(piece) >= LONG_ENOUGH and " " in piece and piece not in str(entry.msgstr):
                pieces[piece] = written
    return pieces


def text_of(page: str) -> str:
    without = re.sub(r"<(script|style|pre)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", without)))


@pytest.fixture(autouse=True)
def trail(db: None) -> None:
    backup = make_backup(
        pk=1,
        damage=UNREADABLE,
        warnings=["The API was not brought back yet: see the trail."],
    )
    BackupCopy.objects.create(backup=backup, location="old", state="corrupt", problem=OUT_OF_REACH)
    failed = make_operation(pk=1, backup=backup, state="failed", error=FAILED, result={"checks": [CHECK]})
    for step in STEPS:
        failed.note(step)
    make_restore(backup, pk=1, operation_pk=2, warnings=[NOT_MIGRATED])
    Operation.objects.filter(pk=2).update(state="failed", error=FAILED)
    make_operation(pk=3, state="running", kind="validate_backup", backup=backup, current_step=STEPS[0])


def test_the_texts_to_look_for_are_many() -> None:
    assert len(english()) > 700


@pytest.mark.parametrize(("role", "address"), PAGES)
def test_a_german_page_says_nothing_in_english(log_in: Log_in, role: str, address: str) -> None:
    client = log_in(role, headers={"Accept-Language": "de"})

    page = text_of(client.get(f"/{address}").content.decode())

    assert "<html" not in page
    found = [written for piece, written in english().items() if piece in page]
    assert not found
