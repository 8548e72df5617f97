"""The schedules as their page shows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from croniter import croniter
from django.utils import timezone
from django_q.models import Schedule

from backups_app.models import Operation
from backups_app.schedules import JOBS, Job, Timing, timing_of

FOLLOWING = 3


@dataclass(frozen=True)
class Plan:
    """One job: when it runs, and the operation that it asked for last."""

    job: Job
    schedule: Schedule
    timing: Timing
    last: Operation | None

    @property
    def following(self) -> list[datetime]:
        """The next runs; the first is late while no worker is alive. None while it is paused."""
        if self.timing.is_paused or self.schedule.next_run is None:
            return []
        return [self.schedule.next_run, *islice(_after(self.schedule), FOLLOWING - 1)]


def plans() -> list[Plan]:
    """In the order in which they run in a day; those whose schedule is missing are left out."""
    found = {schedule.name: schedule for schedule in Schedule.objects.filter(name__in=JOBS)}
    asked = Operation.objects.filter(source=Operation.Source.SCHEDULE)
    return [
        Plan(job, found[job.key], timing_of(found[job.key]), asked.filter(kind=job.key).first())
        for job in JOBS.values()
        if job.key in found
    ]


def _after(schedule: Schedule) -> Iterator[datetime]:
    begin = max(timezone.now(), schedule.next_run)
    runs = croniter(schedule.cron, timezone.localtime(begin))
    while True:
        yield runs.get_next(datetime)
