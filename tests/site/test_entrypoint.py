"""A container's worker starts whatever its folders are like, and says what is wrong with them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.site.conftest import ROOT

# Answers for `manage.py`, and stands in for the real one where the case cannot be had: a mount that hangs.
PYTHON = """#!/bin/sh
echo "$2" >>"$CALLS"
case "$2" in
check_start) {check} ;;
esac
"""
REAL = f'exec "{sys.executable}" "$@"'


def start(folder: Path, check: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Start the worker; what came of it, and the commands of manage.py that were called."""
    programs, calls = folder / "programs", folder / "calls"
    programs.mkdir()
    (programs / "python3").write_text(PYTHON.format(check=check))
    (programs / "python3").chmod(0o755)
    started = subprocess.run(
        ["sh", "deploy/container/entrypoint", "worker"],
        cwd=ROOT,
        env={"PATH": f"{programs}:{os.environ['PATH']}", "CALLS": str(calls), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return started, calls.read_text().split()


def test_a_folder_that_is_away_or_full_is_named_and_the_worker_starts(tmp_path: Path) -> None:
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "staticfiles.json").write_text("{}")
    (tmp_path / "working").mkdir(mode=0o700)

    started, calls = start(
        tmp_path,
        REAL,
        SECRET_KEY="abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        DATABASE_URL=f"sqlite:///{tmp_path / 'site.sqlite3'}",
        MANAGED_DATABASE_URL="postgresql://a:b@127.0.0.1:1/qrdb",
        BACKUP_LOCATIONS=f"working={tmp_path / 'working'},nas={tmp_path / 'away'}",
        STATIC_ROOT=str(tmp_path / "static"),
        ENV_FILE=os.devnull,
    )

    assert (started.returncode, calls[-1]) == (0, "qcluster"), started.stderr
    assert "qradmin.W045" in started.stderr
    assert f"nas ({tmp_path / 'away'}) does not exist" in started.stderr


def test_a_folder_that_hangs_holds_the_worker_up_for_a_while_only(tmp_path: Path) -> None:
    started, calls = start(tmp_path, "exec sleep 600", CHECK_SECONDS="1")

    assert (started.returncode, calls) == (0, ["wait_for_database", "check_start", "qcluster"])
    assert "did not end within 1 seconds" in started.stderr


def test_settings_that_cannot_be_used_end_it(tmp_path: Path) -> None:
    started, calls = start(tmp_path, "exit 1")

    assert (started.returncode, calls[-1]) == (1, "check_start")


@pytest.mark.parametrize("seconds", ["abc", "-1", "0", "1.5"])
def test_a_wrong_number_of_seconds_is_named_and_the_default_is_used(tmp_path: Path, seconds: str) -> None:
    started, calls = start(tmp_path, "exit 0", CHECK_SECONDS=seconds)

    assert (started.returncode, calls[-1]) == (0, "qcluster")
    assert (
        f"CHECK_SECONDS is '{seconds}'. It has to be a whole number, at least 1: 30 is used."
        in started.stderr
    )


@pytest.mark.parametrize("value", ["abc", "0", "65", "99999999999"])
def test_a_wrong_number_of_web_processes_is_named_and_the_default_is_used(value: str) -> None:
    shown = subprocess.run(
        [
            *(sys.executable, "-m", "gunicorn", "--print-config"),
            *("--config", "deploy/container/gunicorn_settings.py", "json:loads"),
        ],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "WEB_PROCESSES": value, "WEB_THREADS": "7"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert re.search(r"^workers +=? *2$", shown.stdout, re.MULTILINE), shown.stdout
    assert re.search(r"^threads +=? *7$", shown.stdout, re.MULTILINE)
    (line,) = [json.loads(line) for line in shown.stderr.splitlines()]
    assert line["level"] == "ERROR"
    assert f"WEB_PROCESSES is '{value}'." in line["message"]
    assert "2 is used" in line["message"]
