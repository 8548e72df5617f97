"""The last thirty days: how many backups succeeded and failed, how long they took, how large they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from django.db.models import Avg, Count
from django.db.models.functions import TruncDate
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from backups_app.models import Backup, Operation

DAYS = 30
GOOD = {Operation.State.SUCCEEDED}
BAD = {Operation.State.FAILED, Operation.State.INTERRUPTED, Operation.State.EXPIRED}
SIGNS = {"good": "✓", "warn": "!", "bad": "✗", "none": "·"}


@dataclass
class Day:
    """One day's backups; seconds and bytes are means, None without a backup."""

    day: date
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float | None = None
    size: float | None = None

    @property
    def good(self) -> int:
        return sum(count for state, count in self.counts.items() if state in GOOD)

    @property
    def bad(self) -> int:
        return sum(count for state, count in self.counts.items() if state in BAD)

    @property
    def tone(self) -> str:
        """good, warn when some failed, bad when all did, none without any."""
        if self.bad:
            return "warn" if self.good else "bad"
        return "good" if self.good else "none"

    @property
    def sign(self) -> str:
        return SIGNS[self.tone]

    @property
    def text(self) -> str:
        day = date_format(self.day, "MONTH_DAY_FORMAT")
        if self.tone == "none":
            return _("%(day)s: no backup") % {"day": day}
        made = ngettext("%d backup", "%d backups", self.good) % self.good
        if not self.bad:
            return _("%(day)s: %(made)s") % {"day": day, "made": made}
        failed = ngettext("%d failed", "%d failed", self.bad) % self.bad
        return _("%(day)s: %(made)s, %(failed)s") % {"day": day, "made": made, "failed": failed}

    @property
    def url(self) -> str:
        """The audit history of this day's backups."""
        parts = {"year": self.day.year, "month": self.day.month, "day": self.day.day}
        when = "".join(f"&created_at__{name}={value}" for name, value in parts.items())
        return f"{reverse('admin:backups_app_operation_changelist')}?kind__exact=backup{when}"


def last_days() -> list[Day]:
    """Thirty days up to today, the oldest first; two queries."""
    today = timezone.localdate()
    days = {day: Day(day) for day in (today - timedelta(days=back) for back in range(DAYS - 1, -1, -1))}
    since = timezone.make_aware(datetime.combine(min(days), datetime.min.time()))
    asked = (
        Operation.objects.filter(kind=Operation.Kind.BACKUP, created_at__gte=since)
        .order_by()
        .annotate(day=TruncDate("created_at"))
        .values("day", "state")
        .annotate(count=Count("pk"))
    )
    for row in asked:
        if row["day"] in days:
            days[row["day"]].counts[row["state"]] = row["count"]
    made = (
        Backup.objects.filter(created_at__gte=since)
        .exclude(origin=Backup.Origin.IMPORTED)
        .order_by()
        .annotate(day=TruncDate("created_at"))
        .values("day")
        .annotate(mean_seconds=Avg("seconds"), mean_size=Avg("size"))
    )
    for measured in made:
        if measured["day"] in days:
            days[measured["day"]].seconds = measured["mean_seconds"]
            days[measured["day"]].size = measured["mean_size"]
    return list(days.values())


def success(days: Sequence[Day]) -> tuple[int, int]:
    """How many backups succeeded, and how many failed."""
    return sum(day.good for day in days), sum(day.bad for day in days)
