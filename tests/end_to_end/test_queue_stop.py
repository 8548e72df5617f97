"""The cluster may be stopped or lose its parts, and the site's database may go away for a while."""

from __future__ import annotations

import os
import signal
import time

from backups_app.systems.postgres.connections import Server
from tests.end_to_end.cluster import (
    Site,
    SiteServer,
    dump_held_up,
    is_alive,
    locked,
    wait_until,
)


def test_a_graceful_stop_finishes_what_runs_and_leaves_the_rest_queued(site: Site, managed: Server) -> None:
    name = site.backup()
    site.start_cluster(QUEUE_WORKERS="1")
    assert site.cluster is not None
    with dump_held_up(managed):
        running = site.request("backup")
        site.wait_for_program(running, "pg_dump")
        queued = [site.request("validate_database")]
        queued += [site.request_of_backup(what, name) for what in ("validate_backup", "prove_backup")]
        wait_until(lambda: site.ask("OrmQ.objects.count()") <= 1, 5, "nothing was fetched beforehand")
        os.kill(site.cluster.pid, signal.SIGTERM)
        time.sleep(0.5)
        assert site.operation(running)["state"] == "running"
    wait_until(lambda: not site.members(), 20, "the cluster does not stop", site)

    assert site.operation(running)["state"] == "succeeded"
    assert site.programs_of(running) == []
    for pk in queued:
        row = site.operation(pk)
        assert (row["state"], row["attempts"]) == ("queued", 0), row
    site.start_cluster()
    for pk in queued:
        assert site.wait_for(pk)["state"] == "succeeded"


def test_a_killed_guard_takes_its_processes_with_it_but_no_work_in_the_middle(
    site: Site, managed: Server
) -> None:
    with dump_held_up(managed):
        pk = site.request("backup")
        site.wait_for_program(pk, "pg_dump")
        worker, old = site.operation(pk)["pid"], site.members()
        os.kill(site.sentinel(), signal.SIGKILL)
        wait_until(lambda: site.members() == [worker], 10, lambda: f"of {old} remain {site.members()}", site)
        assert site.operation(pk)["state"] == "running"
    row = site.wait_for(pk)
    wait_until(lambda: not site.members(), 10, "the worker is still there", site)

    assert row["state"] == "succeeded", row
    assert site.programs_of(pk) == []
    site.start_cluster()
    assert [site.wait_for(site.request("validate_database"))["state"] for _ in range(3)] == ["succeeded"] * 3


def test_a_record_is_closed_when_the_site_s_database_comes_back(
    postgresql_site: Site, site_server: SiteServer, managed: Server
) -> None:
    site = postgresql_site
    with locked(managed):
        pk = site.request("validate_database")
        site.wait_for(pk, "running")
        worker = site.operation(pk)["pid"]
        time.sleep(0.5)
        site_server.stop()
    time.sleep(4)
    site_server.start()
    row = site.wait_for(pk)

    assert row["state"] == "succeeded", row
    assert "Every scan belongs to a QR code." in " ".join(site.trail(pk))
    assert len(site.trail(pk)) == len(set(site.trail(pk)))
    assert is_alive(worker)
    wait_until(lambda: len(site.members()) == 6, 30, "the cluster is not whole", site)
    assert site.wait_for(site.request("validate_database"))["state"] == "succeeded"
