"""A database's URL is judged at the start, word by word, and never shown: it holds a password."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.checks import run_checks
from pytest_django.fixtures import Settings

from backups_app import config
from backups_app.errors import NotConfigured
from qradmin.environment import NO_DATABASE, Environment
from tests.site.conftest import Run

SECRET = "hunter2"
WRONG = [
    f"'postgresql://site:{SECRET}@db/site'",
    f'DATABASE_URL="postgresql://site:{SECRET}@db/site"',
    f"postgresql//site:{SECRET}@db/site",
    f"mysql://site:{SECRET}@db/site",
    f"postgresql://site:{SECRET}@db",
    f"postgresql://site:{SECRET}@db/",
    f"postgresql://site:{SECRET}@/site",
    f"postgresql://site:{SECRET}@d b/site",
    f"postgresql://site:{SECRET}@db:port/site",
    f"postgresql://site:{SECRET}@db:0/site",
    f"postgresql://site:{SECRET}@db:65536/site",
    f"postgresql://site:{SECRET}@[::1/site",
    f"postgresql://site:{SECRET}@db/site/more",
    f"postgresql://site:{SECRET}#1@db/site",
    f"postgresql://site:{SECRET}?1@db/site",
    f"postgresql://site:{SECRET}/1@db/site",
    f"postgresql://site:{SECRET}@db/site%00",
    f"postgresql://site:{SECRET}@db/{64 * 'n'}",
    f"postgresql://site:{SECRET}@db/site?sslmode=foo",
    f"postgresql://site:{SECRET}@db/site?nonsense=1",
    f"postgresql://site:{SECRET}@{65 * 'n'}%2Fx/site",
]
WRONG_SITE = [
    f"postgresql://site:{SECRET}@h1:1,h2:2/site",
    f"postgresql://site:{SECRET}@h1,h2:5433/site",
    f"postgresql://site:{SECRET}@db/site?pool=true",
    f"postgresql://site:{SECRET}@db/site?isolation_level=7",
    f"postgresql://site:{SECRET}@db/site?connect_timeout=abc",
    f"postgresql://site:{SECRET}@db/site?sslmode=require&sslmode=disable",
    "sqlite://",
    "sqlite://:memory:",
    "sqlite:///site.sqlite3",
    "sqlite:////",
    "sqlite://host/site.sqlite3",
    "sqlite:////a/site.sqlite3?mode=memory",
]


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.delenv("IT_FILE", raising=False)
    found = Environment()
    found.ENVIRON.files_cache.clear()
    return found


@pytest.mark.parametrize("url", WRONG + WRONG_SITE)
def test_a_wrong_url_of_the_sites_database_is_said_without_showing_it(
    env: Environment, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], url: str
) -> None:
    monkeypatch.setenv("IT", url)

    found = env.db_url("IT")

    assert found == NO_DATABASE
    (problem,) = env.problems
    assert problem.id == "qradmin.E034"
    assert problem.message.startswith("IT ")
    assert SECRET not in str(problem) + "".join(capfd.readouterr())


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_url_of_the_managed_database_is_said_without_showing_it(settings: Settings, url: str) -> None:
    settings.MANAGED_DATABASE_URL = url

    with pytest.raises(NotConfigured, match=r"^MANAGED_DATABASE_URL ") as refused:
        config.managed_database()

    assert SECRET not in refused.value.message


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://me:p%40ss%2F@db/site",
            {"HOST": "db", "PASSWORD": "p@ss/", "NAME": "site", "PORT": 5432},
        ),
        ("postgres://me@db:5433/a+b", {"USER": "me", "PASSWORD": "", "NAME": "a+b", "PORT": 5433}),
        ("postgresql://me:p[w@[::1]:5433/site", {"HOST": "::1", "PASSWORD": "p[w", "PORT": 5433}),
        ("postgresql://me:pw@h1:6000,h2:6000/site", {"HOST": "h1,h2", "PORT": 6000}),
        ("postgresql://me:pw@%2Fvar%2FRun/site", {"HOST": "/var/Run", "NAME": "site"}),
        ("postgresql://me:pw@//var/run/postgresql/site", {"HOST": "/var/run/postgresql", "NAME": "site"}),
        (
            "postgresql://me:pw@db/site?sslmode=verify-full&sslrootcert=/ca.pem&connect_timeout=3",
            {"OPTIONS": {"sslmode": "verify-full", "sslrootcert": "/ca.pem", "connect_timeout": "3"}},
        ),
        ("sqlite:////var/lib/a%20b/site.sqlite3", {"NAME": "/var/lib/a b/site.sqlite3"}),
    ],
)
def test_a_right_url_is_taken_apart(
    env: Environment, monkeypatch: pytest.MonkeyPatch, url: str, expected: dict[str, object]
) -> None:
    monkeypatch.setenv("IT", url)

    found = env.db_url("IT")

    assert env.problems == []
    assert found | expected == found


@pytest.mark.parametrize("way", ["environment", "file"])
@pytest.mark.parametrize(
    "words",
    [
        ("manage.py", "check"),
        ("manage.py", "wait_for_database", "--seconds", "0"),
        ("manage.py", "migrate"),
        ("-c", "import qradmin.wsgi"),
    ],
    ids=["check", "wait_for_database", "migrate", "wsgi"],
)
def test_no_process_prints_the_password_of_a_url_in_quotes(
    run: Run, tmp_path: Path, words: tuple[str, ...], way: str
) -> None:
    if way == "environment":
        url: dict[str, str | None] = {"DATABASE_URL": f"'postgresql://site:{SECRET}@db/site'"}
    else:
        (tmp_path / "url").write_text(f'DATABASE_URL="postgresql://site:{SECRET}@db/site"\n')
        url = {"DATABASE_URL": None, "DATABASE_URL_FILE": str(tmp_path / "url")}

    done = run(*words, **url)

    assert done.returncode != 0
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "DATABASE_URL" in done.stderr


@pytest.mark.parametrize(
    ("managed", "host"),
    [("%2Fvar%2Frun%2Fpostgresql", "/var/run/postgresql"), ("DB.example.org", "db.example.org")],
)
def test_a_host_is_a_name_or_the_folder_of_a_socket(settings: Settings, managed: str, host: str) -> None:
    settings.MANAGED_DATABASE_URL = f"postgresql://me:pw@{managed}/qrdb"

    assert config.managed_database().host == host


@pytest.mark.parametrize(
    ("site", "managed"),
    [
        ("127.0.0.1", "localhost"),
        ("/var/run/postgresql", "localhost"),
        ("localhost", "%2Fvar%2Frun%2Fpostgresql"),
        ("/var/run/postgresql", "%2Ftmp"),
        ("other,127.0.0.1", "localhost"),
        ("", "[::1]"),
    ],
)
def test_the_sites_database_is_never_the_managed_one_by_whatever_way_it_is_reached(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, site: str, managed: str
) -> None:
    facts = {"ENGINE": "django.db.backends.postgresql", "HOST": site, "PORT": 5432, "NAME": "qrdb"}
    for name, value in facts.items():
        monkeypatch.setitem(settings.DATABASES["default"], name, value)
    settings.MANAGED_DATABASE_URL = f"postgresql://me:pw@{managed}/qrdb"

    assert "qradmin.E020" in [message.id for message in run_checks()]


def test_a_wrong_url_is_said_once(settings: Settings) -> None:
    settings.MANAGED_DATABASE_URL = "qrdb"

    found = [message.id for message in run_checks() if "MANAGED_DATABASE_URL" in message.msg]

    assert found == ["qradmin.E002"]
