"""The schedules as their page shows them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from django.utils import timezone
from django_q.models import Schedule

from backups_app.models import Operation
from backups_app.schedules import JOBS, Job, Timing, runs_after, timing_of

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
        begin = max(timezone.now(), self.schedule.next_run)
        return [self.schedule.next_run, *islice(runs_after(str(self.schedule.cron), begin), FOLLOWING - 1)]


def plans() -> list[Plan]:
    """In the order in which they run in a day; those whose schedule is missing are left out."""
    found = {schedule.name: schedule for schedule in Schedule.objects.filter(name__in=JOBS)}
    # housekeeping's own requests have no key
    asked = Operation.objects.filter(source=Operation.Source.SCHEDULE).exclude(dedupe_key="")
    return [
        Plan(job, found[job.key], timing_of(found[job.key]), asked.filter(kind=job.key).first())
        for job in JOBS.values()
        if job.key in found
    ]
