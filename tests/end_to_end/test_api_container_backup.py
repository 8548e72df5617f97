"""A production-safe backup stops the API and brings it back, whatever happens in between."""

from __future__ import annotations

import logging

import pytest
from pytest_django.fixtures import Settings

from backups_app import tasks
from backups_app.errors import ContainerProblem, EnvironmentProblem, NotConfigured
from backups_app.models import Backup, Operation
from backups_app.operations import backup as backups
from tests.docker_engine import TestApi
from tests.end_to_end.api import (
    asking,
    assert_downtime_is_told,
    assert_in_order,
    instead,
    is_running,
    keep_house,
    restarts,
    trail,
)
from tests.operations.site import WHO, Site, beside, cancel_at

pytestmark = pytest.mark.real
log = logging.getLogger(__name__)


def safe_backup(site: Site) -> Operation:
    return site.attempt(tasks.request_backup(stop_api=True, **WHO))


def test_the_api_is_stopped_for_the_backup_and_healthy_afterwards(api_site: Site, api: TestApi) -> None:
    with asking(api) as client:
        operation = safe_backup(api_site)

    assert operation.state == "succeeded", operation.error
    assert Backup.objects.get(operation=operation).is_api_stopped
    assert_in_order(
        trail(operation),
        "Check that the API can be started again",
        "Stop the API",
        "Dump and count in one snapshot",
        "Read the whole archive",
        "Started the API",
        "The API is healthy.",
    )
    assert client.gaps == 1
    assert_downtime_is_told(operation, client)
    assert is_running()
    assert not operation.api_stop_intended
    log.info("down for %s s, %.3f s for a client", operation.result["downtime_seconds"], client.longest_gap)


def test_an_api_that_was_stopped_stays_stopped(api_site: Site, api: TestApi) -> None:
    api_site.attempt(tasks.request_api_stop(reason="maintenance", **WHO))
    before = restarts(api)

    operation = safe_backup(api_site)

    assert operation.state == "succeeded"
    assert Backup.objects.get(operation=operation).is_api_stopped
    assert "The API was not running: it stays stopped." in trail(operation)
    assert (is_running(), restarts(api)) == (False, before)


@pytest.mark.parametrize("error", [EnvironmentProblem("The disk is on fire."), SystemExit(1)])
def test_it_comes_back_whatever_ends_the_backup(
    api_site: Site, api: TestApi, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_arguments: object) -> None:
        assert not is_running()
        raise error

    monkeypatch.setattr(backups, "_read_whole", fail)
    before = restarts(api)
    operation = tasks.request_backup(stop_api=True, **WHO)
    if isinstance(error, Exception):
        tasks.run_here(operation)
    else:
        with pytest.raises(type(error)):
            tasks.run_here(operation)
    operation.refresh_from_db()

    assert operation.state == "failed"
    assert is_running()
    assert restarts(api) != before
    assert not operation.api_stop_intended
    assert list(api_site.working.iterdir()) == []


def test_it_comes_back_after_a_cancel(api_site: Site, api: TestApi) -> None:
    with api_site.locked(), beside(cancel_at("Dump")):
        operation = safe_backup(api_site)

    assert operation.state == "cancelled"
    assert is_running()
    assert_in_order(trail(operation), "Stop the API", "Started the API", "The API is healthy.")


def test_it_is_not_stopped_on_a_database_on_which_it_could_not_start(api_site: Site, api: TestApi) -> None:
    api_site.execute("ALTER TABLE qr_codes RENAME TO qr_codes_gone")
    before = restarts(api)

    operation = safe_backup(api_site)

    assert operation.state == "failed"
    assert operation.error.startswith("The API was not stopped, because it could not be started again.")
    assert (is_running(), restarts(api)) == (True, before)


def test_it_is_never_started_on_a_database_that_is_not_valid(
    api_site: Site, api: TestApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose = "ALTER TABLE qr_codes RENAME TO qr_codes_gone"
    instead(monkeypatch, backups, "_read_whole", lambda: api_site.execute(lose))

    operation = safe_backup(api_site)
    keep_house()

    assert not is_running()
    assert operation.api_stop_intended
    attempts = [
        line for line in trail(operation) if line.startswith("The API could not be started: The data")
    ]
    assert len(attempts) == 2
    assert "1 required table" in attempts[0]
    assert any("API" in warning for warning in operation.result["warnings"])

    api_site.execute("ALTER TABLE qr_codes_gone RENAME TO qr_codes")
    keep_house()
    operation.refresh_from_db()
    assert is_running()
    assert not operation.api_stop_intended


def test_without_a_container_it_is_refused_with_the_reason(api_site: Site, settings: Settings) -> None:
    refusals = {}
    for change in (
        {"API_CONTAINER": ""},
        {"API_CONTAINER": "nobody"},
        {"DOCKER_HOST": "unix:///nonexistent/docker.sock"},
    ):
        for name, value in change.items():
            setattr(settings, name, value)
        with pytest.raises((NotConfigured, ContainerProblem)) as error:
            tasks.request_backup(stop_api=True, **WHO)
        refusals[value] = error.value.message

    assert refusals[""].startswith("The API is not managed: set API_CONTAINER")
    assert "There is no container nobody" in refusals["nobody"]
    assert "there is no such socket" in refusals["unix:///nonexistent/docker.sock"]
    assert not Operation.objects.exists()
