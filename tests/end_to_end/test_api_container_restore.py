"""A restore stops the API around the swap alone, and swaps back when the API does not get well."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from backups_app import tasks
from backups_app.errors import ContainerProblem
from backups_app.models import Operation
from backups_app.operations import api as api_lifecycle
from backups_app.operations import restore as restores
from backups_app.systems.postgres import swap
from backups_app.systems.postgres.connections import Server
from tests.docker_engine import TestApi, make_api
from tests.end_to_end.api import (
    asking,
    assert_downtime_is_told,
    assert_in_order,
    instead,
    is_running,
    keep_house,
    restarts,
    trail,
    unhealthy_with,
)
from tests.operations.site import WHO, Site

pytestmark = pytest.mark.real
log = logging.getLogger(__name__)

LOSE_SOME = "DELETE FROM qr_codes WHERE id IN (SELECT id FROM qr_codes ORDER BY id LIMIT 20)"
IS_RESTORED = "SELECT count(*) = 334 FROM qr_codes"


def test_the_api_serves_until_the_swap_and_its_downtime_is_measured(api_site: Site, api: TestApi) -> None:
    backup = api_site.backup()
    wanted = api_site.rows()
    api_site.execute(LOSE_SOME)

    with asking(api) as client:
        operation = api_site.restore(backup)

    event = api_site.event()
    assert operation.state == "succeeded", operation.error
    assert api_site.rows() == wanted
    assert_in_order(
        trail(operation),
        "Restore into it",
        "Compare every row and checksum",
        "Dump and count in one snapshot",
        "Stop the API",
        "Swap the databases",
        "Started the API",
        "The API is healthy.",
        "Compare before with after",
    )
    assert client.gaps == 1
    assert event.downtime_seconds is not None
    assert event.downtime_seconds == operation.result["downtime_seconds"]
    assert_downtime_is_told(operation, client)
    log.info(
        "a restore of %.1f s: API down for %.3f s by the event, %.3f s for a client that asks every 20 ms,"
        " of which the swap %.3f s",
        (operation.finished_at - operation.started_at).total_seconds() if operation.finished_at else 0,
        event.downtime_seconds,
        client.longest_gap,
        event.swap_seconds,
    )


def test_an_api_that_is_unhealthy_on_the_restored_database_gets_the_old_one_back(
    api_site: Site, api: TestApi, managed: Server
) -> None:
    backup = api_site.backup()
    api_site.execute(LOSE_SOME)
    before = api_site.rows()

    with unhealthy_with(api, managed, IS_RESTORED):
        operation = api_site.restore(backup)

    assert operation.state == "failed"
    assert operation.error == (
        "The API did not become healthy on the restored database, so the restore was rolled back."
        " The database that was live before is live again, unchanged."
    )
    assert api_site.event().outcome == "rolled_back"
    assert api_site.event().downtime_seconds > 2
    assert api_site.rows() == before
    assert api_site.databases() == {"qrdb"}
    assert is_running()
    assert not operation.api_stop_intended
    said = operation.steps.get(what__startswith="The API did not become healthy on the restored database: ")
    assert "listening on" in said.detail["log"]
    assert "hunter2" not in said.detail["log"]
    assert_in_order(
        trail(operation),
        "Swap the databases",
        "Started the API",
        "The API did not",
        "Swapped back",
        "Started the API",
        "The API is healthy.",
    )


@pytest.mark.parametrize(("database", "outcome"), [("pass", "restored"), ("fail", "rolled_back")])
def test_degraded_is_well_enough_only_while_the_database_passes(
    api_site: Site, api: TestApi, database: str, outcome: str
) -> None:
    backup = api_site.backup()
    api.answers("degraded", database=database)

    operation = api_site.restore(backup)

    assert api_site.event().outcome == outcome
    assert ("The API is degraded." in trail(operation)) == (outcome == "restored")
    api.answers("healthy")
    keep_house()
    operation.refresh_from_db()
    assert is_running()
    assert not operation.api_stop_intended


def test_an_api_that_was_stopped_stays_stopped_after_a_restore(api_site: Site, api: TestApi) -> None:
    backup = api_site.backup()
    api_site.attempt(tasks.request_api_stop(reason="emergency", **WHO))
    before = restarts(api)

    operation = api_site.restore(backup)
    keep_house()

    assert operation.state == "succeeded"
    assert "The API was not running: it stays stopped." in trail(operation)
    assert api_site.event().downtime_seconds is None
    assert (is_running(), restarts(api)) == (False, before)


def test_a_swap_that_fails_starts_the_api_on_the_live_database(
    api_site: Site, api: TestApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = api_site.backup()
    before, started = api_site.rows(), restarts(api)

    def fail(*_arguments: object, **_options: object) -> float:
        assert not is_running()
        raise SystemExit(1)

    monkeypatch.setattr(swap, "swap", fail)
    operation = tasks.request_restore(backup, reason="test", **WHO)
    with pytest.raises(SystemExit):
        tasks.run_here(operation)
    operation.refresh_from_db()

    assert operation.state == "failed"
    assert api_site.event().outcome == "untouched"
    assert api_site.rows() == before
    assert is_running()
    assert restarts(api) != started
    assert not operation.api_stop_intended


def test_a_time_out_while_the_api_comes_up_leaves_it_running_on_the_restored_database(
    api_site: Site, api: TestApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = api_site.backup()
    wanted = api_site.rows()
    api_site.execute(LOSE_SOME)
    real, calls = api_lifecycle.start_validated, []

    def be_ended_once(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise SystemExit(1)
        return real(*arguments, **options)

    monkeypatch.setattr(api_lifecycle, "start_validated", be_ended_once)
    operation = tasks.request_restore(backup, reason="test", **WHO)
    with pytest.raises(SystemExit):
        tasks.run_here(operation)

    assert api_site.event().outcome == "restored"
    assert api_site.rows() == wanted
    assert is_running()
    assert len(calls) == 2


def test_a_container_that_is_removed_before_the_stop_ends_the_restore_untouched(
    api_site: Site, api: TestApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = api_site.backup()
    before = api_site.rows()
    instead(monkeypatch, restores, "_take_safety_backup", api.engine.remove_containers)

    operation = api_site.restore(backup)

    assert operation.state == "failed"
    assert "There is no container qr_generator_api" in operation.error
    assert "The live database was not touched." in operation.error
    assert api_site.event().outcome == "untouched"
    assert api_site.rows() == before
    assert not operation.api_stop_intended


def test_a_container_that_is_removed_while_it_is_stopped_is_started_when_it_is_back(
    api_site: Site, api: TestApi, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    backup = api_site.backup()
    api_site.execute(LOSE_SOME)
    before = api_site.rows()
    removed: list[None] = []

    def remove_once() -> None:
        if not removed:
            api.engine.remove_containers()
            removed.append(None)

    instead(monkeypatch, swap, "swap", remove_once)
    operation = api_site.restore(backup)
    keep_house()
    operation.refresh_from_db()

    assert api_site.event().outcome == "rolled_back"
    assert api_site.rows() == before
    assert operation.api_stop_intended
    assert len([line for line in trail(operation) if "There is no container" in line]) == 3

    again = make_api(api.engine, api.folder, api.name, has_health_check=False)
    settings.API_HEALTH_URL = again.health_url
    keep_house()
    operation.refresh_from_db()
    assert is_running()
    assert not operation.api_stop_intended
    assert trail(operation)[-1] == "The API is healthy."


def test_an_engine_that_stops_in_the_middle_gets_its_api_started_when_it_is_back(
    api_site: Site, api: TestApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = api_site.backup()
    before = api_site.rows()
    instead(monkeypatch, swap, "swap", api.engine.stop)
    try:
        operation = api_site.restore(backup)
        keep_house()
    finally:
        assert api.engine.start()
    operation.refresh_from_db()
    assert operation.state == "failed"
    assert api_site.event().outcome == "rolled_back"
    assert api_site.rows() == before
    assert operation.api_stop_intended
    assert not is_running()

    keep_house()

    operation.refresh_from_db()
    assert is_running()
    assert not operation.api_stop_intended


def test_nothing_is_started_when_the_engine_cannot_be_asked(
    api_site: Site, api: TestApi, settings: Settings
) -> None:
    backup = api_site.backup()
    settings.DOCKER_HOST = "unix:///nonexistent/docker.sock"

    with pytest.raises(
        ContainerProblem, match="there is no such socket: start Docker or correct DOCKER_HOST"
    ):
        tasks.request_restore(backup, reason="test", **WHO)

    assert not Operation.objects.filter(kind="restore").exists()
