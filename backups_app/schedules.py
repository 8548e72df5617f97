"""What runs by itself, and when: made after each migrate, changed by IT staff alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any, cast

from croniter import croniter
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_q.models import Schedule

from backups_app.models import Operation
from backups_app.models.operation import FAR_AHEAD
from backups_app.sentences import in_english, say

HOUSEKEEPING = "Housekeeping"
Kind = Operation.Kind
# As cron numbers them, in the order of a week here.
DAYS: dict[str, Promise] = {
    "1": gettext_lazy("Monday"),
    "2": gettext_lazy("Tuesday"),
    "3": gettext_lazy("Wednesday"),
    "4": gettext_lazy("Thursday"),
    "5": gettext_lazy("Friday"),
    "6": gettext_lazy("Saturday"),
    "0": gettext_lazy("Sunday"),
}
EVERY_DAY = tuple(DAYS)
FOR_EVER, PAUSED = -1, 0


@dataclass(frozen=True)
class Job:
    """One thing that is done by itself. ``key`` is the kind of operation and the name of its schedule.

    ``at`` is local time; jobs between 01:00 and 03:00 would be hit by daylight saving time. None: each hour.
    """

    key: str
    title: Promise
    purpose: Promise
    at: time | None
    days: tuple[str, ...] = EVERY_DAY

    @property
    def cron(self) -> str:
        return cron_of(self.at, self.days)


JOBS: dict[str, Job] = {
    job.key: job
    for job in (
        Job(
            Kind.BACKUP.value,
            gettext_lazy("Backup"),
            gettext_lazy("A backup of the live database in every location."),
            time(4, 0),
        ),
        Job(
            Kind.BACKUP_SITE.value,
            gettext_lazy("Backup of this site"),
            gettext_lazy("This site's own database: accounts and audit history."),
            time(4, 30),
        ),
        Job(
            Kind.PROVE_BACKUP.value,
            gettext_lazy("Restore drill"),
            gettext_lazy("The newest backup is restored into a scratch database and compared."),
            time(5, 0),
            ("0",),
        ),
        Job(
            Kind.CHECK_COPIES.value,
            gettext_lazy("Check of the copies"),
            gettext_lazy("Every copy is read where it lies; damaged ones are repaired."),
            time(5, 30),
        ),
        Job(
            Kind.PRUNE.value,
            gettext_lazy("Clean-up"),
            gettext_lazy("Backups that are no longer needed are removed."),
            time(6, 0),
        ),
        Job(
            Kind.VALIDATE_DATABASE.value,
            gettext_lazy("Validation of the live database"),
            gettext_lazy("Whether the live database is sound."),
            None,
        ),
    )
}


# A change from summer to winter time moves a run by an hour.
FAR_FROM_A_RUN = timedelta(hours=2)
FAR_FROM_A_MINUTE = timedelta(minutes=5)


@dataclass(frozen=True)
class Timing:
    """When a job runs, as its schedule says. ``at`` is None for each hour."""

    at: time | None
    days: tuple[str, ...]
    is_paused: bool

    def __str__(self) -> str:
        """Such as `Each day at 04:00` or `Monday, Friday at 04:00, paused`."""
        if self.at is None:
            text = _("Each hour")
        else:
            which = (
                _("Each day") if self.days == EVERY_DAY else ", ".join(str(DAYS[day]) for day in self.days)
            )
            text = _("%(days)s at %(time)s") % {"days": which, "time": self.at.strftime("%H:%M")}
        return _("%(when)s, paused") % {"when": text} if self.is_paused else text


def make_schedules(**_signal: Any) -> None:
    """Make what is missing, by name; an operator's times and pauses survive, the call is put right."""
    Schedule.objects.get_or_create(
        name=HOUSEKEEPING,
        defaults={
            "func": "backups_app.tasks.keep_house",
            "schedule_type": Schedule.MINUTES,
            "minutes": 1,
            "next_run": timezone.now(),
        },
    )
    for job in JOBS.values():
        call = {
            "func": "backups_app.tasks.request_scheduled",
            "args": repr((job.key,)),
            "kwargs": None,
            "hook": None,
            "intended_date_kwarg": "due",
        }
        row, is_new = Schedule.objects.get_or_create(
            name=job.key, defaults={**call, "schedule_type": Schedule.CRON, "cron": job.cron}
        )
        if not is_new and any(getattr(row, field) != value for field, value in call.items()):
            Schedule.objects.filter(pk=row.pk).update(**call)


def slot_of(job: Job, due: datetime) -> str:
    """The dedupe key of the run that is meant for then: one a local day, or one an hour.

    The day it was due on counts, not the one it is made up for: a backup that was missed and is taken at
    night does not take the place of the morning's.
    """
    slot = f"{due.astimezone(UTC):%Y-%m-%dT%H}" if job.at is None else f"{timezone.localdate(due)}"
    return f"{job.key}:{slot}"


def runs_after(cron: str, begin: datetime) -> Iterator[datetime]:
    """By the clock of TIME_ZONE, in summer and winter."""
    runs = croniter(cron, timezone.localtime(begin))
    while True:
        yield runs.get_next(datetime)


def run_before(cron: str, moment: datetime) -> datetime:
    """The last one before ``moment``, by the same clock."""
    return cast("datetime", croniter(cron, timezone.localtime(moment)).get_prev(datetime))


def _next_run(job: Job, cron: str) -> datetime:
    """Past the day whose run there has been: at a later time it would ask for nothing."""
    runs = runs_after(cron, timezone.now())
    return next(run for run in runs if not Operation.objects.filter(dedupe_key=slot_of(job, run)).exists())


def lost_runs(now: datetime) -> Iterator[tuple[str, datetime]]:
    """Jobs whose schedule has moved on although its call asked for nothing, and when they were due.

    A message dies with the worker that fetched it, and no operation stands behind this one yet. What a
    schedule was never called for, or is called for still, what fell into a pause or before a change, and
    what has been made up for since is not lost.
    """
    called = Schedule.objects.filter(name__in=JOBS, next_run__gt=now, task__isnull=False)
    for row in called.exclude(repeats=PAUSED):
        due = run_before(str(row.cron), now)
        if not _is_accounted_for(JOBS[str(row.name)], due, now):
            yield str(row.name), due


def _is_accounted_for(job: Job, due: datetime, now: datetime) -> bool:
    of_its_own = Q(dedupe_key=slot_of(job, due))
    since = Q(created_at__gte=due, created_at__lte=now + FAR_AHEAD)
    asked_since = since & Q(kind=job.key, source=Operation.Source.SCHEDULE) & ~Q(dedupe_key="")
    changed_since = since & Q(kind=Kind.CHANGE_SCHEDULE, result__schedule=job.key)
    return any(Operation.objects.filter(those).exists() for those in (of_its_own, asked_since, changed_since))


def pull_back() -> None:
    """When a clock that was ahead has been set back: no schedule waits for longer than until its next run.

    Housekeeping waits too then, so each worker asks this beside its sign of life.
    """
    now = timezone.now()
    Schedule.objects.filter(name=HOUSEKEEPING, next_run__gt=now + FAR_FROM_A_MINUTE).update(next_run=now)
    for row in Schedule.objects.filter(name__in=JOBS, next_run__gt=now + FAR_FROM_A_RUN):
        if row.next_run - next(runs_after(str(row.cron), now)) > FAR_FROM_A_RUN:
            wanted = _next_run(JOBS[str(row.name)], str(row.cron))
            if row.next_run - wanted > FAR_FROM_A_RUN:
                Schedule.objects.filter(pk=row.pk, next_run=row.next_run).update(next_run=wanted)


def is_too_far_ahead(schedule: Schedule, now: datetime) -> bool:
    """Whether it waits longer than its timing allows; the run of a day that has had its own is skipped."""
    if schedule.next_run is None:
        return False
    if schedule.name == HOUSEKEEPING:
        return bool(schedule.next_run > now + FAR_FROM_A_MINUTE)
    if schedule.next_run <= now + FAR_FROM_A_RUN:  # the second run from now lies ahead, too
        return False
    runs = runs_after(str(schedule.cron), now)
    next(runs)
    return bool(schedule.next_run - next(runs) > FAR_FROM_A_RUN)


def cron_of(at: time | None, days: Iterable[str]) -> str:
    """In the words of cron; the hourly job runs seven minutes past, when the daily ones do not start."""
    if at is None:
        return "7 * * * *"
    chosen = set(days)
    which = "*" if chosen == set(EVERY_DAY) else ",".join(sorted(chosen))
    return f"{at.minute} {at.hour} * * {which}"


def timing_of(schedule: Schedule) -> Timing:
    minute, hour, _day, _month, days = str(schedule.cron).split()
    chosen = set(EVERY_DAY if days == "*" else days.split(","))
    return Timing(
        at=None if hour == "*" else time(int(hour), int(minute)),
        days=tuple(day for day in DAYS if day in chosen),
        is_paused=schedule.repeats == PAUSED,
    )


def change(schedule: Schedule, timing: Timing, *, user: AbstractBaseUser) -> Operation | None:
    """Give it another timing; the change stands in the audit history. None when nothing changes."""
    job = JOBS[str(schedule.name)]
    with transaction.atomic(), in_english():
        row = Schedule.objects.select_for_update().get(pk=schedule.pk)
        before = timing_of(row)
        if timing == before:
            return None
        row.cron = cron_of(timing.at, timing.days)
        row.repeats = PAUSED if timing.is_paused else FOR_EVER
        row.next_run = _next_run(job, row.cron)
        row.save(update_fields=["cron", "repeats", "next_run"])
        changed = {"schedule": job.key, "before": str(before), "after": str(timing)}
        operation = Operation.objects.record(Kind.CHANGE_SCHEDULE, user=user, result=changed)
        operation.note(say("{job}: {timing}; before: {before}.", job=job.title, timing=timing, before=before))
    return operation
