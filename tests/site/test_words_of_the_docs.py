"""The operator's pages of the documentation name things as the site does, and their examples work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polib
import psycopg
import pytest

from backups_app.models import Operation, RestoreEvent
from backups_app.presentation import words
from tests.site.conftest import ROOT

DOCS = ROOT / "docs"
IN_ARTICLES = {"IT staff", "Help desk"}  # groups, not texts of the pages


@pytest.fixture(scope="module")
def texts() -> set[str]:
    """Every text of the pages, without the dots that say that something follows."""
    catalogue = polib.pofile(str(ROOT / "locale" / "de" / "LC_MESSAGES" / "django.po"))
    return {_plain(entry.msgid) for entry in catalogue}


@pytest.mark.parametrize("page", ["coming-from-the-scripts.md", "training.md", "api-container.md"])
def test_what_is_to_be_pressed_or_opened_is_called_as_on_the_page(page: str, texts: set[str]) -> None:
    named = set(re.findall(r"\*\*([A-Z][^*]+)\*\*", _steps(DOCS / page))) - IN_ARTICLES

    assert named or page == "api-container.md"
    assert {name for name in named if _plain(name) not in texts} == set()


def test_a_button_of_the_old_scripts_table_is_named_whole() -> None:
    """Two buttons begin alike: which of them is meant is not left to the reader."""
    table = (DOCS / "coming-from-the-scripts.md").read_text()

    assert "**Back up, production-safe**" in table
    assert not re.search(r"\*\*Back up now\*\*, (quick|production)", table)


def test_every_state_is_explained() -> None:
    states = {str(state.label).lower() for state in Operation.State}
    outcomes = {str(one.label).lower() for one in RestoreEvent.Outcome} - {"under way"}
    backups = {str(text).lower() for _tone, text in words.BACKUP_STATES.values()}

    assert states - set(_first_cells("backup.md")) == set()
    assert backups - set(_first_cells("backup.md")) == set()
    assert outcomes - set(_first_cells("restore.md")) == set()


def test_an_outcome_of_a_restore_stands_in_one_row() -> None:
    table = _first_cells("restore.md", under="## How it can end")

    assert len(table) == len(set(table)) > 5


def test_the_statements_of_the_training_do_something(owner: psycopg.Connection[Any]) -> None:
    page = (DOCS / "training.md").read_text()
    before = _count(owner)

    (deletion,) = re.findall(r"`(DELETE [^`]+)`", page)
    owner.execute(deletion)
    (lock,) = re.findall(r"`(BEGIN; LOCK [^`]+)`", page)
    owner.execute(lock)
    owner.execute("ROLLBACK")

    assert 0 < _count(owner) < before - 9


def _count(owner: psycopg.Connection[Any]) -> int:
    row = owner.execute("SELECT count(*) FROM qr_codes").fetchone()
    assert row is not None
    return int(row[0])


def _steps(page: Path) -> str:
    """Table rows and exercises: prose uses bold for its own words."""
    return "\n".join(line for line in page.read_text().splitlines() if line.startswith(("| ", "- [ ]")))


def _first_cells(page: str, under: str = "") -> list[str]:
    """Of all tables of a page, or of those under one heading."""
    text = (DOCS / page).read_text()
    if under:
        text = text.partition(f"{under}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| ([a-z][^|]*?) \|", text, re.MULTILINE)


def _plain(text: str) -> str:
    return text.strip().rstrip("….:")
