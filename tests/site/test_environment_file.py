"""The file with variables: read whole, or named with the reason; never shown, as it may hold secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from qradmin.environment import Environment
from tests.site.conftest import Run


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.setattr(Environment, "ENVIRON", {})
    return Environment()


def test_a_file_is_read_beneath_the_environment(env: Environment, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("﻿# ours\n\n   \nONE=1\nexport TWO='2'\nTHREE=\"a b\"\n", encoding="utf-8")
    env.ENVIRON["ONE"] = "set before"

    env.read_file("IT", str(tmp_path / "env"), is_named=True)

    assert env.problems == []
    assert env.ENVIRON == {"ONE": "set before", "TWO": "2", "THREE": "a b"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"NAME=M\xfcller", "it is no text in UTF-8"),
        (b"SECRET_KEY=a\nDATABASE_URL = hunter2\nhunter2\n", "lines 2, 3"),
    ],
    ids=["missing", "latin-1", "lines"],
)
def test_a_named_file_that_cannot_be_used_is_said_without_its_content(
    env: Environment,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    content: bytes | None,
    reason: str,
) -> None:
    if content is not None:
        (tmp_path / "env").write_bytes(content)

    env.read_file("IT", str(tmp_path / "env"), is_named=True)

    (problem,) = env.problems
    assert (problem.id, problem.variable) == ("qradmin.E051", "IT")
    assert reason in problem.message
    assert "hunter2" not in str(problem) + "".join(capfd.readouterr())


def test_the_usual_file_may_be_absent(env: Environment, tmp_path: Path) -> None:
    env.read_file("IT", str(tmp_path / "env"), is_named=False)

    assert env.problems == []


def test_a_named_file_that_is_missing_ends_the_start(run: Run, tmp_path: Path) -> None:
    checked = run("manage.py", "check", ENV_FILE=str(tmp_path / "missing"))

    assert checked.returncode == 1
    assert "(qradmin.E051) The file of ENV_FILE cannot be read: No such file or directory." in checked.stderr
    assert "Traceback" not in checked.stderr


def test_a_line_that_is_none_is_not_shown(run: Run, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("MANAGED_DATABASE_URL = hunter2\n")

    checked = run("manage.py", "check", ENV_FILE=str(tmp_path / "env"))

    assert checked.returncode == 1
    assert "qradmin.E051" in checked.stderr
    assert "hunter2" not in checked.stdout + checked.stderr
