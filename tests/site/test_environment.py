"""A variable set to something unusable is named at the start, with id and hint, without a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage
from pytest_django.fixtures import Settings

from backups_app import config, deployment_checks
from backups_app.checks import check_settings
from qradmin.environment import NO_DATABASE, Environment
from tests.site.conftest import Run

Read = Callable[[Environment], Any]


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Environment:
    for name in ("IT", "IT_FILE"):
        monkeypatch.delenv(name, raising=False)
    found = Environment()
    found.ENVIRON.files_cache.clear()
    return found


@pytest.mark.parametrize(
    ("value", "read", "identity", "default"),
    [
        ("abc", lambda env: env.int("IT", default=2), "E030", 2),
        ("1.5", lambda env: env.int("IT", default=2), "E030", 2),
        ("soon", lambda env: env.float("IT", default=0.2), "E031", 0.2),
        ("ture", lambda env: env.bool("IT", default=False), "E032", False),
        ("-1", lambda env: env.int("IT", default=2), "E035", 2),
        ("0", lambda env: env.int("IT", default=2, least=1), "E035", 2),
        ("nan", lambda env: env.float("IT", default=2), "E035", 2),
        ("inf", lambda env: env.float("IT", default=2), "E035", 2),
        ("65", lambda env: env.int("IT", default=2, most=64), "E035", 2),
        ("-" + 400 * "9", lambda env: env.int("IT", default=2), "E035", 2),
        (5000 * "9", lambda env: env.int("IT", default=2), "E030", 2),
        ("1e306", lambda env: env.float("IT", default=2, most=8760), "E035", 2),
        ("99999999", lambda env: env.float("IT", default=2, most=8760), "E035", 2),
        ("xml", lambda env: env.choice("IT", ["json", "text"], default="json"), "E036", "json"),
        ("Mars/Olympus", lambda env: env.time_zone("IT"), "E037", "UTC"),
        ("../../etc/passwd", lambda env: env.time_zone("IT"), "E037", "UTC"),
        ("", lambda env: env.db_url("IT", default="sqlite:////a"), "E034", NO_DATABASE),
        ("nonsense", lambda env: env.db_url("IT"), "E034", NO_DATABASE),
        ("mysql://a:b@c/d", lambda env: env.db_url("IT"), "E034", NO_DATABASE),
        ("postgresql://a:b@c:port/d", lambda env: env.db_url("IT"), "E034", NO_DATABASE),
        ("postgresql://a:b@c:5432", lambda env: env.db_url("IT"), "E034", NO_DATABASE),
        ("postgresql://[::1/d", lambda env: env.db_url("IT"), "E034", NO_DATABASE),
    ],
)
def test_a_wrong_value_is_noted_once_and_the_default_stands_in(
    env: Environment,
    monkeypatch: pytest.MonkeyPatch,
    value: str,
    read: Read,
    identity: str,
    default: object,
) -> None:
    monkeypatch.setenv("IT", value)

    found = read(env)

    assert found == default
    (problem,) = env.problems
    assert problem.id == f"qradmin.{identity}"
    assert problem.variable == "IT"
    assert "IT" in problem.message
    assert problem.hint


@pytest.mark.parametrize(
    ("value", "read", "expected"),
    [
        ("7", lambda env: env.int("IT"), 7),
        (" 7 ", lambda env: env.int("IT"), 7),
        ("", lambda env: env.int("IT", default=3), 3),
        ("0.5", lambda env: env.float("IT"), 0.5),
        ("64", lambda env: env.int("IT", most=64), 64),
        ("ON", lambda env: env.bool("IT"), True),
        ("", lambda env: env.bool("IT", default=True), True),
        ("a, b,,c ", lambda env: env.list("IT"), ["a", "b", "c"]),
        ("JSON", lambda env: env.choice("IT", ["json", "text"], default="text"), "json"),
        ("Europe/Berlin", lambda env: env.time_zone("IT"), "Europe/Berlin"),
        ("$HOME", lambda env: env.str("IT"), "$HOME"),
    ],
)
def test_a_good_value_is_read(
    env: Environment, monkeypatch: pytest.MonkeyPatch, value: str, read: Read, expected: object
) -> None:
    monkeypatch.setenv("IT", value)

    assert read(env) == expected
    assert env.problems == []


def test_a_secret_comes_from_a_file_without_its_last_line_break(
    env: Environment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(" pass$word \n")
    monkeypatch.setenv("IT_FILE", str(tmp_path / "secret"))

    assert env.str("IT") == " pass$word "


def test_a_location_may_have_a_key_of_its_own(
    env: Environment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("of-the-far-one\n")
    monkeypatch.setenv("S3_ACCESS_KEY_OFF_SITE", "AKIAFAR")
    monkeypatch.setenv("S3_SECRET_KEY_OFF_SITE_FILE", str(tmp_path / "secret"))

    keys = env.store_keys("working=/backups, near=s3://one/a, off-site=s3://two/b?endpoint_url=https://far")

    assert keys == {"off-site": ("AKIAFAR", "of-the-far-one", "")}


def test_half_a_key_of_a_location_is_named(settings: Settings) -> None:
    settings.S3_KEYS = {"far": ("AKIAFAR", "", "")}

    (problem,) = deployment_checks.check_environment(None)

    assert problem.id == "qradmin.E042"
    assert "of the location far" in str(problem.msg)


def test_a_secrets_file_that_cannot_be_read_is_named(
    env: Environment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IT_FILE", str(tmp_path / "missing"))

    found = env.str("IT", default="")

    assert found == ""
    (problem,) = env.problems
    assert (problem.id, problem.variable) == ("qradmin.E033", "IT_FILE")
    assert "No such file" in problem.message


READS: dict[str, tuple[Read, object]] = {
    "str": (lambda env: env.str("IT", default="a"), "a"),
    "choice": (lambda env: env.choice("IT", ["json", "text"], default="json"), "json"),
    "bool": (lambda env: env.bool("IT", default=True), True),
    "int": (lambda env: env.int("IT", default=2), 2),
    "float": (lambda env: env.float("IT", default=0.2), 0.2),
    "list": (lambda env: env.list("IT", default=["a"]), ["a"]),
    "time_zone": (lambda env: env.time_zone("IT"), "UTC"),
    "db_url": (
        lambda env: env.db_url("IT", default="sqlite:////a"),
        {"NAME": "/a", "ENGINE": NO_DATABASE["ENGINE"]},
    ),
}


@pytest.mark.parametrize("kind", READS)
def test_a_value_that_is_no_text_is_named_and_not_shown(
    env: Environment, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("IT", os.fsdecode(b"postgresql://site:hunt\xffer2@host/name"))
    read, default = READS[kind]

    found = read(env)

    assert found == default
    (problem,) = env.problems
    assert (problem.id, problem.variable) == ("qradmin.E052", "IT")
    assert problem.message == "IT is no text in UTF-8."
    assert "hunt" not in str(problem)


def test_a_password_in_a_wrong_url_is_not_shown(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IT", "postgresql://site:hunter2@host:port/name")

    env.db_url("IT")

    assert "hunter2" not in str(env.problems)


def test_everything_that_is_wrong_is_said_at_once_without_a_traceback(run: Run, tmp_path: Path) -> None:
    checked = run(
        "manage.py",
        "check",
        SECRET_KEY=None,
        DEBUG="perhaps",
        QUEUE_WORKERS="abc",
        DATABASE_URL="postgresql//wrong",
        MANAGED_DATABASE_URL="qrdb",
        BACKUP_LOCATIONS="nowhere",
        LOG_LEVEL="loud",
        LOG_FORMAT="xml",
        TIME_ZONE="Moon",
        S3_SECRET_KEY_FILE=str(tmp_path / "missing"),
        API_HEALTH_URL="health",
        DOCKER_HOST="docker",
        POSTGRES_CLIENT_FOLDERS="/nowhere",
    )

    said = checked.stdout + checked.stderr
    assert checked.returncode == 1
    assert "Traceback" not in said
    wanted = ["E001", "E002", "E004", "E030", "E032", "E033", "E034", "E036", "E037", "E040", "E041", "W044"]
    assert [one for one in wanted if f"qradmin.{one}" not in said] == []


def test_the_shipped_settings_pass_the_checks_for_deployment(run: Run) -> None:
    checked = run(
        "manage.py",
        *("check", "--deploy", "--fail-level", "WARNING"),
        SECRET_KEY="abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    )

    assert checked.returncode == 0, checked.stderr
    assert "no issues" in checked.stdout


def test_a_web_server_without_a_secret_key_ends_with_a_sentence(run: Run) -> None:
    started = run("-c", "import qradmin.wsgi", SECRET_KEY=None)

    assert started.returncode == 4
    assert "SECRET_KEY is not set." in started.stderr
    assert "Traceback" not in started.stderr


def test_a_secret_key_in_a_file_is_enough(run: Run, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ\n")

    checked = run("manage.py", "check", SECRET_KEY=None, SECRET_KEY_FILE=str(tmp_path / "key"))

    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("name", "value", "identity"),
    [
        ("API_HEALTH_URL", "qr_generator_api:8000/health", "qradmin.E040"),
        ("API_HEALTH_URL", "http://host:port/health", "qradmin.E040"),
        ("API_HEALTH_URL", "http://[::1", "qradmin.E040"),
        ("API_HEALTH_URL", "http://a host/health", "qradmin.E040"),
        ("DOCKER_HOST", "/var/run/docker.sock", "qradmin.E041"),
        ("DOCKER_HOST", "unix://docker.sock", "qradmin.E041"),
        ("DOCKER_HOST", "tcp://h", "qradmin.E041"),
        ("DOCKER_HOST", "tcp://h:port", "qradmin.E041"),
        ("DOCKER_HOST", "tcp://h:99999", "qradmin.E041"),
        ("DOCKER_HOST", "tcp://[::1", "qradmin.E041"),
        ("DOCKER_HOST", "tcp://:2375", "qradmin.E041"),
        ("DOCKER_HOST", "ssh://x:22", "qradmin.E041"),
        ("QUEUE_REDIS_URL", "redis:6379", "qradmin.E047"),
        ("QUEUE_REDIS_URL", "redis://:pw@h:port/0", "qradmin.E047"),
        ("QUEUE_REDIS_URL", "redis://:pw@[::1/0", "qradmin.E047"),
        ("QUEUE_REDIS_URL", "redis://:pw@h/abc", "qradmin.E047"),
        ("QUEUE_REDIS_URL", "redis://:pw@h/0?nonsense=1", "qradmin.E047"),
        ("QUEUE_REDIS_URL", "redis:///0", "qradmin.E047"),
        ("QUEUE_REDIS_URL", "unix://", "qradmin.E047"),
        ("S3_ACCESS_KEY", "half", "qradmin.E042"),
        ("UPLOAD_FOLDER", "uploads", "qradmin.E048"),
        ("POSTGRES_CLIENT_FOLDERS", ["/nowhere"], "qradmin.W044"),
    ],
)
def test_what_reads_well_but_cannot_work_is_named(
    settings: Settings, name: str, value: object, identity: str
) -> None:
    assert _ids(deployment_checks.check_environment(None)) == []

    setattr(settings, name, value)

    (found,) = deployment_checks.check_environment(None)
    assert found.id == identity
    assert found.hint
    assert ":pw@" not in str(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_HEALTH_URL", "https://[::1]:8000/health"),
        ("DOCKER_HOST", "unix:///var/run/docker.sock"),
        ("DOCKER_HOST", "tcp://docker-proxy:2375"),
        ("DOCKER_HOST", "tcp://[::1]:2375"),
        ("QUEUE_REDIS_URL", "redis://:pw@redis:6379/0"),
        ("QUEUE_REDIS_URL", "rediss://me:pw@redis"),
        ("QUEUE_REDIS_URL", "unix:///run/redis.sock?db=1"),
    ],
)
def test_an_address_that_can_work_passes(settings: Settings, name: str, value: str) -> None:
    setattr(settings, name, value)

    assert _ids(deployment_checks.check_environment(None)) == []


def test_a_missing_folder_of_the_sites_database_is_named(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = settings.DATABASES["default"]
    monkeypatch.setitem(site, "ENGINE", "django.db.backends.sqlite3")
    monkeypatch.setitem(site, "NAME", str(tmp_path / "missing" / "site.sqlite3"))

    (found,) = deployment_checks.check_environment(None)

    assert found.id == "qradmin.E043"
    assert str(tmp_path / "missing") in found.msg


def test_a_backup_folder_that_cannot_be_used_is_named(settings: Settings, tmp_path: Path) -> None:
    settings.BACKUP_LOCATIONS = f"first={tmp_path / 'missing'}"

    (found,) = deployment_checks.check_machine(None)

    assert found.id == "qradmin.W045"
    assert "first" in found.msg


def test_a_folder_for_uploads_that_cannot_be_used_is_named(settings: Settings, tmp_path: Path) -> None:
    settings.BACKUP_LOCATIONS = f"first={tmp_path}"
    settings.UPLOAD_FOLDER = str(tmp_path / "missing")

    (found,) = deployment_checks.check_machine(None)

    assert found.id == "qradmin.W049"
    assert str(tmp_path / "missing") in found.msg


def test_missing_static_files_are_named(settings: Settings, tmp_path: Path) -> None:
    settings.STATIC_ROOT = str(tmp_path)
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}
    }

    (found,) = deployment_checks.check_static_files(None)

    assert found.id == "qradmin.E046"


def _ids(messages: list[CheckMessage] | Any) -> list[str]:
    return [message.id for message in messages]


SERVER = "postgresql://a:b@c/d"


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("MANAGED_DATABASE_URL", f"{SERVER}?sslmode=sometimes", "may end in ?sslmode= with one of disable"),
        ("MANAGED_DATABASE_URL", f"{SERVER}?connect_timeout=3", "and in nothing else"),
        ("MANAGED_DATABASE_URL", "postgresql://a:s3cret?x@c/d", "MANAGED_DATABASE_URL"),
        ("DRILL_DATABASE_URL", f"{SERVER}?sslmode=", "DRILL_DATABASE_URL may end"),
        ("API_CONTAINER", "qr api", "API_CONTAINER has to be the name of a container, not 'qr api'"),
        ("API_HEALTH_URL", "qr_api:8000/health", "API_HEALTH_URL has to look like http://"),
        ("API_HEALTH_URL", "http://[::1", "API_HEALTH_URL has to look like http://"),
        ("CSRF_TRUSTED_ORIGINS", ["https://backup.example.edu/"], "without a path"),
        ("CSRF_TRUSTED_ORIGINS", ["https://"], "without a path"),
        ("CSRF_TRUSTED_ORIGINS", ["https://host:port"], "without a path"),
        ("BACKUP_COMPRESSION", "zstd:99", "zstd:1 to zstd:22"),
        ("BACKUP_COMPRESSION", "lz4:13", "lz4:1 to lz4:12"),
        ("SECRET_KEY", "k", "SECRET_KEY is shorter than 32 characters"),
        ("SECRET_KEY", 40 * "k", "SECRET_KEY is always the same few characters"),
        ("ALLOWED_HOSTS", ["https://backup.example.edu"], "leave out the scheme, the port and the path"),
        ("ALLOWED_HOSTS", ["backup.example.edu:8000"], "leave out the scheme, the port and the path"),
        ("ALLOWED_HOSTS", [], "nobody could reach the site"),
        ("CONTACTS", "Database team 4711", "CONTACTS has to look like: Database team: 4711"),
        ("RESPONSE_TIMES", "A backup failed:", "RESPONSE_TIMES has to look like"),
    ],
)
def test_a_value_that_is_read_later_is_judged_at_the_start(
    settings: Settings, variable: str, value: object, told: str
) -> None:
    settings.MANAGED_DATABASE_URL, settings.API_CONTAINER = SERVER, "qr_generator_api"
    setattr(settings, variable, value)

    (found,) = {message.msg for message in check_settings(None) if variable in message.msg}

    assert told in found
    assert "s3cret" not in found


def test_values_as_the_docs_show_them_are_right(settings: Settings) -> None:
    settings.MANAGED_DATABASE_URL, settings.API_CONTAINER = (
        f"{SERVER}?sslmode=verify-full",
        "qr_generator_api",
    )
    settings.API_HEALTH_URL, settings.CONTACTS = (
        "http://qr_generator_api:8000/health",
        "Team: 4711; Night: 112",
    )
    settings.ALLOWED_HOSTS = ["backup.example.edu", ".example.edu", "[::1]", "127.0.0.1", "*"]
    settings.CSRF_TRUSTED_ORIGINS = ["https://backup.example.edu", "http://localhost:8000", "https://*.edu"]
    settings.BACKUP_COMPRESSION = "zstd:22"

    assert list(check_settings(None)) == []


def test_the_names_of_columns_may_have_commas_between_them(settings: Settings) -> None:
    settings.REQUIRED_COLUMNS = "qr_codes: id, content,title; scan_logs: id qr_code_id"

    assert config.expectations().columns == {
        "qr_codes": ("id", "content", "title"),
        "scan_logs": ("id", "qr_code_id"),
    }
