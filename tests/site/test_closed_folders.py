"""What the service's user may not enter, read or write is named at the start, without a traceback."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.core.checks import CheckMessage
from pytest_django.fixtures import Settings

from backups_app import deployment_checks
from qradmin.environment import Environment

NOBODY = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may use; the tests' own are closed to other users."""
    folder = Path(tempfile.mkdtemp(prefix="qradmin-tests-open-"))
    folder.chmod(0o777)
    yield folder
    for path in folder.rglob("*"):
        path.chmod(0o700)
    shutil.rmtree(folder)


@pytest.fixture
def closed(place: Path) -> Path:
    """A path in a folder that the service's user may not enter."""
    folder = place / "closed"
    (folder / "inner").mkdir(parents=True)
    folder.chmod(0)
    return folder / "inner"


@contextmanager
def as_the_service() -> Iterator[None]:
    """As a user without rights, where the tests run as root."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def found(settings: Settings, check: object) -> list[CheckMessage]:
    settings.BACKUP_LOCATIONS = "working=/nonexistent"
    with as_the_service():
        messages = list(check(None))  # type: ignore[operator]
    return [message for message in messages if message.id != "qradmin.W045"]


@pytest.mark.parametrize(
    ("name", "check", "identity"),
    [
        ("STATIC_ROOT", deployment_checks.check_static_files, "qradmin.E046"),
        ("UPLOAD_FOLDER", deployment_checks.check_machine, "qradmin.W049"),
        ("POSTGRES_CLIENT_FOLDERS", deployment_checks.check_environment, "qradmin.W044"),
    ],
)
def test_a_folder_below_a_closed_one_is_named(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    closed: Path,
    name: str,
    check: object,
    identity: str,
) -> None:
    use_sqlite(settings, monkeypatch, closed.parent.parent / "site.sqlite3")
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}
    }
    settings.STATIC_ROOT = str(closed if name == "STATIC_ROOT" else closed.parent.parent)
    (closed.parent.parent / "staticfiles.json").write_text("{}")
    if name != "STATIC_ROOT":
        setattr(settings, name, [str(closed)] if name.endswith("FOLDERS") else str(closed))

    (message,) = found(settings, check)

    assert message.id == identity
    assert str(closed) in message.msg


def test_a_location_below_a_closed_folder_is_named(settings: Settings, closed: Path) -> None:
    settings.BACKUP_LOCATIONS = f"working={closed}"

    with as_the_service():
        (message,) = deployment_checks.check_machine(None)

    assert message.id == "qradmin.W045"
    assert str(closed) in message.msg


@pytest.mark.parametrize("mode", [0o400, 0o000])
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_file_of_the_sites_database_that_cannot_be_written_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, place: Path, mode: int, suffix: str
) -> None:
    file = place / f"site.sqlite3{suffix}"
    file.touch(mode=mode)
    use_sqlite(settings, monkeypatch, place / "site.sqlite3")

    (message,) = found(settings, deployment_checks.check_environment)

    assert message.id == "qradmin.E043"
    assert str(file) in message.msg


def test_a_folder_of_the_sites_database_below_a_closed_one_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, closed: Path
) -> None:
    use_sqlite(settings, monkeypatch, closed / "site.sqlite3")

    (message,) = found(settings, deployment_checks.check_environment)

    assert message.id == "qradmin.E043"
    assert str(closed) in message.msg


def test_a_database_that_can_be_used_passes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    use_sqlite(settings, monkeypatch, place / "site.sqlite3")
    with as_the_service():
        (place / "site.sqlite3").touch(mode=0o600)

    assert found(settings, deployment_checks.check_environment) == []


@pytest.mark.parametrize("is_named", [True, False])
def test_a_file_of_variables_below_a_closed_folder_is_named(closed: Path, is_named: bool) -> None:
    env = Environment()

    with as_the_service():
        env.read_file("ENV_FILE", str(closed), is_named=is_named)

    (problem,) = env.problems
    assert "Permission denied" in problem.message


def use_sqlite(settings: Settings, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    site = settings.DATABASES["default"]
    monkeypatch.setitem(site, "ENGINE", "django.db.backends.sqlite3")
    monkeypatch.setitem(site, "NAME", str(file))
