"""Which backup the live database goes on from: after a restore that is not always the newest one."""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum

from django.db.models import Case, QuerySet, Value, When

from backups_app.models import Backup, RestoreEvent


class Line(IntEnum):
    """How a backup stands to the live database, the nearest last: ``line`` of each that `by_line` gives."""

    REPLACED = 0  # it holds the state that the last restore replaced, or one of before
    PUT_BACK = 1  # the last restore put this very state in place
    LIVE = 2  # taken since then, or there was no restore


def last_swap() -> RestoreEvent | None:
    """The restore, or the undoing of one, that made the present live database."""
    return RestoreEvent.objects.in_place().select_related("undoes").first()


def by_line(backups: QuerySet[Backup], swap: RestoreEvent | None) -> QuerySet[Backup]:
    """The nearest to the live database first, among them the newest."""
    if swap is None:
        return backups.annotate(line=Value(Line.LIVE.value)).order_by("-created_at", "-pk")
    in_place = swap.undoes.safety_backup_id if swap.undoes else swap.backup_id
    line = Case(
        When(pk=swap.safety_backup_id, then=Value(Line.REPLACED.value)),
        When(created_at__gt=swap.created_at, then=Value(Line.LIVE.value)),
        When(pk=in_place, then=Value(Line.PUT_BACK.value)),
        default=Value(Line.REPLACED.value),
    )
    return backups.annotate(line=line).order_by("-line", "-created_at", "-pk")


def is_live(backup: Backup, swap: RestoreEvent | None) -> bool:
    """The rule of `by_line` for one backup: whether it was taken of the present live database."""
    return swap is None or (backup.created_at > swap.created_at and backup.pk != swap.safety_backup_id)


def line_of(backup: Backup | None) -> Line:
    """Of one that `by_line` gave."""
    return Line(getattr(backup, "line", Line.LIVE))


def last_of_live(now: datetime) -> Backup | None:
    """The last validated backup that the live database goes on from."""
    found = by_line(Backup.objects.validated().taken_by(now), last_swap()).first()
    return None if line_of(found) is Line.REPLACED else found
