"""The way back in docs/site-recovery.md, gone step by step as it stands there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg

from backups_app.systems.postgres import clients
from backups_app.systems.postgres.connections import Server
from backups_app.systems.postgres.connections import environment as libpq
from tests.conftest import url_of

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"\bqradmin_site_20260525_040500\.(?:sqlite3|dump)\b")


class Recovered:
    """A site as processes, whose documented steps can be run."""

    def __init__(self, folder: Path, managed: Server, site_url: str) -> None:
        self.folder, self.backups = folder, folder / "backups"
        self.backups.mkdir(mode=0o700)
        programs = clients.for_dump(16).path.parent
        self.environment = libpq(managed.at("qradmin"), "tests") | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "SECRET_KEY": "only-for-tests-" + 50 * "x",
            "DATABASE_URL": site_url,
            "MANAGED_DATABASE_URL": url_of(managed),
            "BACKUP_LOCATIONS": f"working={self.backups}",
            "LOG_LEVEL": "ERROR",
            "DJANGO_SETTINGS_MODULE": "qradmin.settings",
            "PYTHONPATH": str(ROOT),
        }

    def run(self, text: str) -> str:
        """Shell lines as the page has them."""
        manage = shlex.join([sys.executable, str(ROOT / "manage.py")])
        text = re.sub(r"^manage\.py", manage, text, flags=re.MULTILINE)
        done = subprocess.run(
            ["sh", "-eu", "-c", text],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def ask(self, *commands: str) -> list[dict[str, Any]]:
        """What several commands answer, in one process, which saves the time of starting many."""
        script = (
            "import sys, django; django.setup(); from django.core.management import call_command\n"
            "for command in sys.argv[1:]: call_command(command, json=True)\n"
        )
        words = [sys.executable, "-c", script, *commands]
        return [json.loads(line) for line in self.run(shlex.join(words)).splitlines()]

    def follow(self, site_backup: str, *, what: str) -> str:
        """Every step of the page for SQLite or PostgreSQL; what they print."""
        page = (ROOT / "docs" / "site-recovery.md").read_text()
        blocks = re.findall(r"^    ```sh\n(.+?)^    ```$", page, re.MULTILINE | re.DOTALL)
        others = {"site.sqlite3": "createdb", "createdb": "site.sqlite3.old"}[what]
        wanted = [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks if others not in block]
        assert len(wanted) == 4, "compare, put back, close, find"
        file = str(self.backups / site_backup)
        return "".join(self.run(EXAMPLE.sub(file, block)) for block in wanted)


def backups_of(listed: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["origin"] for one in listed["backups"]}


def lose(site: Recovered) -> tuple[str, dict[str, str]]:
    """A backup before the site's own, and one after it: the name of the site's, and what the list held."""
    site.run("manage.py migrate --verbosity=0")
    _, kept, _, listed = site.ask("backup", "backup_site", "backup", "backups")
    return kept["file"], backups_of(listed)


def test_a_lost_sqlite_file_is_put_back(managed: Server, tmp_path: Path) -> None:
    site = Recovered(tmp_path, managed, f"sqlite:///{tmp_path / 'site.sqlite3'}")
    file, before = lose(site)
    (tmp_path / "site.sqlite3").write_bytes(b"ruined")

    told = site.follow(file, what="site.sqlite3")

    assert len(before) == 2
    assert backups_of(site.ask("backups")[0]) == before
    digests = re.findall(r"\b[0-9a-f]{64}\b", told)
    assert digests[0] == digests[1]
    assert "Operations that were closed: 2." in told  # the backup of the site itself was at work then


def test_a_lost_postgresql_database_is_put_back(managed: Server, superuser: Any, tmp_path: Path) -> None:
    superuser.execute(f"CREATE DATABASE qradmin OWNER {managed.user}")
    site = Recovered(tmp_path, managed, url_of(managed.at("qradmin")))
    file, before = lose(site)
    with psycopg.connect(url_of(managed.at("qradmin")), autocommit=True) as connection:
        connection.execute("DROP TABLE backups_app_step, django_session CASCADE")

    told = site.follow(file, what="createdb")

    assert file.endswith(".dump")
    assert backups_of(site.ask("backups")[0]) == before
    assert "Operations that were closed: 2." in told
