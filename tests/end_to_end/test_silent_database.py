"""/health and /health/ready answer while the site's own PostgreSQL does not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.end_to_end.cluster import Site, SiteServer

SILENT = {"site_database": {"status": "fail", "message": "The site's database does not answer."}}
PATIENCE_SECONDS = 15  # a look takes three; without its limit it would take for ever


@pytest.fixture
def asked(postgresql_site: Site) -> Iterator[Site]:
    postgresql_site.ask("WorkerBeat.objects.update_or_create(name='w', defaults={'at': timezone.now()})")
    yield postgresql_site
    postgresql_site.ask("WorkerBeat.objects.filter(name='w').delete()")


def told(site: Site, address: str) -> tuple[int, object, float]:
    began = time.monotonic()
    status, checks = site.ask(
        "[(a.status_code, a.json()['checks']) for a in [Client().get(at)]][0]", at=address
    )
    return status, checks, time.monotonic() - began


@contextmanager
def a_table_locked(server: SiteServer) -> Iterator[None]:
    with psycopg.connect(server.running.url()) as connection:
        connection.execute("LOCK TABLE backups_app_workerbeat IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


@contextmanager
def standing_still(server: SiteServer) -> Iterator[None]:
    """Every process of the server is stopped: the system takes connections and nobody answers."""
    # The postmaster stops first and goes on last: what ends meanwhile stays its child, with its process id.
    own = server.running.pid
    os.kill(own, signal.SIGSTOP)
    children = [int(pid) for pid in Path(f"/proc/{own}/task/{own}/children").read_text().split()]
    try:
        for pid in children:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in [*children, own]:
            os.kill(pid, signal.SIGCONT)


def test_a_locked_table_holds_up_no_further_look(asked: Site, site_server: SiteServer) -> None:
    assert told(asked, "/health")[1]["worker"]["status"] == "pass"  # type: ignore[index]

    with a_table_locked(site_server):
        looks = [told(asked, "/health") for _ in range(3)]

    assert [(status, checks) for status, checks, _ in looks] == 3 * [(503, SILENT)]
    assert max(seconds for *_, seconds in looks) < PATIENCE_SECONDS
    assert looks[2][2] < looks[0][2], "the later ones did not wait"


def test_a_server_that_stands_still_is_said(asked: Site, site_server: SiteServer) -> None:
    assert told(asked, "/health/ready")[0] == 200

    with standing_still(site_server):
        looks = [told(asked, address) for address in ("/health/ready", "/health")]

    assert [(status, checks) for status, checks, _ in looks] == 2 * [(503, SILENT)]
    assert max(seconds for *_, seconds in looks) < PATIENCE_SECONDS
