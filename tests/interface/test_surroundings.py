"""A page says how the API stands as a worker last saw it; it has no way to Docker of its own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from backups_app.models import ApiSighting
from backups_app.presentation.standing import standing
from backups_app.presentation.surroundings import ApiState
from backups_app.systems import docker_engine
from tests.interface.conftest import make_backup, make_beat, make_restore, make_sighting
from tests.interface.test_speed import PAGES

pytestmark = pytest.mark.django_db
CONTAINER = "qr_generator_api"


@pytest.fixture(autouse=True)
def managed_api(settings: Any, tmp_path: Any) -> None:
    settings.BACKUP_LOCATIONS = f"working={tmp_path}"
    settings.API_CONTAINER = CONTAINER


@pytest.mark.parametrize(
    ("seen", "text", "tone", "is_running"),
    [
        ({}, "healthy", "good", True),
        ({"health": ""}, "running", "good", True),
        ({"health": "starting"}, "starting", "warn", True),
        ({"health": "unhealthy"}, "unhealthy", "bad", True),
        ({"is_running": False, "health": ""}, "stopped", "bad", False),
        ({"is_there": False, "is_running": False}, "its container is missing", "bad", False),
    ],
)
def test_the_api_is_told_as_a_worker_saw_it(
    seen: dict[str, Any], text: str, tone: str, is_running: bool
) -> None:
    make_sighting(**seen)

    told = standing().api

    assert (told.text, told.tone, told.is_running, told.is_known) == (text, tone, is_running, True)


def test_what_kept_a_worker_from_seeing_it_is_told_in_the_readers_language(staff: Client) -> None:
    host = "tcp://docker-control:2375"
    make_sighting(problem=f"The Docker Engine at {host} cannot be used: it does not answer in time.")

    english = staff.get("/").content.decode()
    german = staff.get("/", headers={"Accept-Language": "de"}).content.decode()

    assert not standing().api.is_known
    assert f"The Docker Engine at {host} cannot be used: it does not answer in time." in english
    assert "it does not answer in time" not in german


def unseen(told: ApiState) -> str:
    assert (told.is_managed, told.is_known, told.text, told.tone) == (True, False, "not known", "warn")
    return told.detail


def test_nothing_is_known_of_an_api_that_no_worker_has_looked_at() -> None:
    make_sighting(container="another")

    assert unseen(standing().api).startswith(f"No worker has looked at the container {CONTAINER} yet: start")


def test_nothing_is_known_of_it_since_the_last_worker_looked(settings: Any) -> None:
    settings.TIME_ZONE = "UTC"
    make_sighting(seconds_ago=60)
    moment = f"{timezone.now() - timedelta(seconds=60):%Y-%m-%d %H:%M}"

    detail = unseen(standing().api)

    assert detail.startswith(f"No worker has looked at the container {CONTAINER} since {moment[:13]}")
    assert detail.endswith(": start one.")


def test_nothing_is_known_by_a_sighting_that_bears_a_time_in_the_future() -> None:
    make_sighting(seconds_ago=-3600)

    assert "yet: start one" in unseen(standing().api)


def test_whether_a_worker_lives_is_known_whatever_was_seen_of_the_api() -> None:
    make_beat()
    before = standing().is_worker_alive
    make_sighting()
    with_it = standing().is_worker_alive
    ApiSighting.objects.update(at=timezone.now() - timedelta(hours=1))

    assert (before, with_it, standing().is_worker_alive) == (True, True, True)


@pytest.mark.parametrize("address", PAGES)
def test_no_page_asks_docker(
    staff: Client, address: str, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Neither the engine that is set nor the usual one."""
    asked: list[str] = []
    monkeypatch.setattr(docker_engine.docker, "APIClient", lambda *_, **__: asked.append("client"))
    monkeypatch.setattr(docker_engine, "_knock", lambda host, _: asked.append(host))
    settings.DOCKER_HOST = ""
    make_restore(make_backup(pk=1), pk=1)
    make_sighting()

    staff.get(f"/{address}")

    assert not asked
