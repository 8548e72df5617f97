"""A page says how the API stands, also where the web server has no way to Docker."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
from django.test import Client

from backups_app.presentation import surroundings

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def managed_api(settings: Any, tmp_path: Any) -> None:
    settings.BACKUP_LOCATIONS = f"working={tmp_path}"
    settings.API_CONTAINER = "qr_generator_api"


@pytest.mark.parametrize("path", ["/", "/runbooks/corruption/"])
def test_without_a_way_to_docker_a_page_says_so_in_a_sentence(
    staff: Client, settings: Any, path: str
) -> None:
    settings.DOCKER_HOST = "tcp://127.0.0.1:1"

    page = staff.get(path)

    assert page.status_code == 200
    assert "cannot be used: it is not running or not reachable" in page.content.decode()


def test_a_page_does_not_wait_long_for_an_engine_that_is_silent(settings: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.DOCKER_HOST = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()

        api = surroundings.api()

    assert not api.is_known
    assert "does not answer in time" in api.detail
    assert time.monotonic() - began < 20, "as long as an operation waits, not a page"
