"""A worker that is killed or stopped leaves nothing behind, and its work is never started again."""

from __future__ import annotations

import os
import signal
import time

import psycopg
import pytest

from backups_app.systems.postgres.connections import Server
from tests.conftest import url_of
from tests.end_to_end.cluster import (
    SLOW_IN_STAGING,
    Site,
    contents,
    databases,
    dump_held_up,
    is_alive,
    sessions_of,
    wait_until,
)


@pytest.fixture
def slow_to_restore(managed: Server) -> None:
    """The managed database takes half a minute to restore into a staging database."""
    with psycopg.connect(url_of(managed), autocommit=True) as connection:
        connection.execute(SLOW_IN_STAGING)


def test_a_worker_killed_in_the_middle_of_a_dump(site: Site, managed: Server) -> None:
    before, files = contents(managed), site.files()
    with dump_held_up(managed):
        pk = site.request("backup")
        site.wait_for_program(pk, "pg_dump")

        os.kill(site.operation(pk)["pid"], signal.SIGKILL)
        wait_until(lambda: not site.programs_of(pk), 5, "pg_dump outlived its worker")
        assert [name for name in site.files() if not name.startswith(".")] == files
        housekeeping_finds_it_dead(site, pk)
        wait_until(lambda: sessions_of(managed, pk) == 0, 5, "its sessions are still there")

    assert contents(managed) == before
    assert site.files() == files
    assert not site.ask("Backup.objects.filter(operation=pk).exists()", pk=pk)
    assert_never_started_again(site, pk)
    assert site.backup()


def test_a_worker_killed_in_the_middle_of_a_restore(
    site: Site, managed: Server, slow_to_restore: None
) -> None:
    name = site.backup()
    before = contents(managed)
    pk = site.request_of_backup("restore", name, reason="test")
    site.wait_for_program(pk, "pg_restore")
    assert len(databases(managed)) == 2

    os.kill(site.operation(pk)["pid"], signal.SIGKILL)
    wait_until(lambda: not site.programs_of(pk), 5, "pg_restore outlived its worker")
    housekeeping_finds_it_dead(site, pk)

    assert sessions_of(managed, pk) == 0
    assert databases(managed) == ["qrdb"]
    assert contents(managed) == before
    assert site.event(pk)["outcome"] == "untouched"
    assert "not touched" in site.operation(pk)["error"]
    assert_never_started_again(site, pk)


def test_a_stopped_worker_that_wakes_later_changes_nothing(site: Site, managed: Server) -> None:
    files = site.files()
    with dump_held_up(managed):
        pk = site.request("backup")
        site.wait_for_program(pk, "pg_dump")
        worker = site.operation(pk)["pid"]
        os.kill(worker, signal.SIGSTOP)
        try:
            housekeeping_finds_it_dead(site, pk)
            given_up = site.operation(pk)
            trail = site.trail(pk)
        finally:
            os.kill(worker, signal.SIGCONT)
        wait_until(lambda: not site.programs_of(pk), 10, "its program goes on")
    next_one = site.wait_for(site.request("validate_database"))
    time.sleep(1.5)

    assert next_one["state"] == "succeeded", next_one
    assert site.operation(pk) == given_up
    assert site.trail(pk) == trail
    assert site.files() == files
    assert not site.ask("Backup.objects.filter(operation=pk).exists()", pk=pk)
    assert is_alive(worker)


def housekeeping_finds_it_dead(site: Site, pk: int) -> None:
    """As later, when it has been silent for too long."""
    for path in site.backups.glob(".*"):
        os.utime(path, (time.time() - 60, time.time() - 60))
    site.let_time_pass(pk)
    site.keep_house()
    row = site.operation(pk)
    assert row["state"] == "interrupted", row
    assert row["leftovers"] == [], row


def assert_never_started_again(site: Site, pk: int) -> None:
    before = site.operation(pk)
    site.ask("async_task('backups_app.tasks.run', pk) and None", pk=pk)
    site.keep_house()
    other = site.wait_for(site.request("validate_database"))
    after = site.operation(pk)
    assert other["state"] == "succeeded", other
    assert after == before
    assert (after["state"], after["attempts"]) == ("interrupted", 1)
