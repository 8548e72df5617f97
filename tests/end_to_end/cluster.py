"""The real thing as processes: a migrated site, its queue's cluster, and ways to watch and to hurt them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from backups_app.systems.postgres.connections import Server
from deploy.demo import accounts, embedded
from tests.conftest import DEFAULT_MAJOR, SiteDatabase, url_of
from tests.real_world import need
from tests.settings import SITE_POSTGRES

ROOT = Path(__file__).resolve().parents[2]
PASSED_ON = ("PATH", "HOME", "TMPDIR", "LANG")
WORKERS = 2
PATIENCE = 4  # machines are shared: a wait that is in vain may take this many times longer
HELPERS = 4  # the main process, its sentinel, the pusher and the monitor
ENDED = ("succeeded", "failed", "cancelled", "interrupted", "expired")

# Restored like any other view, but it takes its time in a database that is being staged.
SLOW_IN_STAGING = """
CREATE MATERIALIZED VIEW slow_to_restore AS
SELECT CASE WHEN current_database() ~ 'staging' THEN pg_sleep(30)::text END AS nothing
"""


class SiteError(AssertionError):
    """The site could not answer a question of the test."""


@dataclass
class Site:
    """A site of its own: folder, environment, database, and at most one running cluster."""

    folder: Path
    environment: dict[str, str]
    cluster: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _driver: subprocess.Popen[str] | None = field(default=None, repr=False)
    _extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def backups(self) -> Path:
        return self.folder / "backups"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-6000:]

    # --- the site's processes ----------------------------------------------------------------------

    def start_cluster(self, **environment: str) -> None:
        """Start the cluster and wait until its workers have shown life."""
        self.stop_cluster()
        before = set(self.ask("list(WorkerBeat.objects.values_list('name', flat=True))"))
        with (self.folder / "log").open("ab") as log:
            # It is to stop when the tests end in whatever way, and not to outlive them.
            argv = accounts.guarded(
                [sys.executable, "manage.py", "qcluster"], accounts.Account.caller(), "TERM"
            )
            self.cluster = subprocess.Popen(
                argv,
                cwd=ROOT,
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        workers = int(environment.get("QUEUE_WORKERS", WORKERS))
        wait_until(lambda: len(set(self._beats()) - before) >= workers, 30, "no worker shows life", self)
        # The workers may be at work before the cluster's other processes are there.
        whole = workers + HELPERS
        wait_until(lambda: len(self.members()) == whole, 30, "the cluster is not whole", self)
        self._extra = environment

    def ensure_cluster(self) -> None:
        """A cluster that is whole, whatever the test before has done to it."""
        is_whole = self.cluster is not None and self.cluster.poll() is None and not self._extra
        if not is_whole or len(self.members()) != WORKERS + HELPERS:
            self.start_cluster()

    def stop_cluster(self) -> None:
        """End every process of the cluster, however it was hurt."""
        if self.cluster is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.cluster.pid, signal.SIGKILL)
        self.cluster.wait()
        self.cluster = None

    def members(self) -> list[int]:
        """Every living process of the cluster; its programs have sessions of their own."""
        assert self.cluster is not None
        return [pid for pid in _processes() if _session(pid) == self.cluster.pid]

    def sentinel(self) -> int:
        assert self.cluster is not None
        (pid,) = [pid for pid in self.members() if _parent(pid) == self.cluster.pid]
        return pid

    def _beats(self) -> list[str]:
        assert self.cluster is not None
        assert self.cluster.poll() is None, f"the cluster ended by itself:\n{self.log}"
        names = self.ask("list(WorkerBeat.objects.values_list('name', flat=True))")
        return [str(name) for name in names]

    # --- questions ---------------------------------------------------------------------------------

    def ask(self, expression: str, **values: Any) -> Any:
        """Evaluate an expression in a process of the site; see ``driver.py`` for the names it may use."""
        driver = self._driver or self._start_driver()
        assert driver.stdin is not None
        assert driver.stdout is not None
        driver.stdin.write(json.dumps({"expression": expression, "values": values}) + "\n")
        driver.stdin.flush()
        line = driver.stdout.readline()
        if not line:
            raise SiteError(f"the site's process ended:\n{self.log}")
        answer = json.loads(line)
        if "error" in answer:
            raise SiteError(answer["error"])
        return answer["value"]

    def request(self, what: str, **values: Any) -> int:
        """Ask for an operation by one of the ``tasks.request_…`` functions; its id."""
        return int(self.ask(f"tasks.request_{what}(**values).pk", values={"by": "tester"} | values))

    def request_of_backup(self, what: str, name: str, **values: Any) -> int:
        values = {"by": "tester"} | values
        found = f"tasks.request_{what}(Backup.objects.get(name=name), **values).pk"
        return int(self.ask(found, name=name, values=values))

    def operation(self, pk: int) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("Operation.objects.filter(pk=pk).values()[0]", pk=pk)
        return found

    def trail(self, pk: int) -> list[str]:
        rows = self.ask("list(Step.objects.filter(operation=pk).values_list('what', flat=True))", pk=pk)
        return [str(row) for row in rows]

    def event(self, pk: int) -> dict[str, Any]:
        """The restore that operation ``pk`` was."""
        found: dict[str, Any] = self.ask("RestoreEvent.objects.filter(operation=pk).values()[0]", pk=pk)
        return found

    def wait_for(self, pk: int, *states: str, seconds: float = 30) -> dict[str, Any]:
        """Wait until the operation is in one of the states; its row."""
        wanted = states or ENDED
        row: dict[str, Any] = {}

        def is_there() -> bool:
            nonlocal row
            row = self.operation(pk)
            return row["state"] in wanted

        wait_until(is_there, seconds, lambda: f"operation {pk} did not become {wanted}: {row}", self)
        return row

    def programs_of(self, pk: int) -> list[int]:
        """The living programs that were started for operation ``pk``, whoever their parent is by now.

        Other sites, of the tests that run beside these, have operations of the same number: theirs work on
        another server.
        """
        port = urlsplit(self.environment["MANAGED_DATABASE_URL"]).port
        wanted = {f"PGAPPNAME=qradmin-op-{pk}".encode(), f"PGPORT={port}".encode()}
        found = []
        for pid in _processes():
            with suppress(OSError):
                if wanted <= set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")):
                    found.append(pid)
        return found

    def wait_for_program(self, pk: int, program: str, seconds: float = 20) -> int:
        """Wait until operation ``pk`` runs this client program; its process id."""
        found: list[int] = []

        def is_there() -> bool:
            found[:] = [child for child in self.programs_of(pk) if _name(child) == program]
            row = self.operation(pk)
            assert row["state"] in ("queued", "running"), row
            return bool(found)

        wait_until(is_there, seconds, f"no {program} runs for operation {pk}", self)
        return found[0]

    def backup(self) -> str:
        """Take a backup through the queue; its name."""
        row = self.wait_for(self.request("backup"))
        assert row["state"] == "succeeded", row
        return str(row["result"]["backup"])

    def let_time_pass(self, pk: int, minutes: float = 3) -> None:
        """As if the operation had shown no sign of life for so long."""
        self.ask(
            "Operation.objects.filter(pk=pk)"
            ".update(heartbeat_at=timezone.now() - timedelta(minutes=minutes))",
            pk=pk,
            minutes=minutes,
        )

    def keep_house(self) -> None:
        self.ask("tasks.keep_house()")

    def files(self) -> list[str]:
        """Every file in the working location, temporary ones too."""
        return sorted(path.name for path in self.backups.rglob("*") if path.is_file())

    # --- beginning and end -------------------------------------------------------------------------

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def _start_driver(self) -> subprocess.Popen[str]:
        with (self.folder / "log").open("ab") as log:
            self._driver = subprocess.Popen(
                [sys.executable, "-m", "tests.end_to_end.driver"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        return self._driver

    def stop_driver(self) -> None:
        if self._driver is None:
            return
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.close()
        try:
            self._driver.wait(10)
        except subprocess.TimeoutExpired:
            self._driver.kill()
            self._driver.wait()
        self._driver.stdout.close()
        self._driver = None

    def close(self) -> None:
        self.stop_cluster()
        self.stop_driver()


def wait_until(
    is_so: Callable[[], bool], seconds: float, complaint: str | Callable[[], str], site: Site | None = None
) -> None:
    deadline = time.monotonic() + PATIENCE * seconds
    while not is_so():
        if time.monotonic() > deadline:
            said = complaint if isinstance(complaint, str) else complaint()
            raise SiteError(said + (f"\n{site.log}" if site else ""))
        time.sleep(0.05)


# --- processes, as the kernel tells of them ------------------------------------------------------------


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return _stat(pid)[0] not in "ZX"
    return False


def _processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and is_alive(int(entry))]  # noqa: PTH208


def _stat(pid: int) -> list[str]:
    """State, parent, group, session, … of a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _parent(pid: int) -> int:
    with suppress(OSError):
        return int(_stat(pid)[1])
    return 0


def _session(pid: int) -> int:
    with suppress(OSError):
        return int(_stat(pid)[3])
    return 0


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


# --- the managed database, as a test hurts it -----------------------------------------------------------


@contextmanager
def dump_held_up(server: Server) -> Iterator[None]:
    """A pg_dump that starts within the block stands still, until the block ends: it waits for a view."""
    with psycopg.connect(url_of(server)) as connection:
        connection.execute("CREATE VIEW waited_for AS SELECT 1 AS one")
        connection.commit()
        connection.execute("LOCK TABLE waited_for IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()
        connection.execute("DROP VIEW waited_for")


@contextmanager
def swap_held_up(server: Server) -> Iterator[None]:
    """No database of this name can be renamed while the block lasts: a prepared transaction uses it."""
    with psycopg.connect(url_of(server), autocommit=True) as connection:
        connection.execute("BEGIN; CREATE TABLE held_up (id int); PREPARE TRANSACTION 'held up'")
    try:
        yield
    finally:
        with psycopg.connect(url_of(server), autocommit=True) as connection:
            connection.execute("ROLLBACK PREPARED 'held up'")


@contextmanager
def locked(server: Server, table: str = "scan_logs") -> Iterator[None]:
    """Nobody may read the table while the block lasts."""
    with psycopg.connect(url_of(server)) as connection:
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


def contents(server: Server) -> list[tuple[Any, ...]]:
    """Every row of the sample's tables in one hash each."""
    with psycopg.connect(url_of(server), autocommit=True) as connection:
        return [
            (table, *row)
            for table in ("alembic_version", "qr_codes", "scan_logs")
            for row in connection.execute(
                f"SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t"
            )
        ]


def databases(server: Server) -> list[str]:
    with psycopg.connect(url_of(server.at("postgres")), autocommit=True) as connection:
        found = connection.execute("SELECT datname FROM pg_database WHERE datname ~ '^qrdb' ORDER BY datname")
        return [str(name) for (name,) in found]


def sessions_of(server: Server, operation: int) -> int:
    """The operation's sessions on the managed server."""
    with psycopg.connect(url_of(server.at("postgres")), autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [f"qradmin-op-{operation}"]
        ).fetchone()
    assert row is not None
    return int(row[0])


# --- fixtures -----------------------------------------------------------------------------------------


@dataclass
class SiteServer:
    """A PostgreSQL server for the sites' own databases alone: a test may stop it."""

    folder: Path
    programs: Path
    running: embedded.EmbeddedServer

    def stop(self) -> None:
        self.running.stop()

    def start(self) -> None:
        port = self.running.port
        self.running = embedded.start(self.folder, bin=self.programs, port=port, for_tests=True)
        assert self.running.port == port


@pytest.fixture(scope="session")
def site_server() -> Iterator[SiteServer]:
    folder = Path(tempfile.mkdtemp(prefix="qradmin-site-pg-"))
    folder.chmod(0o711)
    major = SITE_POSTGRES or DEFAULT_MAJOR
    programs = embedded.find_bin(major)
    need(programs is not None, f"PostgreSQL {major} is not installed")
    assert programs is not None
    server = SiteServer(
        folder / "site", programs, embedded.start(folder / "site", bin=programs, for_tests=True)
    )
    yield server
    server.stop()
    embedded.forget(folder / "site")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def new_site(migrated_sqlite: Path) -> Iterator[Callable[..., Site]]:
    """A function: makes a migrated site with its own folder, without a cluster yet."""
    made: list[Site] = []

    def make(managed: Server, database_url: str = "", **environment: str) -> Site:
        folder = Path(tempfile.mkdtemp(prefix="qradmin-site-"))
        site = Site(folder, _environment(folder, managed, database_url) | environment)
        made.append(site)
        (folder / "log").touch()
        site.backups.mkdir(mode=0o700)
        if database_url:
            migrated = site.manage("migrate", "--verbosity=0")
            assert migrated.returncode == 0, migrated.stderr
        else:
            shutil.copyfile(migrated_sqlite, folder / "site.sqlite3")
        # what runs by itself at full hours would come between the steps of a test
        site.ask("Schedule.objects.exclude(name='Housekeeping').update(repeats=0)")
        return site

    yield make
    for site in made:
        site.close()
        shutil.rmtree(site.folder, ignore_errors=True)


@pytest.fixture
def own_database(site_database: SiteDatabase) -> str:
    """For `new_site`: with SITE_POSTGRES a database for this test's site alone; else none, it is a file."""
    if not SITE_POSTGRES:
        return ""
    site_database.migrate()
    return site_database.url


@pytest.fixture(scope="session")
def sites() -> dict[str, Site]:
    """The sites that several tests use, one for each kind of database."""
    return {}


@pytest.fixture(params=["postgresql"] if SITE_POSTGRES else ["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest) -> Site:
    """A site with a running cluster that manages this test's ``managed`` database."""
    return request.getfixturevalue(f"{request.param}_site")


@pytest.fixture
def any_site(request: pytest.FixtureRequest) -> Site:
    """As ``site``, for what does not depend on the kind of the site's database."""
    return request.getfixturevalue("postgresql_site" if SITE_POSTGRES else "sqlite_site")


@pytest.fixture
def sqlite_site(managed: Server, new_site: Callable[..., Site], sites: dict[str, Site]) -> Iterator[Site]:
    """As ``site``, without a database server of its own."""
    if "sqlite" not in sites:
        sites["sqlite"] = new_site(managed)
    yield from _lent(sites["sqlite"])


@pytest.fixture
def postgresql_site(
    managed: Server, new_site: Callable[..., Site], sites: dict[str, Site], site_server: SiteServer
) -> Iterator[Site]:
    """As ``site``, for what only a database server can suffer."""
    if "postgresql" not in sites:
        sites["postgresql"] = new_site(managed, site_server.running.url())
    yield from _lent(sites["postgresql"])


def _lent(site: Site) -> Iterator[Site]:
    site.ensure_cluster()
    yield site
    if site.ask("Operation.objects.active().count()"):
        site.stop_cluster()
        site.ask("Operation.objects.active().update(heartbeat_at=timezone.now() - timedelta(hours=1))")
        site.ask("Operation.objects.filter(state='queued').update(expires_at=timezone.now())")
    site.ask("OrmQ.objects.all().delete()")
    site.keep_house()


def _environment(folder: Path, managed: Server, database_url: str) -> dict[str, str]:
    """All of it, so that nothing of the developer's own configuration gets in."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {
        "ENV_FILE": os.devnull,
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "tests.end_to_end.site_settings",
        "SECRET_KEY": "only-for-tests-" + 50 * "x",
        "DEBUG": "False",
        "HTTPS_ONLY": "False",
        "DATABASE_URL": database_url or f"sqlite:///{folder / 'site.sqlite3'}",
        "MANAGED_DATABASE_URL": url_of(managed),
        "BACKUP_LOCATIONS": f"working={folder / 'backups'}",
        "BACKUP_COMPRESSION": "best",
        "BACKUP_KEEP": "50",
        "QUEUE_WORKERS": str(WORKERS),
        "QUEUE_POLL_SECONDS": "0.1",
        "API_CONTAINER": "",
        "API_HEALTH_URL": "",
        "DOCKER_HOST": "",
        "DRILL_DATABASE_URL": "",
        "EXPECTED_REVISION": "",
        "LOG_LEVEL": "INFO",
    }
