"""What is measured: a filled database, a site of its own beside it, and a client that asks all the while."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from deploy.bench import measure
from deploy.bench.measure import Figures
from deploy.demo import embedded, sample

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "bench-only"  # noqa: S105 - of a server that lives for one run on the loopback address
OLD_FLAGS = ("--no-owner", "--no-privileges", "--no-tablespaces")
ASK_EVERY_SECONDS = 0.02


@dataclass(frozen=True)
class Stand:
    """One filled managed database and one site. ``bin`` holds the server's own programs."""

    folder: Path
    server: embedded.EmbeddedServer
    bin: Path
    environment: Mapping[str, str] = field(repr=False)

    def manage(self, *words: str) -> Figures:
        """One of the site's commands as a whole process."""
        argv = (sys.executable, str(ROOT / "manage.py"), *words)
        return measure.run(argv, self.environment, self.folder, self.server.pid)

    def client(self, program: str, *words: str) -> Figures:
        """One of PostgreSQL's client programs as a whole process."""
        return measure.run((str(self.bin / program), *words), self.environment, self.folder, self.server.pid)

    def answer(self, *words: str) -> dict[str, Any]:
        """What a command of the site prints as JSON, not measured."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *words, "--json"],
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return dict(json.loads(done.stdout))

    def superuser(self, database: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(self.server.url(database), autocommit=True)


@contextmanager
def standing(folder: Path, major: int, *, codes: int, scans: int) -> Iterator[Stand]:
    """A server of that major version with one database of that size; all of it is removed afterwards."""
    programs = embedded.find_bin(major)
    if programs is None:
        raise measure.CommandFailedError(f"PostgreSQL {major} is not installed.")
    embedded.make_passable(folder)
    server = embedded.start(folder / "postgresql", bin=programs)
    try:
        _fill(server, codes, scans)
        stand = Stand(folder, server, programs, _environment(folder, server))
        stand.manage("migrate", "--verbosity=0")
        yield stand
    finally:
        server.stop()
        embedded.forget(folder / "postgresql")


@contextmanager
def asked(stand: Stand) -> Iterator[Downtime]:
    """An API's health, asked every 20 ms all through the block: does its database answer a new login?"""
    downtime = Downtime(stand)
    downtime.start()
    try:
        yield downtime
    finally:
        downtime.ended.set()
        downtime.join()


class Downtime(threading.Thread):
    """Adds up how long the database did not answer. While ``is_api_stopped``, nothing answers."""

    def __init__(self, stand: Stand) -> None:
        super().__init__(daemon=True)
        self._url = stand.environment["MANAGED_DATABASE_URL"]
        self.ended, self.is_api_stopped, self.seconds = threading.Event(), False, 0.0

    def run(self) -> None:
        last = time.monotonic()
        while not self.ended.wait(ASK_EVERY_SECONDS):
            is_up = not self.is_api_stopped and self._answers()
            now = time.monotonic()
            if not is_up:
                self.seconds += now - last
            last = now

    def _answers(self) -> bool:
        with suppress(psycopg.Error):
            with psycopg.connect(self._url, connect_timeout=2) as connection:
                connection.execute("SELECT 1 FROM qr_codes LIMIT 1")
            return True
        return False


def old_restore(stand: Stand, archive: Path, downtime: Downtime) -> float:
    """The way of the old scripts: API down, safety dump, drop the tables, restore, API up. Wall seconds."""
    began = time.monotonic()
    downtime.is_api_stopped = True
    stand.client(
        "pg_dump", "--format=custom", *OLD_FLAGS, f"--file={stand.folder / 'old-safety.dump'}", "qrdb"
    )
    with psycopg.connect(stand.environment["MANAGED_DATABASE_URL"], autocommit=True) as owner:
        owner.execute("DROP TABLE IF EXISTS scan_logs, qr_codes, alembic_version CASCADE")
    bare_restore(stand, archive, "qrdb")
    downtime.is_api_stopped = False
    return time.monotonic() - began


def bare_restore(stand: Stand, archive: Path, database: str) -> Figures:
    """pg_restore as the old scripts call it, into an existing database without the tables."""
    return stand.client(
        "pg_restore", "--single-transaction", *OLD_FLAGS, f"--dbname={database}", str(archive)
    )


@contextmanager
def empty_database(stand: Stand, name: str) -> Iterator[str]:
    with stand.superuser() as connection:
        sample.create_database(connection, name)
        yield name
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def database_bytes(stand: Stand) -> int:
    with stand.superuser() as connection:
        row = connection.execute("SELECT pg_database_size('qrdb')").fetchone()
    return int(row[0]) if row else 0


def _fill(server: embedded.EmbeddedServer, codes: int, scans: int) -> None:
    with psycopg.connect(server.url("postgres"), autocommit=True) as superuser:
        sample.create_owner(superuser, PASSWORD)
        sample.create_database(superuser)
    with psycopg.connect(server.url(sample.DATABASE), autocommit=True) as owner:
        owner.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(sample.OWNER)))
        sample.create_filled(owner, codes=codes, scans=scans)
        owner.execute("RESET ROLE")
        owner.execute("VACUUM ANALYZE")


def _environment(folder: Path, server: embedded.EmbeddedServer) -> dict[str, str]:
    for name in ("first", "second"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    url = f"postgresql://{sample.OWNER}:{PASSWORD}@{server.host}:{server.port}/{sample.DATABASE}"
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ},
        "DJANGO_SETTINGS_MODULE": "qradmin.settings",
        "ENV_FILE": os.devnull,
        "SECRET_KEY": "for-one-run-of-the-benchmark-" + 30 * "x",
        "HTTPS_ONLY": "False",
        "DATABASE_URL": f"sqlite:///{folder / 'site.sqlite3'}",
        "MANAGED_DATABASE_URL": url,
        "STATIC_ROOT": str(folder / "static"),
        "BACKUP_LOCATIONS": f"first={folder / 'first'},second={folder / 'second'}",
        "SAFETY_BACKUP_TIME_LIMIT": "1800",
        "LOG_LEVEL": "ERROR",
        "PGHOST": server.host,
        "PGPORT": str(server.port),
        "PGUSER": sample.OWNER,
        "PGPASSWORD": PASSWORD,
    }
