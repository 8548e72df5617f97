"""The queue starts each operation once, soon, and never again."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable

from tests.end_to_end.cluster import Site, wait_until

log = logging.getLogger(__name__)


def test_twenty_duplicate_messages_start_one_operation(site: Site) -> None:
    pk = site.request("backup", is_queued=False)

    site.ask("[async_task('backups_app.tasks.run', pk) for _ in range(20)] and None", pk=pk)
    row = site.wait_for(pk)
    wait_for_empty_queue(site)

    assert (row["state"], row["attempts"]) == ("succeeded", 1), row
    assert site.ask("Backup.objects.filter(operation=pk).count()", pk=pk) == 1
    assert site.trail(pk).count("Dump and count in one snapshot") == 1


def test_an_ended_operation_is_not_started_by_a_late_message(site: Site) -> None:
    pk = site.request("validate_database")
    before = site.wait_for(pk)

    site.ask("async_task('backups_app.tasks.run', pk) and None", pk=pk)
    wait_for_empty_queue(site)

    assert before["state"] == "succeeded", before
    assert site.operation(pk) == before


def test_work_starts_soon_after_the_click(site: Site, record_property: Callable[[str, object], None]) -> None:
    latencies = []
    for _ in range(7):
        row = site.wait_for(site.request("validate_database"))
        times = site.ask(
            "(lambda o: [(o.started_at - o.created_at).total_seconds(),"
            " (o.steps.earliest('pk').at - o.created_at).total_seconds()])(Operation.objects.get(pk=pk))",
            pk=row["id"],
        )
        latencies.append(times)

    started, told = (statistics.median(column) for column in zip(*latencies, strict=True))
    record_property("click_to_start_seconds", round(started, 3))
    log.info("click to start %.3f s, to the first finished step %.3f s (median of 7)", started, told)


def test_each_worker_shows_life(site: Site) -> None:
    alive = site.ask("liveness.is_any_worker_alive()")
    names = site.ask(
        "list(WorkerBeat.objects.filter(at__gt=timezone.now() - timedelta(seconds=30))"
        ".values_list('name', flat=True))"
    )

    assert alive
    workers = [int(name.rpartition(":")[2]) for name in names]
    assert len([pid for pid in workers if pid in site.members()]) == 2


def test_housekeeping_is_scheduled_once_and_keeps_an_operator_s_pause(site: Site) -> None:
    site.ask("Schedule.objects.filter(name='Housekeeping').update(repeats=0)")

    again = site.manage("migrate", "--verbosity=0")
    rows = site.ask("list(Schedule.objects.filter(name='Housekeeping').values('func', 'repeats', 'minutes'))")
    site.ask("Schedule.objects.filter(name='Housekeeping').update(repeats=-1)")

    assert again.returncode == 0, again.stderr
    assert rows == [{"func": "backups_app.tasks.keep_house", "repeats": 0, "minutes": 1}]


def test_a_due_schedule_makes_one_backup(any_site: Site) -> None:
    site = any_site
    row = "Schedule.objects.filter(name='backup')"
    due = site.ask("(timezone.now() - timedelta(days=2)).isoformat()")

    def asked() -> list[int]:
        found = "Operation.objects.filter(source='schedule', kind='backup').values_list('pk', flat=True)"
        return list(site.ask(f"list({found})"))

    def be_due() -> None:
        site.ask(f"{row}.update(repeats=-1, next_run=due)", due=due)
        wait_until(lambda: site.ask(f"{row}.get().next_run > timezone.now()"), 60, "it was not called", site)

    try:
        be_due()
        wait_until(lambda: bool(asked()), 60, "the schedule asked for nothing", site)
        be_due()
    finally:
        site.ask(f"{row}.update(repeats=0)")
    wait_for_empty_queue(site)

    (pk,) = asked()
    assert site.wait_for(pk)["state"] == "succeeded"
    assert site.ask("Backup.objects.get(operation=pk).origin", pk=pk) == "scheduled"


def wait_for_empty_queue(site: Site, seconds: float = 15) -> None:
    """No message waits, and those that were fetched have been worked on."""
    deadline = time.monotonic() + seconds
    while site.ask("OrmQ.objects.count()"):
        assert time.monotonic() < deadline, site.log
        time.sleep(0.05)
    time.sleep(0.5)
