"""What ends a start is one JSON object a line too: settings, warnings of Python, a database that is down."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from deploy.demo import embedded
from tests.site.conftest import Run

KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("-c", "import qradmin.wsgi"), 4),
        (("manage.py", "wait_for_database"), 1),
        (("manage.py", "check_start"), 1),
    ],
    ids=["web", "wait", "check"],
)
def test_wrong_settings_are_told_a_line_each(run: Run, words: tuple[str, ...], status: int) -> None:
    done = run(*words, SECRET_KEY=None, QUEUE_WORKERS="abc", DEBUG="True", LOG_FORMAT="json")

    assert done.returncode == status
    told = [line for line in lines(done.stderr) if line["level"] == "ERROR"]
    assert len(told) == 2
    assert told[0]["message"].startswith("(qradmin.E001) SECRET_KEY is not set. ")
    assert told[1]["message"].startswith("(qradmin.E030) QUEUE_WORKERS is 'abc'. ")


def test_a_web_server_without_its_static_files_says_so_and_ends(run: Run, tmp_path: Path) -> None:
    done = run("-c", "import qradmin.wsgi", STATIC_ROOT=str(tmp_path / "nowhere"))

    assert done.returncode == 4
    (told,) = [line for line in lines(done.stderr) if line["level"] == "ERROR"]
    assert told["message"].startswith("(qradmin.E046) The static files are not in ")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SECRET_KEY", b"\xfcber" + 40 * b"hunter2"),
        ("DATABASE_URL", b"postgresql://site:hunter2\xff@db/site"),
        ("MANAGED_DATABASE_URL", b"postgresql://site:hunter2\xff@db/site"),
        ("S3_SECRET_KEY_WORKING", b"hunter2\xff"),
        ("LOG_FORMAT", b"hunter2\xff"),
        ("ENV_FILE", b"/hunter2\xff"),
    ],
)
def test_a_variable_that_is_no_text_is_a_line(run: Run, variable: str, value: bytes) -> None:
    done = run("-c", "import qradmin.wsgi", **{variable: os.fsdecode(value)})

    assert done.returncode == 4
    told = [line["message"] for line in lines(done.stderr)]
    assert any(line.startswith(f"(qradmin.E052) {variable} is no text in UTF-8. ") for line in told)
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (("-c", "import qradmin.wsgi"), {"DEBUG": "True"}),
        (("manage.py", "wait_for_database"), {}),
        (("manage.py", "check"), {}),
    ],
    ids=["development", "wait", "command"],
)
def test_what_shows_no_collected_files_starts_without_them(
    run: Run, tmp_path: Path, words: tuple[str, ...], more: dict[str, str]
) -> None:
    assert run(*words, STATIC_ROOT=str(tmp_path / "nowhere"), **more).returncode == 0


def test_a_warning_of_the_check_ends_no_start(run: Run) -> None:
    # With DEBUG no static files have to be collected.
    facts = {"SECRET_KEY": KEY, "BACKUP_LOCATIONS": "nas=/nowhere/there", "DEBUG": "True"}

    done = run("manage.py", "check_start", LOG_FORMAT="json", **facts)

    assert done.returncode == 0
    (told,) = [line for line in lines(done.stderr) if "W045" in line["message"]]
    assert told["level"] == "WARNING"
    assert "does not exist" in told["message"]


def test_a_warning_of_python_is_a_line_too(run: Run) -> None:
    code = "import django; django.setup(); import warnings; warnings.warn('of old age', DeprecationWarning)"

    (line,) = lines(run("-W", "always", "-c", code).stderr)

    assert line["level"] == "WARNING"
    assert "DeprecationWarning: of old age" in line["message"]


def test_a_worker_without_its_database_ends_with_lines_of_the_log(run: Run) -> None:
    url = f"postgresql://site:hunter2@127.0.0.1:{embedded.free_port()}/site"

    ended = run("manage.py", "qcluster", DATABASE_URL=url)

    assert ended.returncode == 1
    told = lines(ended.stderr)
    assert told[-1]["level"] in {"ERROR", "CRITICAL"}
    assert any("Connection refused" in json.dumps(line) for line in told)
    assert "hunter2" not in ended.stderr


def test_a_database_that_is_not_waited_for_any_longer_is_a_line(run: Run) -> None:
    url = f"postgresql://site:hunter2@127.0.0.1:{embedded.free_port()}/site"

    (line,) = lines(run("manage.py", "wait_for_database", "--seconds", "0", DATABASE_URL=url).stderr)

    assert line["level"] == "ERROR"
    assert "did not answer within 0 seconds" in line["message"]


def test_a_start_in_text_is_text(run: Run) -> None:
    done = run("-c", "import qradmin.wsgi", SECRET_KEY=None, LOG_FORMAT="text")

    assert "ERROR qradmin.start: (qradmin.E001) SECRET_KEY is not set." in done.stderr
