"""The last thirty days: how many backups succeeded and failed, how long they took, how large they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Avg, Count, F, Func, IntegerField
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


class _NumberOfDay(Func):
    """The place of a row's day among the days that begin then; what lies before or behind is the nearest's.

    TruncDate would have SQLite call back for each row, and a Case of thirty conditions takes Django longer to
    write than SQLite to answer.
    """

    output_field = IntegerField()

    def __init__(self, begins: Sequence[datetime]) -> None:
        super().__init__(F("created_at"))
        self._begins = begins

    def as_sql(
        self, compiler: Any, connection: Any, *_words: Any, **_more: Any
    ) -> tuple[str, tuple[Any, ...]]:
        column, _params = compiler.compile(self.source_expressions[0])
        cases = " ".join(f"WHEN {column} < %s THEN {number}" for number in range(len(self._begins) - 1))
        moments = tuple(connection.ops.adapt_datetimefield_value(begin) for begin in self._begins[1:])
        return f"CASE {cases} ELSE {len(self._begins) - 1} END", moments


def beginning(back: int) -> datetime:
    """The first moment of the day that lies so many days back, in the site's time zone."""
    day = timezone.localdate() - timedelta(days=back)
    return timezone.make_aware(datetime.combine(day, datetime.min.time()))


def last_days() -> list[Day]:
    """Thirty days up to today, the oldest first; two queries."""
    backwards = range(DAYS - 1, -1, -1)
    days = [Day(timezone.localdate() - timedelta(days=back)) for back in backwards]
    begins = [beginning(back) for back in backwards]
    number = _NumberOfDay(begins)
    asked = (
        Operation.objects.filter(kind=Operation.Kind.BACKUP, created_at__gte=begins[0])
        .order_by()
        .values("state", number=number)
        .annotate(count=Count("pk"))
    )
    for row in asked:
        days[row["number"]].counts[row["state"]] = row["count"]
    made = (
        Backup.objects.filter(created_at__gte=begins[0])
        .exclude(origin=Backup.Origin.IMPORTED)
        .order_by()
        .values(number=number)
        .annotate(mean_seconds=Avg("seconds"), mean_size=Avg("size"))
    )
    for measured in made:
        day = days[measured["number"]]
        day.seconds, day.size = measured["mean_seconds"], measured["mean_size"]
    return days


def success(days: Sequence[Day]) -> tuple[int, int]:
    """How many backups succeeded, and how many failed."""
    return sum(day.good for day in days), sum(day.bad for day in days)
