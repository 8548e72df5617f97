"""Real PostgreSQL servers for the tests, each started when a test first asks for it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from deploy.demo import embedded, sample
from tests.real_world import need

if TYPE_CHECKING:
    from backups_app.systems.postgres.connections import Server

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_MAJOR = 16
ALL_MAJORS = (15, 16, 18)
TEMPLATE = "qr_template"
OWNER_PASSWORD = "owner-" + secrets.token_hex(8)

SLOW_TOGETHER = 5  # a module's browser serves so many tests in a row

on_all_majors = pytest.mark.parametrize("pg_major", ALL_MAJORS, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each of several workers gets a stretch of the list: the slow tests are spread over all of it."""
    slow = [item for item in items if "end_to_end" in item.path.parts]
    if not slow or not hasattr(config, "workerinput"):
        return
    others = [item for item in items if "end_to_end" not in item.path.parts]
    groups = [slow[at : at + SLOW_TOGETHER] for at in range(0, len(slow), SLOW_TOGETHER)]
    edges = [len(others) * place // len(groups) for place in range(len(groups) + 1)]
    items.clear()
    for group, (begin, end) in zip(groups, pairwise(edges), strict=True):
        items += [*group, *others[begin:end]]


@pytest.fixture(autouse=True)
def site_language() -> Iterator[None]:
    """Each test begins in the site's own language: a request leaves its own behind in the thread."""
    from django.conf import settings
    from django.utils import translation

    translation.activate(settings.LANGUAGE_CODE)
    yield
    translation.activate(settings.LANGUAGE_CODE)


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    """What a process remembers for a while would be another test's."""
    from django.core.cache import cache

    from backups_app.operations import leftovers

    cache.clear()
    leftovers._left_alone_until.clear()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site's own database as `migrate` makes it, to be copied: that command takes seconds."""
    file = tmp_path_factory.mktemp("migrated") / "site.sqlite3"
    _migrate(f"sqlite:///{file}", file.parent)
    return file


def _migrate(url: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity=0"],
        cwd=ROOT,
        env={
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "ENV_FILE": os.devnull,
            "SECRET_KEY": "only-for-tests-" + 50 * "x",
            "DATABASE_URL": url,
            "MANAGED_DATABASE_URL": "postgresql://nobody:nothing@127.0.0.1:1/none",
            "BACKUP_LOCATIONS": f"working={folder}",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def start_postgres() -> Iterator[Callable[[int], embedded.EmbeddedServer]]:
    """A function: major version -> its running server, with the sample as a template; one a session."""
    folder = Path(tempfile.mkdtemp(prefix="qradmin-tests-"))
    folder.chmod(0o711)  # the server runs as another user when the tests run as root
    running: dict[int, embedded.EmbeddedServer] = {}

    def start(major: int) -> embedded.EmbeddedServer:
        if major not in running:
            programs = embedded.find_bin(major)
            need(programs is not None, f"PostgreSQL {major} is not installed")
            assert programs is not None
            running[major] = embedded.start(folder / str(major), bin=programs, for_tests=True)
            _prepare(running[major])
        return running[major]

    yield start
    for major, server in running.items():
        server.stop()
        embedded.forget(folder / str(major))
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def site_postgres() -> Iterator[embedded.EmbeddedServer | None]:
    """With SITE_POSTGRES=16, a server of that major version for the sites' own databases; else none."""
    from django.conf import settings

    if not settings.SITE_POSTGRES:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="qradmin-tests-site-pg-"))
    folder.chmod(0o711)
    programs = embedded.find_bin(settings.SITE_POSTGRES)
    assert programs is not None, f"PostgreSQL {settings.SITE_POSTGRES} is not installed"
    server = embedded.start(folder / "site", bin=programs, for_tests=True)
    yield server
    server.stop()
    embedded.forget(folder / "site")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings: None, site_postgres: embedded.EmbeddedServer | None
) -> None:
    """With SITE_POSTGRES, the tests' own site has its database there."""
    from django.db import connections

    if site_postgres is not None:
        connections["default"].settings_dict.update(
            HOST=site_postgres.host,
            PORT=str(site_postgres.port),
            USER=site_postgres.superuser,
            PASSWORD=site_postgres.password,
        )


@pytest.fixture(scope="session")
def migrated_postgres(
    site_postgres: embedded.EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """As `migrated_sqlite`: the name of a database on that server."""
    with connect_as_superuser(site_postgres) as connection:
        connection.execute("CREATE DATABASE migrated_site")
    _migrate(site_postgres.url("migrated_site"), tmp_path_factory.mktemp("migrated"))
    return "migrated_site"


@dataclass(frozen=True)
class SiteDatabase:
    """The own database of a site that a test runs as processes: empty until it is made as `migrate` does."""

    url: str
    migrate: Callable[[], object]


@pytest.fixture
def site_database(
    request: pytest.FixtureRequest, tmp_path: Path, site_postgres: embedded.EmbeddedServer | None
) -> Iterator[SiteDatabase]:
    """A file, or with SITE_POSTGRES a database on that server."""
    if site_postgres is None:
        file = tmp_path / "site.sqlite3"
        yield SiteDatabase(
            f"sqlite:///{file}",
            lambda: shutil.copyfile(request.getfixturevalue("migrated_sqlite"), file),
        )
        return
    name = f"site_{secrets.token_hex(4)}"
    with connect_as_superuser(site_postgres) as connection:

        def make(template: str) -> None:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")

        make("template1")
        yield SiteDatabase(
            site_postgres.url(name), lambda: make(request.getfixturevalue("migrated_postgres"))
        )
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def pg_major(request: pytest.FixtureRequest) -> int:
    """The server's major version; `@on_all_majors` runs a test on each."""
    return int(getattr(request, "param", DEFAULT_MAJOR))


@pytest.fixture
def postgres_server(
    pg_major: int, start_postgres: Callable[[int], embedded.EmbeddedServer]
) -> Iterator[embedded.EmbeddedServer]:
    """A running server without any database but its own; what a test leaves is removed."""
    server = start_postgres(pg_major)
    _restore_owner(server)
    yield server
    leftovers = _clean(server)
    assert not leftovers, f"staging databases were left behind: {leftovers}"


@pytest.fixture
def managed(postgres_server: embedded.EmbeddedServer) -> Server:
    """A fresh `qrdb` with 334 codes and 1002 scans, seen as its owner, who is no superuser."""
    from backups_app.systems.postgres.connections import Server

    with connect_as_superuser(postgres_server) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY FILE_COPY").format(
                sql.Identifier(sample.DATABASE), sql.Identifier(TEMPLATE), sql.Identifier(sample.OWNER)
            )
        )
    return Server(
        host=postgres_server.host,
        port=postgres_server.port,
        user=sample.OWNER,
        password=OWNER_PASSWORD,
        database=sample.DATABASE,
    )


@pytest.fixture
def superuser(postgres_server: embedded.EmbeddedServer) -> Iterator[psycopg.Connection[Any]]:
    """The server's superuser in the database `postgres`, each statement by itself."""
    with connect_as_superuser(postgres_server) as connection:
        yield connection


@pytest.fixture
def owner(managed: Server) -> Iterator[psycopg.Connection[Any]]:
    """The owner in the managed database, each statement by itself."""
    with psycopg.connect(url_of(managed), autocommit=True) as connection:
        yield connection


def url_of(server: Server) -> str:
    return f"postgresql://{server.user}:{server.password}@{server.host}:{server.port}/{server.database}"


def connect_as_superuser(
    server: embedded.EmbeddedServer, database: str = "postgres"
) -> psycopg.Connection[Any]:
    return psycopg.connect(server.url(database), autocommit=True)


def databases_like(server: Server, pattern: str) -> list[str]:
    """The names of all databases that match a regular expression, sorted."""
    with psycopg.connect(url_of(server), autocommit=True) as connection:
        found = connection.execute("SELECT datname::text FROM pg_database WHERE datname ~ %s", (pattern,))
        return sorted(name for (name,) in found)


def _prepare(server: embedded.EmbeddedServer) -> None:
    with connect_as_superuser(server) as connection:
        sample.create_owner(connection, OWNER_PASSWORD)
        sample.create_database(connection, TEMPLATE)
    with connect_as_superuser(server, TEMPLATE) as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(sample.OWNER)))
        sample.create_filled(connection)
        connection.execute("RESET ROLE")
        connection.execute("VACUUM ANALYZE")


def _restore_owner(server: embedded.EmbeddedServer) -> None:
    """A test may have taken rights from the owner."""
    with connect_as_superuser(server) as connection:
        sample.create_owner(connection, OWNER_PASSWORD)


def _clean(server: embedded.EmbeddedServer) -> list[str]:
    """Remove all that a test made on the server; returns the staging databases among it."""
    with connect_as_superuser(server) as connection:
        for gid, database in connection.execute("SELECT gid, database FROM pg_prepared_xacts").fetchall():
            with connect_as_superuser(server, database) as inside:
                inside.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
        names = _column(
            connection,
            "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1', %s)",
            TEMPLATE,
        )
        for name in names:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )
        roles = _column(
            connection,
            "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND rolname NOT IN ('postgres', %s)",
            sample.OWNER,
        )
        for role in roles:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
    return [name for name in names if "staging" in name]


def _column(connection: psycopg.Connection[Any], query: str, *values: str) -> list[str]:
    return [str(row[0]) for row in connection.execute(query, values).fetchall()]
