"""What runs by itself, and when: made after each migrate, changed by IT staff alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import time
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone, translation
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_q.models import Schedule

from backups_app.models import Operation

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
    """Make what is missing, by name; an operator's times and pauses survive."""
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
        Schedule.objects.get_or_create(
            name=job.key,
            defaults={
                "func": "backups_app.tasks.request_scheduled",
                "args": repr((job.key,)),
                "schedule_type": Schedule.CRON,
                "cron": job.cron,
            },
        )


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
    job, before = JOBS[str(schedule.name)], timing_of(schedule)
    if timing == before:
        return None
    # what is recorded is read by everybody: it is in one language
    with transaction.atomic(), translation.override("en"):
        schedule.cron = cron_of(timing.at, timing.days)
        schedule.repeats = PAUSED if timing.is_paused else FOR_EVER
        schedule.next_run = schedule.calculate_next_run()
        schedule.save()
        now = timezone.now()
        operation = Operation.objects.create(
            kind=Kind.CHANGE_SCHEDULE,
            state=Operation.State.SUCCEEDED,
            requested_by=user,  # type: ignore[misc]
            requested_by_name=user.get_username(),
            created_at=now,
            expires_at=now,
            started_at=now,
            finished_at=now,
            result={"schedule": job.key, "before": str(before), "after": str(timing)},
        )
        operation.note(f"{job.title}: {timing}; before: {before}.")
    return operation
