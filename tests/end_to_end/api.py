"""A site in this process whose API is a real container, and a client that asks it all the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pytest_django.fixtures import Settings

from backups_app import config, tasks
from backups_app.models import Operation
from backups_app.operations import api_debts
from backups_app.systems.api_health import probe
from backups_app.systems.postgres.connections import Server
from tests.conftest import url_of
from tests.docker_engine import Engine, TestApi, make_api
from tests.operations.site import Site

ASK_SECONDS = 0.02


@pytest.fixture
def api(docker_engine: Engine, tmp_path: Path) -> Iterator[TestApi]:
    """A running container that answers as healthy."""
    folder = tmp_path / "state"
    folder.mkdir()
    made = make_api(docker_engine, folder, "qr_generator_api", has_health_check=False)
    deadline = time.monotonic() + 20
    while not probe(made.health_url, timeout=1).is_up:
        assert time.monotonic() < deadline, "the test's API does not come up"
        time.sleep(0.05)
    yield made
    docker_engine.remove_containers()


@pytest.fixture
def plain_site(transactional_db: None, managed: Server, settings: Settings, tmp_path: Path) -> Site:
    """A site in this process without an API."""
    folders = (tmp_path / "working", tmp_path / "second")
    for folder in folders:
        folder.mkdir(mode=0o700)
    settings.MANAGED_DATABASE_URL = url_of(managed)
    settings.BACKUP_LOCATIONS = f"working={folders[0]}"
    return Site(managed, *folders)


@pytest.fixture
def api_site(api: TestApi, plain_site: Site, settings: Settings) -> Site:
    """A site in this process that controls the API's container."""
    settings.API_CONTAINER = api.name
    settings.API_HEALTH_URL = api.health_url
    settings.DOCKER_HOST = api.engine.host
    settings.API_STOP_GRACE = 1
    settings.API_HEALTHY_TIME_LIMIT = 2
    return plain_site


def keep_house() -> None:
    """What the workers do by themselves within a minute, without waiting for it."""
    tasks.keep_house()
    Operation.objects.update(api_retry_at=None)
    api_debts.start_the_api_again()


def is_running() -> bool:
    return config.api().state().running


def restarts(api: TestApi) -> str:
    """When the container was started last, as the engine tells it."""
    with api.engine.client() as client:
        return str(client.api.inspect_container(api.name)["State"]["StartedAt"])


def trail(operation: Operation) -> list[str]:
    return list(operation.steps.values_list("what", flat=True))


def assert_in_order(found: list[str], *wanted: str) -> None:
    """Each of the wanted beginnings is in the trail, in this order."""
    rest = iter(found)
    for beginning in wanted:
        assert any(line.startswith(beginning) for line in rest), f"{beginning!r} is missing in {found}"


class Client:
    """What somebody who asks every 20 ms gets to see."""

    def __init__(self) -> None:
        self.answers: list[tuple[float, bool]] = []

    @property
    def longest_gap(self) -> float:
        """The longest time without a good answer, in seconds."""
        good = [at for at, is_up in self.answers if is_up]
        return max((later - earlier for earlier, later in pairwise(good)), default=0.0)

    @property
    def gaps(self) -> int:
        """How often good answers were followed by others."""
        states = [is_up for _, is_up in self.answers]
        return sum(now and not then for now, then in pairwise(states))


def assert_downtime_is_told(operation: Operation, client: Client) -> None:
    """No less than half of what the client saw, and no more than lies between its neighbours in the trail."""
    steps, names = list(operation.steps.all()), trail(operation)
    before, after = steps[names.index("Stop the API") - 1], steps[names.index("The API is healthy.") + 1]
    told = operation.result["downtime_seconds"]
    assert 0 < client.longest_gap / 2 < told < (after.at - before.at).total_seconds()


@contextmanager
def asking(api: TestApi) -> Iterator[Client]:
    """Ask the API for its health every 20 ms while the block lasts."""
    client, is_over = Client(), threading.Event()

    def ask() -> None:
        while not is_over.wait(ASK_SECONDS):
            is_up = probe(api.health_url, timeout=1).is_up
            client.answers.append((time.monotonic(), is_up))

    with beside(ask, is_over):
        yield client
        time.sleep(0.3)


@contextmanager
def unhealthy_with(api: TestApi, server: Server, query: str) -> Iterator[None]:
    """The API is unhealthy while ``query`` answers true in the live database, as a real one might be."""
    is_over = threading.Event()

    def follow() -> None:
        while not is_over.wait(0.02):
            with (
                suppress(psycopg.Error),
                psycopg.connect(url_of(server), autocommit=True, connect_timeout=2) as connection,
            ):
                row = connection.execute(query).fetchone()
                if row and row[0]:
                    api.answers("unhealthy", code="503 Service Unavailable", database="fail")
                else:
                    api.answers("healthy")

    with beside(follow, is_over):
        yield


@contextmanager
def beside(work: Callable[[], None], is_over: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(10)


def instead(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, before: Callable[[], None]) -> None:
    """Do something right before ``where.name`` does its work."""
    real = getattr(where, name)

    def both(*arguments: Any, **options: Any) -> Any:
        before()
        return real(*arguments, **options)

    monkeypatch.setattr(where, name, both)
