"""Those who work on the API's container write down how it is; what the pages do asks no Docker Engine."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone
from pytest_django.fixtures import Settings

from backups_app import apps, config, tasks
from backups_app.errors import ContainerProblem, NotConfigured
from backups_app.models import ApiSighting, Backup, Operation, RestoreEvent
from backups_app.models.sighting import ApiSightingQuerySet
from backups_app.operations import liveness, sightings
from tests.interface.conftest import make_backup, make_restore
from tests.operations.fake_api import FakeApi
from tests.operations.site import WHO, Site

CONTAINER = "qr_generator_api"
BY_A_PAGE: dict[str, Any] = {"by": "tester"}
REFUSED = "The Docker Engine at HOST cannot be used."


@pytest.fixture(autouse=True)
def container(settings: Settings) -> None:
    settings.API_CONTAINER = CONTAINER


def seen_ago(seconds: float, **seen: Any) -> None:
    at = timezone.now() - timedelta(seconds=seconds)
    ApiSighting.objects.create(**{"container": CONTAINER, "at": at, "is_there": True} | seen)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"health": "healthy"}, (True, True, "healthy", "")),
        ({}, (True, True, "", "")),
        ({"is_running": False}, (True, False, "", "")),
        ({"is_there": False, "is_running": False}, (False, False, "", "")),
        ({"trouble": REFUSED}, (False, False, "", REFUSED)),
    ],
    ids=["healthy", "without-a-health-check", "stopped", "missing", "no-engine"],
)
def test_how_the_container_is_is_written_down(
    api: FakeApi, state: dict[str, Any], expected: tuple[bool, bool, str, str]
) -> None:
    seen_ago(12, is_running=True, health="starting", problem="It was different before.")
    for name, value in state.items():
        setattr(api, name, value)

    sightings.look_now_and_then()

    row = ApiSighting.objects.get()
    assert (row.is_there, row.is_running, row.health, row.problem) == expected
    assert row.container == CONTAINER
    assert row.is_fresh(timezone.now())


@pytest.mark.django_db
def test_of_all_workers_one_looks_within_ten_seconds(api: FakeApi) -> None:
    for _ in range(3):
        sightings.look_now_and_then()

    assert api.asked == 1


@pytest.mark.django_db
def test_an_api_that_is_not_managed_is_not_looked_at(api: FakeApi) -> None:
    api.is_managed = False

    sightings.look_now_and_then()
    sightings.look(api)

    assert not api.asked
    assert not ApiSighting.objects.exists()


@pytest.mark.django_db
def test_an_engine_that_is_silent_is_not_waited_for_as_long_as_by_an_operation(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.DOCKER_HOST = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()

        sightings.look(config.api())

    assert "does not answer in time" in ApiSighting.objects.get().problem
    assert time.monotonic() - began < 20


@pytest.mark.django_db
def test_a_look_that_began_before_another_does_not_undo_it() -> None:
    began = timezone.now()
    ApiSighting.objects.record(CONTAINER, began + timedelta(seconds=1), is_there=True)

    ApiSighting.objects.record(CONTAINER, began, is_there=True, is_running=True)

    assert not ApiSighting.objects.get().is_running


@pytest.mark.django_db
def test_a_sighting_of_before_the_clock_was_set_back_is_overwritten() -> None:
    seen_ago(-3600)

    ApiSighting.objects.record(CONTAINER, timezone.now(), is_there=True, is_running=True)

    assert ApiSighting.objects.get().is_running


@pytest.mark.django_db
def test_nothing_fails_while_the_sites_database_is_away(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: object, **_seen: object) -> None:
        raise OperationalError("the database system is shutting down")

    monkeypatch.setattr(ApiSightingQuerySet, "record", fail)

    sightings.look(api)

    assert "could not be written down" in caplog.text


def test_a_worker_looks_beside_its_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    beside: list[Callable[[], None]] = []
    monkeypatch.setattr(liveness, "start_beat", lambda *calls: beside.extend(calls))

    apps._start_beat()

    assert sightings.look_now_and_then in beside


@pytest.mark.parametrize(
    ("ask", "was_running"), [(tasks.request_api_stop, True), (tasks.request_api_start, False)]
)
def test_a_stop_and_a_start_are_seen_at_once(
    one_folder: Site, api: FakeApi, ask: Callable[..., Operation], was_running: bool
) -> None:
    seen_ago(1, is_running=was_running)
    api.is_running = was_running

    operation = one_folder.attempt(ask(reason="a test", **WHO))

    assert operation.state == "succeeded", operation.error
    assert ApiSighting.objects.get().is_running is not was_running


def test_while_the_api_is_stopped_for_a_backup_and_comes_up_again_that_is_seen(
    one_folder: Site, api: FakeApi, at_step: Any
) -> None:
    seen: list[bool] = []

    def look(*_of: object) -> None:
        seen.append(ApiSighting.objects.get().is_running)

    at_step("Dump", look)
    api.meanwhile = look

    operation = one_folder.attempt(tasks.request_backup(stop_api=True, **WHO))

    assert operation.state == "succeeded", operation.error
    assert seen == [False, True]


def test_an_api_that_does_not_get_well_is_seen_as_it_is(one_folder: Site, api: FakeApi) -> None:
    api.sick_starts, api.health = 1, "unhealthy"

    operation = one_folder.attempt(tasks.request_api_start(reason="a test", **WHO))

    assert operation.state == "failed"
    assert ApiSighting.objects.get().health == "unhealthy"


# --- what a page asks for --------------------------------------------------------------------------------


Asked = Callable[[Backup, RestoreEvent], Operation]
BY_PAGES: dict[str, Asked] = {
    "stop": lambda *_: tasks.request_api_stop(reason="a test", **BY_A_PAGE),
    "start": lambda *_: tasks.request_api_start(reason="a test", **BY_A_PAGE),
    "migrate": lambda *_: tasks.request_migrate_database(reason="a test", **BY_A_PAGE),
    "safe-backup": lambda *_: tasks.request_backup(stop_api=True, **BY_A_PAGE),
    "restore": lambda backup, _: tasks.request_restore(backup, reason="a test", **BY_A_PAGE),
    "undo": lambda _, event: tasks.request_undo_restore(event, reason="a test", **BY_A_PAGE),
}
by_each_page = pytest.mark.parametrize("ask", BY_PAGES.values(), ids=BY_PAGES)


@pytest.fixture
def recorded(db: None) -> tuple[Backup, RestoreEvent]:
    """A backup and its restore, by the records alone."""
    backup = make_backup()
    return backup, make_restore(backup)


@by_each_page
def test_what_a_page_asks_for_never_asks_the_engine(
    recorded: tuple[Backup, RestoreEvent], api: FakeApi, ask: Asked
) -> None:
    api.trouble = REFUSED

    operation = ask(*recorded)

    assert (operation.state, api.asked) == ("queued", 0)


@by_each_page
@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ({"is_there": False}, "There is no container qr_generator_api: check API_CONTAINER."),
        ({"is_there": False, "problem": REFUSED}, REFUSED),
    ],
    ids=["missing", "no-engine"],
)
def test_what_a_worker_has_just_seen_to_be_impossible_is_refused_at_once(
    recorded: tuple[Backup, RestoreEvent], api: FakeApi, ask: Asked, seen: dict[str, Any], why: str
) -> None:
    seen_ago(5, **seen)

    with pytest.raises(ContainerProblem) as error:
        ask(*recorded)

    assert error.value.message == why
    assert not Operation.objects.filter(state="queued").exists()


@pytest.mark.parametrize(
    "seen",
    [
        (60, {"problem": REFUSED}),
        (-3600, {"problem": REFUSED}),
        (5, {"container": "another", "problem": REFUSED}),
        (5, {"is_running": False}),
    ],
    ids=["too-old", "ahead", "of-another-container", "stopped"],
)
def test_nothing_is_refused_by_what_says_nothing_of_it(
    recorded: tuple[Backup, RestoreEvent], api: FakeApi, seen: tuple[float, dict[str, Any]]
) -> None:
    seen_ago(seen[0], **seen[1])

    assert BY_PAGES["stop"](*recorded).state == "queued"


@pytest.mark.parametrize("name", ["stop", "start", "migrate", "safe-backup"])
def test_without_a_container_it_is_refused_at_once(
    recorded: tuple[Backup, RestoreEvent], api: FakeApi, name: str
) -> None:
    api.is_managed = False

    with pytest.raises(NotConfigured, match="The API is not managed: set API_CONTAINER"):
        BY_PAGES[name](*recorded)


@by_each_page
def test_the_operation_itself_asks_the_engine_before_it_touches_anything(
    one_folder: Site, api: FakeApi, ask: Asked
) -> None:
    api.is_managed = False
    backup = one_folder.backup()
    one_folder.restore(backup)
    before, databases = one_folder.rows(), one_folder.databases()
    api.is_managed, api.trouble = True, REFUSED

    operation = ask(backup, one_folder.event())
    tasks.run(operation.pk)

    operation.refresh_from_db()
    assert operation.state == "failed"
    assert REFUSED in operation.error
    assert not api.calls
    assert (one_folder.rows(), one_folder.databases()) == (before, databases)


def test_what_a_command_does_itself_is_refused_by_the_engine_and_not_by_what_others_saw(
    one_folder: Site, api: FakeApi
) -> None:
    seen_ago(5, problem="An engine that is back by now.")
    asked = tasks.request_backup(stop_api=True, **WHO)
    api.trouble = REFUSED

    with pytest.raises(ContainerProblem, match=REFUSED):
        tasks.request_api_stop(reason="a test", **WHO)

    assert asked.state == "queued"
