"""A site with a real managed database and two storage folders, on which operations run in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from backups_app.systems.postgres.connections import Server
from tests.conftest import url_of
from tests.object_store import bucket, store_url
from tests.operations.fake_api import FakeApi
from tests.operations.site import Site

__all__ = ["bucket", "store_url"]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The working location and the second one, both empty."""
    both = (tmp_path / "working", tmp_path / "second")
    for folder in both:
        folder.mkdir(mode=0o700)
    return both


@pytest.fixture
def site(
    transactional_db: None, managed: Server, settings: Settings, folders: tuple[Path, Path]
) -> Iterator[Site]:
    """The site, pointed at ``managed``; afterwards no half file lies in its folders."""
    settings.MANAGED_DATABASE_URL = url_of(managed)
    settings.BACKUP_LOCATIONS = f"working={folders[0]},second={folders[1]}"
    yield Site(managed, *folders)
    half = [path.name for folder in folders if folder.is_dir() for path in folder.glob(".*")]
    assert not half, f"half files were left behind: {half}"


@pytest.fixture
def one_folder(site: Site, settings: Settings) -> Site:
    """The same site with its working location alone: for tests that are not about copies."""
    settings.BACKUP_LOCATIONS = f"working={site.working}"
    return site


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    """The API's container, without an engine."""
    made = FakeApi()
    monkeypatch.setattr("backups_app.config.api", lambda: made)
    monkeypatch.setattr("backups_app.operations.api.SETTLING_SECONDS", 0)
    return made


@pytest.fixture(autouse=True)
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wish to cancel is seen ten times a second instead of once."""
    from backups_app.operations import journal

    monkeypatch.setattr(journal, "HEARTBEAT_SECONDS", 0.1)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function: make ``module.name`` raise ``error`` instead of working."""

    def break_it(where: object, name: str, error: BaseException) -> None:
        def fail(*_args: object, **_options: object) -> None:
            raise error

        monkeypatch.setattr(where, name, fail)

    return break_it


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function: do ``work(journal)`` at the beginning of each step whose name starts with ``name``."""
    from contextlib import contextmanager

    from backups_app.operations.journal import Journal

    def arrange(name: str, work: Any) -> None:
        real = Journal.stage

        @contextmanager
        def stage(journal: Journal, step: str, **options: Any) -> Iterator[None]:
            with real(journal, step, **options):
                if step.startswith(name):
                    work(journal)
                yield

        monkeypatch.setattr(Journal, "stage", stage)

    return arrange
