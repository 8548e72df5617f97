"""A worker that is killed while the API is stopped: others start it again, within two minutes."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable

import pytest

from backups_app.systems.api_health import probe
from backups_app.systems.postgres.connections import Server
from tests.docker_engine import TestApi
from tests.end_to_end.cluster import Site, contents, databases, swap_held_up, wait_until

pytestmark = pytest.mark.real
log = logging.getLogger(__name__)


def test_the_api_is_running_again_within_two_minutes_of_a_kill(
    new_site: Callable[..., Site], own_database: str, managed: Server, api: TestApi
) -> None:
    site = new_site(
        managed,
        own_database,
        API_CONTAINER=api.name,
        API_HEALTH_URL=api.health_url,
        DOCKER_HOST=api.engine.host,
        API_STOP_GRACE="1",
    )
    site.start_cluster()
    name = site.backup()
    before = contents(managed)
    pk = site.request_of_backup("restore", name, reason="test")
    wait_until(lambda: len(databases(managed)) == 2, 30, "nothing is staged", site)
    with swap_held_up(managed):
        wait_until(lambda: site.operation(pk)["current_step"] == "Swap the databases", 30, "no swap", site)
        assert not probe(api.health_url, timeout=1).is_up
        assert site.operation(pk)["api_stop_intended"]

        os.kill(site.operation(pk)["pid"], signal.SIGKILL)
        killed = time.monotonic()
        wait_until(lambda: probe(api.health_url, timeout=1).is_up, 120, "the API is still down", site)
        seconds = time.monotonic() - killed
    wait_until(lambda: not site.operation(pk)["api_stop_intended"], 10, "the intent is still stored", site)

    row, trail = site.operation(pk), site.trail(pk)
    assert seconds < 120
    log.info("the API answered again %.0f s after the kill of the worker", seconds)
    assert (row["state"], row["attempts"]) == ("interrupted", 1), row
    assert site.event(pk)["outcome"] == "untouched"
    assert contents(managed) == before
    assert databases(managed) == ["qrdb"]
    assert "Its process is gone: marked as interrupted." in trail
    assert "Starting the API again, which this operation had stopped." in trail
    assert "The API is healthy." in trail
    site.close()
