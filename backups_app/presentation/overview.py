"""What the first page shows: cards, banners with the way out, the running work, the last thirty days."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from backups_app.models import Operation, RestoreEvent
from backups_app.operations import exposure
from backups_app.operations.lineage import Line
from backups_app.presentation import days as thirty
from backups_app.presentation import live, morning, words
from backups_app.presentation.charts import Bar, bar_chart
from backups_app.presentation.morning import Finding, Severity
from backups_app.presentation.retelling import in_words
from backups_app.presentation.standing import Kind, Standing, standing
from backups_app.schedules import HOUSEKEEPING, JOBS, PAUSED

RECENT_FAILURE = timedelta(days=7)


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


def overview(request: HttpRequest) -> dict[str, Any]:
    """The context of the first page."""
    now = standing()
    findings = morning.judge(now)
    month = thirty.last_days()
    user = request.user

    def may(codename: str) -> bool:
        return user.has_perm(f"backups_app.{codename}")

    # its bar asks a page that needs this permission
    running = now.active[0] if now.active and may("view_operation") else None
    return {
        "standing": now,
        "may_create": may("create_backup"),
        "may_validate": may("validate_database"),
        "may_control_api": may("control_api") and now.api.is_managed,
        "is_api_managed": now.api.is_managed,
        "api": now.api,
        "cards": list(_cards(now, month, findings)),
        "banners": list(_banners(now, findings)),
        "running": live.context_of(running) if running else None,
        "others": now.active[1:],
        "days": month,
        "has_history": any(day.tone != "none" or day.size for day in month),
        "charts": _charts(month),
        "is_empty": now.newest is None and not any(one.kind == Kind.BACKUP for one in now.active),
    }


def state_cards(now: Standing) -> list[Card]:
    """How things stand, without the past: for the runbooks."""
    tones = _tones(morning.judge(now))
    return [
        _card_of_last_good(now, tones["age"]),
        _card_of_database(now, tones["database"]),
        _card_of_api(now, tones["api"]),
        _card_of_worker(now),
    ]


def _card_of_api(now: Standing, tone: str) -> Card:
    return Card(_("API"), now.api.text, tone if tone == "bad" else now.api.tone, now.api.detail)


def _cards(now: Standing, month: list[thirty.Day], findings: list[Finding]) -> Iterator[Card]:
    tones = _tones(findings)
    yield _card_of_last_good(now, tones["age"])
    yield _card_of_exposure(now)
    yield _card_of_morning(findings)
    yield _card_of_success(month)
    yield _card_of_schedule(now)
    yield _card_of_storage(now, tones["space"])
    yield _card_of_database(now, tones["database"])
    yield _card_of_api(now, tones["api"])
    yield _card_of_worker(now)
    yield _card_of_restore(now)


def _tones(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.severity.tone for finding in findings}


def _card_of_worker(now: Standing) -> Card:
    if now.is_worker_alive:
        return Card(_("Worker"), _("alive"), "good", _("ready for what is asked"))
    seen = _("last seen %(time)s") % {"time": words.age(now.last_beat)} if now.last_beat else _("never seen")
    return Card(_("Worker"), _("none is alive"), "bad", seen)


def _card_of_last_good(now: Standing, tone: str) -> Card:
    title = _("Last validated backup")
    if now.good is None:
        return Card(title, _("none"), "bad")
    url = reverse("admin:backups_app_backup_change", args=[now.good.pk])
    moment, state = words.moment(now.good.created_at), words.state_of(now.good).text
    told = [moment, state, words.size(now.good.size)]
    if now.line is Line.PUT_BACK and now.swap:
        told.append(_("restored %(time)s") % {"time": words.age(now.swap.created_at)})
    elif now.line is Line.REPLACED:
        told.append(_("holds the state before the restore"))
    detail = format_html_join(" · ", "{}", ((one,) for one in told))
    return Card(title, words.age(now.good.created_at), tone, detail, url)


def _card_of_exposure(now: Standing) -> Card:
    """What would be lost if the live database were gone now."""
    title, found = _("New since then"), morning.exposure_of(now)
    if found is None:
        return Card(title, words.NOTHING, detail=_("counted at the next check of the database"))
    check = now.latest[Kind.VALIDATE_DATABASE]
    detail = _("counted %(time)s") % {"time": words.age(check.finished_at or now.now)}
    deleted = exposure.deleted_in_words(found)
    if deleted:
        detail = _("%(deleted)s deleted") % {"deleted": deleted} + " · " + detail
    url = reverse("admin:backups_app_operation_change", args=[check.pk])
    return Card(
        title, exposure.added_in_words(found) or _("nothing"), "warn" if deleted else "plain", detail, url
    )


def _card_of_morning(findings: list[Finding]) -> Card:
    severity = morning.worst(findings)
    bad = [finding.title for finding in findings if finding.severity]
    detail = ", ".join(bad) or _("backups, copies, space, worker, database")
    return Card(
        _("Morning check"), morning.summary(findings), severity.tone, detail, reverse("admin:morning")
    )


def _card_of_success(month: list[thirty.Day]) -> Card:
    title = _("Backups, 30 days")
    good, bad = thirty.success(month)
    if not good + bad:
        return Card(title, words.NOTHING, detail=_("none so far"))
    url = f"{reverse('admin:backups_app_operation_changelist')}?kind__exact=backup&days={thirty.DAYS}"
    share = 100 * good // (good + bad)
    detail = _("%(bad)s of %(all)s failed") % {"bad": words.number(bad), "all": words.number(good + bad)}
    if not bad:
        detail = ngettext("all %(all)s succeeded", "all %(all)s succeeded", good) % {
            "all": words.number(good)
        }
    if bad:
        url += f"&state__in={','.join(sorted(thirty.BAD))}"
    return Card(title, f"{share} %", "warn" if bad else "good", detail, url)


def _card_of_schedule(now: Standing) -> Card:
    title = _("Next scheduled run")
    url = reverse("admin:schedules")
    planned = [one for one in now.schedules if one.name != HOUSEKEEPING]
    running = [one for one in planned if one.repeats != PAUSED and one.next_run]
    if not running:
        return Card(title, _("none"), "warn", _("nothing runs by itself"), url)
    # the hourly validation is nearly always the next one, which tells nobody anything
    rare = [one for one in running if one.name != Kind.VALIDATE_DATABASE]
    following = (rare or running)[0]
    left = following.next_run - now.now
    value = words.ahead(left) if left > timedelta() else _("now")
    if Kind.BACKUP not in {one.name for one in running}:
        return Card(title, value, "warn", _("The daily backup is paused."), url)
    paused = ", ".join(str(JOBS[str(one.name)].title) for one in planned if one.repeats == PAUSED)
    told = [JOBS[str(following.name)].title, words.moment(following.next_run)]
    if paused:
        told.append(_("paused: %(names)s") % {"names": paused})
    detail = format_html_join(" · ", "{}", ((one,) for one in told))
    return Card(title, value, "warn" if paused else "plain", detail, url)


def _card_of_storage(now: Standing, tone: str) -> Card:
    known = [room for room in now.rooms if room.free is not None]
    free = " · ".join(
        _("%(size)s free in %(place)s") % {"size": words.size(room.free), "place": room.alias}
        for room in known
    )
    trouble = [room.alias for room in now.rooms if room.trouble]
    if trouble:
        free = _("cannot be reached: %(places)s") % {"places": ", ".join(trouble)}
    return Card(_("Stored"), words.size(now.copies.bytes), tone if now.tight else "plain", free)


def _card_of_database(now: Standing, tone: str) -> Card:
    title = _("Database")
    check = now.latest.get(Kind.VALIDATE_DATABASE)
    if check is None or check.finished_at is None:
        return Card(title, _("not checked yet"), tone)
    value = _("valid")
    if check.state != Operation.State.SUCCEEDED:
        value = _("not valid") if check.blame == "database" else _("could not be checked")
        value = _("cannot be reached") if morning.unreachable(check) else value
    url = reverse("admin:backups_app_operation_change", args=[check.pk])
    return Card(title, value, tone, _("checked %(time)s") % {"time": words.age(check.finished_at)}, url)


def _card_of_restore(now: Standing) -> Card:
    title = _("Last restore")
    if now.restore is None:
        return Card(title, _("never"), detail=_("none was needed so far"))
    url = reverse("admin:backups_app_restoreevent_change", args=[now.restore.pk])
    tone, text = words.state_of(now.restore)
    plain = "plain" if tone in {"good", "quiet"} else tone
    return Card(title, words.age(now.restore.created_at), plain, text, url)


def _banners(now: Standing, findings: list[Finding]) -> Iterator[Banner]:
    """Every alarm of the morning check, and what failed of late."""
    is_first_day = now.good is None and now.newest is None
    for finding in findings:
        if finding.severity is Severity.CRITICAL and not (finding.name == "age" and is_first_day):
            yield Banner(finding.message, finding.url, finding.link)
    backup = now.latest.get(Kind.BACKUP)
    if backup is not None and backup.state in thirty.BAD:
        url = reverse("admin:backups_app_operation_change", args=[backup.pk])
        text = _("The last backup failed: %(error)s") % {"error": in_words(backup.error)}
        yield Banner(text, url, _("See its steps"))
    for restore in _alarming_restores(now):
        url = reverse("admin:backups_app_restoreevent_change", args=[restore.pk])
        yield Banner(_what_became_of(restore, now), url, _("Look at it"))


def _alarming_restores(now: Standing) -> list[RestoreEvent]:
    """The last one that ended, when it failed of late, and each that nobody knows the end of."""
    unclear = [one for one in now.restores if one.outcome == RestoreEvent.Outcome.UNCLEAR]
    last = now.ended_restore
    if last is None or last in unclear or now.now - last.created_at > RECENT_FAILURE:
        return unclear
    return [last, *unclear] if words.state_of(last).tone == "bad" else unclear


def _what_became_of(restore: RestoreEvent, now: Standing) -> str:
    if restore.is_unfinished:
        text = _("The last restore replaced the database, but was not finished: %(error)s")
        return text % {"error": in_words(restore.operation.error)}
    outcome = words.state_of(restore).text
    if restore != now.ended_restore:
        return _("%(restore)s did not succeed: %(outcome)s.") % {"restore": restore, "outcome": outcome}
    return _("The last restore did not succeed: %(outcome)s.") % {"outcome": outcome}


def _charts(month: list[thirty.Day]) -> list[dict[str, Any]]:
    """Of what there is: a chart without a bar says nothing."""
    seconds = _("Mean duration of a day's backups")
    found = (
        _chart("duration", seconds, words.duration, [(day.day, day.seconds) for day in month]),
        _chart("size", _("Mean size of a day's backups"), words.size, [(day.day, day.size) for day in month]),
    )
    return [chart for chart in found if chart]


def _chart(
    name: str, title: str, write: Callable[[float | None], str], values: list[tuple[date, float | None]]
) -> dict[str, Any]:
    if not any(value for _day, value in values):
        return {}
    svg = bar_chart([Bar(day, value) for day, value in values], name=name, title=title, write=write)
    rows = [(day, write(value)) for day, value in reversed(values)]
    return {"name": name, "title": title, "svg": svg, "rows": rows}
