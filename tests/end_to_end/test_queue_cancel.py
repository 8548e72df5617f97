"""Cancel and time-outs end the work and every program of it within seconds."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import psycopg

from backups_app.systems.postgres.connections import Server
from deploy.demo import embedded
from tests.conftest import DEFAULT_MAJOR, url_of
from tests.end_to_end.cluster import (
    SLOW_IN_STAGING,
    Site,
    contents,
    databases,
    dump_held_up,
    sessions_of,
    wait_until,
)

log = logging.getLogger(__name__)

# The work that is cancelled would go on for half a minute, or for ever.
SECONDS = 20

STUBBORN = """#!/bin/sh
case "$1" in --version) exec {program} --version;; esac
case " $* " in *" --file=/dev/null "*) exec {program} "$@";; esac
trap '' TERM
while :; do sleep 0.1; done
"""


def test_a_cancel_ends_a_dump_within_seconds(site: Site, managed: Server) -> None:
    files = site.files()
    with dump_held_up(managed):
        pk = site.request("backup")
        site.wait_for_program(pk, "pg_dump")

        seconds = cancel(site, pk)

        assert site.programs_of(pk) == []
        assert sessions_of(managed, pk) == 0
    log.info("a cancelled dump ended within %.1f s", seconds)
    row = site.operation(pk)
    assert seconds < SECONDS
    assert row["state"] == "cancelled", row
    assert row["error"] == "It was cancelled by an operator. Nothing was changed."
    assert site.files() == files


def test_a_cancel_ends_a_restore_within_seconds(site: Site, managed: Server) -> None:
    with psycopg.connect(url_of(managed), autocommit=True) as connection:
        connection.execute(SLOW_IN_STAGING)
    name = site.backup()
    before = contents(managed)
    pk = site.request_of_backup("restore", name, reason="test")
    site.wait_for_program(pk, "pg_restore")

    seconds = cancel(site, pk)

    log.info("a cancelled restore ended within %.1f s", seconds)
    row = site.operation(pk)
    assert seconds < SECONDS
    assert row["state"] == "cancelled", row
    assert "The live database was not touched." in row["error"]
    assert site.programs_of(pk) == []
    assert databases(managed) == ["qrdb"]
    assert contents(managed) == before
    assert site.event(pk)["outcome"] == "cancelled"


def test_the_queue_s_time_out_ends_a_program_that_ignores_being_asked(
    any_site: Site, managed: Server, tmp_path: Path
) -> None:
    site, files = any_site, any_site.files()
    programs = embedded.find_bin(DEFAULT_MAJOR)
    stubborn = tmp_path / "pg_dump"
    stubborn.write_text(STUBBORN.format(program=f"{programs}/pg_dump"))
    stubborn.chmod(0o755)
    site.start_cluster(TEST_QUEUE_TIMEOUT="8", POSTGRES_CLIENT_FOLDERS=str(tmp_path))
    whole = len(site.members())

    pk = site.request("backup")
    child = site.wait_for_program(pk, "pg_dump")
    row = site.wait_for(pk, seconds=40)
    wait_until(lambda: not site.programs_of(pk), 5, f"process {child} is still there", site)

    assert row["state"] == "failed", row
    assert row["error"] == "Its worker was told to stop. Nothing was changed."
    assert site.files() == files
    assert sessions_of(managed, pk) == 0
    wait_until(lambda: row["pid"] not in site.members(), 10, "the old worker is still there", site)
    wait_until(lambda: len(site.members()) == whole, 10, "no new worker came", site)
    assert site.wait_for(site.request("validate_database"))["state"] == "succeeded"


def cancel(site: Site, pk: int) -> float:
    """Cancel it; the seconds until it had ended."""
    began = time.monotonic()
    assert site.ask("Operation.objects.get(pk=pk).request_cancel('an operator')", pk=pk)
    site.wait_for(pk)
    return time.monotonic() - began
