"""What the first page shows: cards, banners with the way out, the running work, the last thirty days."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Q, Subquery, Sum
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django_q.models import Schedule

from backups_app.models import Backup, BackupCopy, Operation, RestoreEvent, WorkerBeat
from backups_app.models.worker import ALIVE_FOR
from backups_app.presentation import days as thirty
from backups_app.presentation import live, surroundings, words
from backups_app.presentation.charts import Bar, bar_chart
from backups_app.presentation.surroundings import ApiState, Room
from backups_app.schedules import JOBS, PAUSED

Kind = Operation.Kind
OVERDUE_AFTER = timedelta(hours=26)
RECENT_FAILURE = timedelta(days=7)
STILL_FRESH = timedelta(hours=26)
FEW_BACKUPS = 3
LITTLE_ROOM = 200 * 1024 * 1024


@dataclass(frozen=True)
class Card:
    """One figure of the first page."""

    title: str
    value: str
    tone: str = "plain"
    detail: str = ""
    url: str = ""


@dataclass(frozen=True)
class Banner:
    """What is wrong, and the way out."""

    text: str
    url: str = ""
    link: str = ""
    tone: str = "bad"


@dataclass(frozen=True)
class Standing:
    """All that is known at one moment; each field is one query at most."""

    now: datetime
    good: Backup | None
    stored_bytes: int
    stored_copies: int
    active: list[Operation]
    latest: dict[str, Operation]
    last_beat: datetime | None
    schedules: list[Schedule]
    restore: RestoreEvent | None
    rooms: list[Room]
    api: ApiState

    @property
    def is_overdue(self) -> bool:
        return self.good is None or self.now - self.good.created_at > OVERDUE_AFTER

    @property
    def is_worker_alive(self) -> bool:
        return self.last_beat is not None and self.now - self.last_beat <= ALIVE_FOR

    @property
    def tight(self) -> list[Room]:
        """Locations with room for fewer than three more backups, or hardly any at all."""
        needed = max(LITTLE_ROOM, FEW_BACKUPS * (self.good.size if self.good else 0))
        return [room for room in self.rooms if room.trouble or (room.free is not None and room.free < needed)]


def standing() -> Standing:
    """Look once at everything."""
    stored = BackupCopy.objects.filter(state=BackupCopy.State.STORED, backup__removed_at=None).aggregate(
        bytes=Sum("backup__size"), copies=Count("pk")
    )
    return Standing(
        now=timezone.now(),
        good=Backup.objects.validated().defer("manifest", "proof").first(),
        stored_bytes=stored["bytes"] or 0,
        stored_copies=stored["copies"],
        active=list(Operation.objects.active().select_related("backup").order_by("-state", "created_at")[:5]),
        latest=_latest(Kind.BACKUP, Kind.VALIDATE_DATABASE),
        last_beat=WorkerBeat.objects.aggregate(at=Max("at"))["at"],
        schedules=list(Schedule.objects.filter(name__in=JOBS).order_by("next_run")),
        restore=RestoreEvent.objects.select_related("operation").first(),
        rooms=surroundings.space(),
        api=surroundings.api(),
    )


def overview(request: HttpRequest) -> dict[str, Any]:
    """The context of the first page."""
    now = standing()
    month = thirty.last_days()
    running = now.active[0] if now.active else None
    user = request.user

    def may(codename: str) -> bool:
        return user.has_perm(f"backups_app.{codename}")

    return {
        "standing": now,
        "may_create": may("create_backup"),
        "may_validate": may("validate_database"),
        "may_control_api": may("control_api") and now.api.is_managed,
        "is_api_managed": now.api.is_managed,
        "api": now.api,
        "cards": list(_cards(now, month)),
        "banners": list(_banners(now)),
        "running": live.context_of(running) if running else None,
        "others": now.active[1:],
        "days": month,
        "has_history": any(day.counts or day.size for day in month),
        "charts": _charts(month),
        "is_empty": now.good is None and not any(day.counts for day in month),
    }


def state_cards(now: Standing) -> list[Card]:
    """How things stand, without the past: for the runbooks."""
    return [
        _card_of_last_good(now),
        _card_of_database(now),
        Card(_("API"), now.api.text, now.api.tone),
        _card_of_worker(now),
    ]


def _cards(now: Standing, month: list[thirty.Day]) -> Iterator[Card]:
    yield _card_of_last_good(now)
    yield _card_of_success(month)
    yield _card_of_schedule(now)
    yield _card_of_storage(now)
    yield _card_of_database(now)
    yield Card(_("API"), now.api.text, now.api.tone)
    yield _card_of_worker(now)
    yield _card_of_restore(now)


def _card_of_worker(now: Standing) -> Card:
    if now.is_worker_alive:
        return Card(_("Worker"), _("alive"), "good", _("ready for what is asked"))
    seen = _("last seen %(time)s") % {"time": words.age(now.last_beat)} if now.last_beat else _("never seen")
    return Card(_("Worker"), _("none is alive"), "bad", seen)


def _card_of_last_good(now: Standing) -> Card:
    title = _("Last validated backup")
    if now.good is None:
        return Card(title, _("none"), "bad")
    url = reverse("admin:backups_app_backup_change", args=[now.good.pk])
    detail = f"{words.state_of(now.good).text} · {words.size(now.good.size)}"
    return Card(title, words.age(now.good.created_at), "bad" if now.is_overdue else "good", detail, url)


def _card_of_success(month: list[thirty.Day]) -> Card:
    title = _("Backups, 30 days")
    good, bad = thirty.success(month)
    if not good + bad:
        return Card(title, words.NOTHING, detail=_("none so far"))
    url = reverse("admin:backups_app_operation_changelist") + "?kind__exact=backup"
    share = 100 * good // (good + bad)
    detail = _("%(bad)s of %(all)s failed") % {"bad": words.number(bad), "all": words.number(good + bad)}
    if not bad:
        detail = ngettext("all %(all)s succeeded", "all %(all)s succeeded", good) % {
            "all": words.number(good)
        }
    return Card(
        title, f"{share} %", "warn" if bad else "good", detail, url + ("&state__exact=failed" if bad else "")
    )


def _card_of_schedule(now: Standing) -> Card:
    title = _("Next scheduled run")
    url = reverse("admin:schedules")
    running = [one for one in now.schedules if one.repeats != PAUSED and one.next_run]
    if not running:
        return Card(title, _("none"), "warn", _("nothing runs by itself"), url)
    # the hourly validation is nearly always the next one, which tells nobody anything
    rare = [one for one in running if one.name != Kind.VALIDATE_DATABASE]
    following = (rare or running)[0]
    left = following.next_run - now.now
    value = words.ahead(left) if left > timedelta() else _("now")
    local = timezone.localtime(following.next_run).strftime("%Y-%m-%d %H:%M")
    if Kind.BACKUP not in {one.name for one in running}:
        return Card(title, value, "warn", _("The daily backup is paused."), url)
    detail = f"{JOBS[str(following.name)].title} · {local}"
    paused = ", ".join(str(JOBS[str(one.name)].title) for one in now.schedules if one.repeats == PAUSED)
    if paused:
        detail += " · " + _("paused: %(names)s") % {"names": paused}
    return Card(title, value, "warn" if paused else "plain", detail, url)


def _card_of_storage(now: Standing) -> Card:
    known = [room for room in now.rooms if room.free is not None]
    free = " · ".join(
        _("%(size)s free in %(place)s") % {"size": words.size(room.free), "place": room.alias}
        for room in known
    )
    trouble = [room.alias for room in now.rooms if room.trouble]
    if trouble:
        free = _("cannot be reached: %(places)s") % {"places": ", ".join(trouble)}
    return Card(_("Stored"), words.size(now.stored_bytes), "bad" if now.tight else "plain", free)


def _card_of_database(now: Standing) -> Card:
    title = _("Database")
    check = now.latest.get(Kind.VALIDATE_DATABASE)
    if check is None or check.finished_at is None:
        return Card(title, _("not checked yet"), "warn")
    url = reverse("admin:backups_app_operation_change", args=[check.pk])
    when = _("checked %(time)s") % {"time": words.age(check.finished_at)}
    if check.state != Operation.State.SUCCEEDED:
        is_invalid = check.blame == "database"
        return Card(title, _("not valid") if is_invalid else _("could not be checked"), "bad", when, url)
    return Card(title, _("valid"), "good" if now.now - check.finished_at < STILL_FRESH else "warn", when, url)


def _card_of_restore(now: Standing) -> Card:
    title = _("Last restore")
    if now.restore is None:
        return Card(title, _("never"), detail=_("none was needed so far"))
    url = reverse("admin:backups_app_restoreevent_change", args=[now.restore.pk])
    tone, text = words.state_of(now.restore)
    plain = "plain" if tone in {"good", "quiet"} else tone
    return Card(title, words.age(now.restore.created_at), plain, text, url)


def _banners(now: Standing) -> Iterator[Banner]:
    if not now.is_worker_alive:
        yield Banner(
            _("No worker is alive: nothing that is asked for begins, and no schedule runs."),
            reverse("admin:runbook", args=["hung-backup"]),
            _("How to start one"),
        )
    if now.good is not None and now.is_overdue:
        yield Banner(
            _("The last validated backup is too old: it was taken %(time)s.")
            % {"time": words.age(now.good.created_at)},
            reverse("admin:runbook", args=["no-backups"]),
            _("What to do"),
        )
    yield from _banners_of_failures(now)
    for room in now.tight:
        text = room.trouble or _("%(place)s has only %(size)s left.") % {
            "place": room.alias,
            "size": words.size(room.free),
        }
        yield Banner(text, reverse("admin:runbook", args=["no-backups"]), _("What to do"))
    if now.api.is_managed and not now.api.is_running and not any(one.api_stop_intended for one in now.active):
        yield Banner(
            _("The API is down: %(state)s.") % {"state": now.api.text},
            reverse("admin:runbook", args=["corruption"]),
            _("What to do"),
        )


def _banners_of_failures(now: Standing) -> Iterator[Banner]:
    backup = now.latest.get(Kind.BACKUP)
    if backup is not None and backup.state in thirty.BAD:
        url = reverse("admin:backups_app_operation_change", args=[backup.pk])
        yield Banner(
            _("The last backup failed: %(error)s") % {"error": backup.error}, url, _("See its steps")
        )
    check = now.latest.get(Kind.VALIDATE_DATABASE)
    if check is not None and check.state == Operation.State.FAILED and check.blame == "database":
        yield Banner(
            _("The live database is not valid."),
            reverse("admin:runbook", args=["failed-validation"]),
            _("What to do"),
        )
    restore = now.restore
    if restore is not None and now.now - restore.created_at < RECENT_FAILURE:
        text = words.state_of(restore)
        if text.tone == "bad":
            url = reverse("admin:backups_app_restoreevent_change", args=[restore.pk])
            yield Banner(
                _("The last restore did not succeed: %(outcome)s.") % {"outcome": text.text},
                url,
                _("Look at it"),
            )


def _charts(month: list[thirty.Day]) -> list[dict[str, Any]]:
    seconds, sizes = _("Mean duration of a day's backups"), _("Mean size of a day's backups")
    return [
        {
            "name": "duration",
            "title": seconds,
            "svg": bar_chart(
                [Bar(day.day, day.seconds) for day in month],
                name="duration",
                title=seconds,
                write=words.duration,
            ),
            "rows": [(day.day, words.duration(day.seconds)) for day in reversed(month)],
        },
        {
            "name": "size",
            "title": sizes,
            "svg": bar_chart(
                [Bar(day.day, day.size) for day in month], name="size", title=sizes, write=words.size
            ),
            "rows": [(day.day, words.size(day.size)) for day in reversed(month)],
        },
    ]


def _latest(*kinds: str) -> dict[str, Operation]:
    """The last ended operation of each kind, in one query."""
    ended = Operation.objects.exclude(state__in=[*Operation.ACTIVE, Operation.State.CANCELLED])
    newest = Q(pk__in=[])
    for kind in kinds:
        newest |= Q(pk=Subquery(ended.filter(kind=kind).order_by("-created_at", "-pk").values("pk")[:1]))
    return {row.kind: row for row in Operation.objects.filter(newest).order_by("created_at")}
