"""The whole system on one machine: PostgreSQL with the sample, the site's database, web and worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

import psycopg
from psycopg import sql

from deploy.demo import accounts, embedded, sample
from deploy.demo.place import ROOT, Place

MAJOR = 16
CODES, SCANS = 334, 5010
FIRST_PORT = 8000
WORKER_PATIENCE_SECONDS = 30
ACCOUNTS = {"itstaff": "IT staff", "helpdesk": "Help desk"}
# What the site would read from the environment of whoever types `make demo`, and what it needs of it.
PASSED_ON = ("PATH", "HOME", "USER", "TMPDIR", "LANG", "LC_ALL")

Say = Callable[[str], None]


class StopAsked(BaseException):
    """Someone pressed Ctrl-C or sent SIGTERM or SIGHUP."""


class DemoError(Exception):
    """The demo cannot go on; the message is one sentence."""


class Wish:
    """Remembers that someone asked to stop, so that it is obeyed at a safe point and not in mid-step."""

    def __init__(self) -> None:
        self.is_stop = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._remember)

    def _remember(self, _number: int, _frame: object) -> None:
        self.is_stop = True

    def check(self) -> None:
        if self.is_stop:
            raise StopAsked

    def sleep(self, seconds: float) -> None:
        """Sleep, but not for long when someone asks to stop."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, 0.1))
        self.check()


@dataclass(frozen=True)
class Program:
    """A long-running program of the demo."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


@dataclass(frozen=True)
class Stack:
    """Everything runs; the address is the site's first page."""

    address: str
    passwords: Mapping[str, str] = field(repr=False)
    managed_url: str = field(repr=False)
    psql: str  # the line to type for a look at the sample database
    programs: Sequence[Program]

    def check(self) -> None:
        """Raises DemoError when one of the programs has ended by itself."""
        for program in self.programs:
            if program.process.poll() is not None:
                raise DemoError(f"The {program.name} ended by itself; its last words are in {program.log}.")


@contextmanager
def running(place: Place, wish: Wish, say: Say, *, port: int | None = None) -> Iterator[Stack]:
    """Start PostgreSQL, web and worker; stop worker, web and PostgreSQL, in this order, at the end.

    The caller holds ``place``. Django is set up in this process too, with the same settings.
    """
    with ExitStack() as stack:
        say("Starting PostgreSQL")
        server = stack.enter_context(start_postgres(place))
        wish.check()
        if make_sample(place, server):
            say(f"Made the sample database: {CODES} QR codes, {SCANS:,} scans")
        wish.check()
        environment = settings(place, server)
        prepare_site(place, environment)
        passwords = make_accounts(place)
        wish.check()
        web_port = choose_port(port, say)
        say("Starting the web server and the worker")
        web = stack.enter_context(program("web server", gunicorn(web_port), environment, place.log("web")))
        worker = stack.enter_context(
            program("worker", manage("qcluster"), environment, place.log("worker"), WORKER_PATIENCE_SECONDS)
        )
        address = f"http://127.0.0.1:{web_port}/"
        url, psql = environment["MANAGED_DATABASE_URL"], psql_line(place, server)
        started = Stack(address, passwords, url, psql, (web, worker))
        wait_for_page(started, wish)
        yield started


def start_postgres(place: Place) -> embedded.EmbeddedServer:
    programs = embedded.find_bin(MAJOR)
    if programs is None:
        raise DemoError("The embedded PostgreSQL is not installed: use `make demo`.")
    server = embedded.start(place.postgres, bin=programs, port=place.port("postgres"))
    place.keep_port("postgres", server.port)
    return server


def make_sample(place: Place, server: embedded.EmbeddedServer) -> bool:
    """Make the sample database unless it is there. A start that was broken off leaves no half of one."""
    partial = sample.DATABASE + "_new"
    with psycopg.connect(server.url(), autocommit=True) as superuser:
        sample.create_owner(superuser, place.secret("owner_password"))
        if superuser.execute("SELECT 1 FROM pg_database WHERE datname = %s", [sample.DATABASE]).fetchone():
            return False
        superuser.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(partial)))
        sample.create_database(superuser, partial)
        with psycopg.connect(managed_url(place, server, partial)) as owner:
            sample.create_filled(owner, codes=CODES, scans=SCANS)
        superuser.execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                sql.Identifier(partial), sql.Identifier(sample.DATABASE)
            )
        )
    return True


def managed_url(place: Place, server: embedded.EmbeddedServer, database: str = sample.DATABASE) -> str:
    password = place.secret("owner_password")
    return f"postgresql://{sample.OWNER}:{password}@{server.host}:{server.port}/{database}"


def psql_line(place: Place, server: embedded.EmbeddedServer) -> str:
    """How a person reaches the sample database as its owner; the password stands in a closed file."""
    place.passfile.unlink(missing_ok=True)
    with os.fdopen(os.open(place.passfile, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{server.host}:{server.port}:*:{sample.OWNER}:{place.secret('owner_password')}\n")
    where = f"--host={server.host} --port={server.port} --username={sample.OWNER} {sample.DATABASE}"
    return f"PGPASSFILE={quote(str(place.passfile))} PATH={quote(str(server.bin))}:$PATH psql {where}"


def settings(place: Place, server: embedded.EmbeddedServer) -> dict[str, str]:
    """The environment of the site: all of it, so that nothing of the caller's own configuration gets in."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {
        "PYTHONUNBUFFERED": "1",
        "DJANGO_SETTINGS_MODULE": "qradmin.settings",
        "SECRET_KEY": place.secret("secret_key"),
        "DEBUG": "False",
        "HTTPS_ONLY": "False",  # it answers this machine alone
        "ALLOWED_HOSTS": "localhost,127.0.0.1",
        "DATABASE_URL": f"sqlite:///{place.site_database}",
        "MANAGED_DATABASE_URL": managed_url(place, server),
        "BACKUP_LOCATIONS": f"working={place.backups}",
        "STATIC_ROOT": str(place.folder / "static"),
        "ENV_FILE": os.devnull,  # a clone in use may have one, with the databases of production
    }


def prepare_site(place: Place, environment: Mapping[str, str]) -> None:
    """Set up Django in this process, bring the site's database up to date, collect the static files."""
    os.umask(0o077)
    place.backups.mkdir(exist_ok=True)
    os.environ.clear()
    os.environ.update(environment)
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    call_command("collectstatic", verbosity=0, interactive=False)


def make_accounts(place: Place) -> dict[str, str]:
    """One account for each group; returns their passwords, as long as nobody changed them."""
    from django.contrib.auth.models import Group, User

    passwords = {}
    for name, group in ACCOUNTS.items():
        password = place.secret(f"{name}_password")
        user, is_new = User.objects.get_or_create(username=name, defaults={"is_staff": True})
        if is_new:
            user.set_password(password)
            user.save()
            user.groups.add(Group.objects.get(name=group))
        passwords[name] = password if user.check_password(password) else "(changed since)"
    return passwords


def choose_port(wished: int | None, say: Say) -> int:
    first = wished or FIRST_PORT
    for candidate in range(first, first + 20):
        if embedded.free_port(candidate) == candidate:
            if candidate != first:
                say(f"Port {first} is taken by another program: using {candidate}")
            return candidate
    return embedded.free_port()


def gunicorn(port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "gunicorn", "qradmin.wsgi", "--bind", f"127.0.0.1:{port}"),
        *("--worker-class", "gthread", "--workers", "1", "--threads", "4", "--no-control-socket"),
        *("--graceful-timeout", "5", "--log-level", "warning"),
    ]


def manage(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "manage.py"), *arguments]


@contextmanager
def program(
    name: str, argv: Sequence[str], environment: Mapping[str, str], log: Path, patience_seconds: float = 10
) -> Iterator[Program]:
    """Run a program for as long as the block lasts, or until this process ends in whatever way."""
    with log.open("ab") as output:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            accounts.guarded(argv, accounts.Account.caller(), "TERM"),
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C in the terminal must not reach it: it is stopped in its turn
        )
    try:
        yield Program(name, process, log)
    finally:
        _stop(process, patience_seconds)


def _stop(process: subprocess.Popen[bytes], patience_seconds: float) -> None:
    """Ask the main process to end its own children; what is left of the group after that is killed."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_seconds)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for_page(stack: Stack, wish: Wish, patience_seconds: float = 60) -> None:
    """Wait until the first page is answered."""
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        stack.check()
        try:
            with urllib.request.urlopen(stack.address, timeout=5):
                return
        except urllib.error.HTTPError as error:
            raise DemoError(f"The first page answers with an error: {error}.") from error
        except OSError:
            wish.sleep(0.1)
    raise DemoError("The web server does not answer.")
