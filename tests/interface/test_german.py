"""The German catalogue: whole, compiled, and chosen by what the browser asks for."""

from __future__ import annotations

import ast
import gettext
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import django
import pytest

from backups_app.admin.stock_texts import STOCK_TEXTS
from tests.interface.conftest import Log_in, make_backup, make_operation
from tests.real_world import need

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = Path("locale/de/LC_MESSAGES/django.po")
COLLECT = """
import sys
from backups_app.management.commands.makemessages import Command
Command().run_from_argv(["django-admin", "makemessages", *sys.argv[1:]])
"""
SOURCES = ("backups_app", "qradmin", "templates", "locale")


def compiled(file: Path) -> dict[object, str]:
    with file.open("rb") as stream:
        messages = gettext.GNUTranslations(stream)._catalog  # type: ignore[attr-defined]
    return {key: text for key, text in messages.items() if key}


@pytest.mark.real
def test_every_text_is_translated_and_compiled(tmp_path: Path) -> None:
    need(shutil.which("xgettext") is not None, "gettext is not installed")
    for folder in SOURCES:
        shutil.copytree(ROOT / folder, tmp_path / folder)
    # The site's own command, which knows the sentences of `say` too; it reads the copy, not this folder.
    extract = ("-c", COLLECT, "--locale=de", "--no-obsolete", "--no-location")
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, *extract], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

    fresh = tmp_path / "fresh.mo"
    counted = subprocess.run(
        ["msgfmt", "--check-format", "--statistics", f"--output-file={fresh}", str(CATALOGUE)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    advice = "run make messages, translate what is new in locale/de, and run it once more"
    assert counted.returncode == 0, counted.stderr
    assert "untranslated" not in counted.stderr, f"{counted.stderr}: {advice}"
    assert "fuzzy" not in counted.stderr, f"{counted.stderr}: {advice}"
    assert compiled(ROOT / CATALOGUE.with_suffix(".mo")) == compiled(fresh), advice


def test_what_djangos_own_german_lacks_of_the_accounts_is_ours() -> None:
    """A newer Django may say things in other words, and then its German may lack other ones."""
    never_sent = {"In case you’ve forgotten, you are:"}
    lacking: set[str] = set()
    for part in ("auth", "admin"):
        folder = Path(django.__file__).parent / "contrib" / part / "locale"
        text = (folder / "en/LC_MESSAGES/django.po").read_text()
        written = re.findall(r'^msgid ((?:".*"\n)+)', text, re.MULTILINE)
        english = {"".join(ast.literal_eval(line) for line in text.splitlines()) for text in written}
        known = compiled(folder / "de/LC_MESSAGES/django.mo")
        german = {str(key[0] if isinstance(key, tuple) else key).split("\x04")[-1] for key in known}
        lacking |= english - german - {""}

    assert lacking - never_sent == set(STOCK_TEXTS)


@pytest.mark.parametrize(
    ("asked_for", "language", "text"),
    [
        ("de-AT,de;q=0.9,en;q=0.5", "de", "Letzte validierte Sicherung"),
        ("en-GB,en;q=0.9", "en", "Last validated backup"),
        ("fr", "en", "Last validated backup"),
    ],
    ids=["german", "english", "unknown"],
)
def test_the_browser_chooses_the_language(log_in: Log_in, asked_for: str, language: str, text: str) -> None:
    answer = log_in("helpdesk").get("/", headers={"accept-language": asked_for})

    page = answer.content.decode()
    assert f'<html lang="{language}"' in page
    assert text in page


def test_a_person_may_choose_another_language(log_in: Log_in) -> None:
    client = log_in("helpdesk")

    client.post("/i18n/setlang/", {"language": "de", "next": "/"})

    assert "Protokoll" in client.get("/", headers={"accept-language": "en"}).content.decode()


def test_ages_and_the_trail_speak_german_too(log_in: Log_in) -> None:
    backup = make_backup()
    operation = make_operation("backup", current_step="Read the whole archive")
    operation.note("Read the whole archive", seconds=2)
    german = {"accept-language": "de"}
    client = log_in("itstaff")

    detail = client.get(f"/backups_app/backup/{backup.pk}/change/", headers=german).content.decode()
    steps = client.get(f"/backups_app/operation/{operation.pk}/change/", headers=german).content.decode()

    assert "vor 3\xa0Stunden" in detail
    assert "Das ganze Archiv lesen" in steps
