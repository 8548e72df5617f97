"""A page waits for the site's own PostgreSQL with limits, a command and a worker for as long as it takes."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from backups_app.systems.postgres.connections import STILL_THERE
from deploy.demo import embedded
from tests.conftest import DEFAULT_MAJOR
from tests.site.conftest import Run

ASK = """
import json
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")
    limits = cursor.fetchone()
print(json.dumps([*limits, connection.connection.info.get_parameters()]))
"""


@pytest.mark.parametrize(
    ("process", "limits"),
    [
        ("import qradmin.wsgi", ["30s", "10s"]),
        ("import django; django.setup()", ["0", "0"]),
    ],
    ids=["web", "command"],
)
def test_only_the_pages_have_limits_and_every_connection_notices_a_dead_network(
    run: Run, start_postgres: Callable[[int], embedded.EmbeddedServer], process: str, limits: list[str]
) -> None:
    server = start_postgres(DEFAULT_MAJOR)

    asked = run("-c", process + ASK, DATABASE_URL=server.url() + "?connect_timeout=3")

    assert asked.returncode == 0, asked.stderr
    *found, parameters = json.loads(asked.stdout)
    assert found == limits
    assert parameters["connect_timeout"] == "3"
    assert set(STILL_THERE) <= set(parameters)
