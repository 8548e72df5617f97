"""The commands, as a person and as a script call them: whole processes, no worker."""

from __future__ import annotations

import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backups_app.systems.postgres.connections import Server
from tests.conftest import SiteDatabase, url_of

ROOT = Path(__file__).resolve().parents[2]
Manage = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(managed: Server, site_database: SiteDatabase, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "backups").mkdir(mode=0o700)
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "ENV_FILE": os.devnull,
        "SECRET_KEY": "only-for-tests-" + 50 * "x",
        "DATABASE_URL": site_database.url,
        "MANAGED_DATABASE_URL": url_of(managed),
        "BACKUP_LOCATIONS": f"working={tmp_path / 'backups'}",
        "LOG_LEVEL": "ERROR",
    }


@pytest.fixture
def unmigrated(environment: dict[str, str]) -> Manage:
    """Runs one command as a process; no terminal, nothing on standard input."""

    def manage(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT,
            env=environment | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return manage


@pytest.fixture
def manage(unmigrated: Manage, site_database: SiteDatabase) -> Manage:
    site_database.migrate()
    return unmigrated


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one object on standard output."""
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    return found


def test_the_whole_circle_works_without_a_worker(
    manage: Manage, owner: psycopg.Connection[Any], tmp_path: Path
) -> None:
    before = owner.execute("SELECT c::text FROM qr_codes c ORDER BY id").fetchall()

    made = answer(manage("backup", "--json"))
    name = made["backup"]
    validated = answer(manage("validate_backup", name, "--json"))
    proven = answer(manage("prove_backup", name, "--json"))
    listed = answer(manage("backups", "--json"))
    owner.execute("DELETE FROM qr_codes WHERE id IN (SELECT id FROM qr_codes LIMIT 20)")
    restored = answer(manage("restore", name, "--reason", "codes were deleted", "--yes", "--json"))
    after = _rows(manage, owner)
    undone = answer(manage("undo_restore", "--reason", "try it out", "--yes", "--json"))

    assert [made["state"], validated["state"], proven["state"]] == 3 * ["succeeded"]
    assert made["error"] is None
    assert [(one["name"], one["state"]) for one in listed["backups"]] == [(name, "proven")]
    assert (restored["state"], restored["backup"]) == ("succeeded", name)
    assert after == before
    assert undone["state"] == "succeeded"
    assert len(_rows(manage, owner)) == len(before) - 20
    assert stat.S_IMODE((tmp_path / "backups" / name).stat().st_mode) == 0o600


def _rows(_manage: Manage, owner: psycopg.Connection[Any]) -> list[Any]:
    """A restore ends every session: ask on a new one."""
    info = owner.info
    with psycopg.connect(
        host=info.host, port=info.port, user=info.user, password=info.password, dbname="qrdb"
    ) as connection:
        return connection.execute("SELECT c::text FROM qr_codes c ORDER BY id").fetchall()


def test_a_sound_database_is_told_check_by_check(manage: Manage) -> None:
    done = manage("validate_database")

    assert done.returncode == 0
    assert "Required columns: All 11 required columns are there." in done.stdout
    assert "Operation 1 succeeded" in done.stdout


def test_a_sick_database_gives_status_1_and_the_remedy(
    manage: Manage, owner: psycopg.Connection[Any]
) -> None:
    owner.execute("ALTER TABLE qr_codes DROP COLUMN border")

    done = manage("validate_database", "--json")

    assert done.returncode == 1
    assert answer(done)["state"] == "failed"
    assert "border" in answer(done)["error"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("qrdb_20200101_000000.sql", "There is no backup named qrdb_20200101_000000.sql."),
        ("../etc/passwd", "is not the name of a backup file"),
        ("/qrdb_20200101_000000.sql", "is not the name of a backup file"),
        ("qrdb.sql", "is not the name of a backup file"),
    ],
)
def test_an_unknown_name_gives_one_sentence_and_no_operation(
    manage: Manage, name: str, sentence: str
) -> None:
    done = manage("restore", name, "--reason", "x", "--yes", "--json")

    assert done.returncode == 1
    assert sentence in answer(done)["error"]
    assert answer(done)["operation"] is None
    assert "Traceback" not in done.stderr


def test_a_restore_is_not_done_when_nobody_can_confirm_it(manage: Manage) -> None:
    name = answer(manage("backup", "--json"))["backup"]

    done = manage("restore", name, "--reason", "x")

    assert done.returncode == 1
    assert "add --yes" in done.stderr


def test_a_server_that_is_down_is_said_in_one_sentence(manage: Manage) -> None:
    done = manage("backup", MANAGED_DATABASE_URL="postgresql://u:secret-word@127.0.0.1:1/qrdb")

    assert done.returncode == 1
    assert "PostgreSQL at 127.0.0.1:1 cannot be reached" in done.stderr
    assert "Nothing was changed." in done.stderr
    assert "secret-word" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_an_unmigrated_site_says_what_to_run(unmigrated: Manage) -> None:
    done = unmigrated("backups", "--json")

    assert done.returncode == 1
    assert "run manage.py migrate" in answer(done)["error"]


def test_a_wrong_setting_is_named_before_anything_starts(manage: Manage) -> None:
    done = manage("backup", BACKUP_LOCATIONS="working=relative/path")

    assert done.returncode == 1
    assert "qradmin.E004" in done.stderr
    assert "BACKUP_LOCATIONS" in done.stderr
    assert "Traceback" not in done.stderr


def test_sigterm_ends_a_backup_and_closes_its_record(
    manage: Manage,
    environment: dict[str, str],
    owner: psycopg.Connection[Any],
    superuser: psycopg.Connection[Any],
    tmp_path: Path,
) -> None:
    owner.execute("BEGIN")
    owner.execute("LOCK TABLE scan_logs IN ACCESS EXCLUSIVE MODE")
    with subprocess.Popen(
        [sys.executable, "manage.py", "backup", "--json"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        _wait_until_blocked(superuser)

        running.send_signal(signal.SIGTERM)
        output, _ = running.communicate(timeout=20)
    owner.execute("ROLLBACK")

    assert running.returncode == 1
    assert output == "" or json.loads(output)["state"] == "cancelled"
    assert [path.name for path in (tmp_path / "backups").iterdir()] == []


def _wait_until_blocked(superuser: psycopg.Connection[Any]) -> None:
    deadline = time.monotonic() + 20
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = 'qrdb'"
    while time.monotonic() < deadline:
        row = superuser.execute(query).fetchone()
        if row and row[0]:
            return
        time.sleep(0.1)
    pytest.fail("the backup never waited for the lock")


def test_a_terminal_is_asked_for_the_file_name(manage: Manage, environment: dict[str, str]) -> None:
    name = answer(manage("backup", "--json"))["backup"]
    ours, theirs = pty.openpty()

    with subprocess.Popen(
        [sys.executable, "manage.py", "restore", name, "--reason", "practice"],
        cwd=ROOT,
        env=environment,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        os.write(ours, b"something else\n")
        _, errors = running.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)

    assert running.returncode == 1
    assert "Nothing was changed." in errors


def test_a_file_of_variables_is_read_only_where_it_is_named(unmigrated: Manage, tmp_path: Path) -> None:
    file = tmp_path / "variables"
    file.write_text("BACKUP_KEEP=0\n")

    assert "BACKUP_KEEP" not in unmigrated("check").stderr
    assert "BACKUP_KEEP" in unmigrated("check", ENV_FILE=str(file)).stderr
