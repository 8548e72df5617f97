"""The morning check: would a backup be there today if it were needed? Judged from what is known already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from backups_app import config
from backups_app.models import Backup, Operation, RestoreEvent
from backups_app.operations.exposure import Exposure
from backups_app.operations.exposure import in_words as exposure_in_words
from backups_app.operations.lineage import Line
from backups_app.presentation import words
from backups_app.presentation.days import BAD
from backups_app.presentation.retelling import in_words
from backups_app.presentation.standing import Kind, Standing
from backups_app.schedules import HOUSEKEEPING, JOBS, PAUSED, is_too_far_ahead

DATABASE_CHECKED_FOR = timedelta(hours=26)
CLOCK_TOLERANCE = timedelta(minutes=5)
LATE_AFTER = timedelta(minutes=10)  # a worker that is busy takes up a schedule a little later


class Severity(IntEnum):
    """How bad it is: the exit status of the command, too."""

    OK = 0
    WARNING = 1
    CRITICAL = 2

    @property
    def tone(self) -> str:
        return ("good", "warn", "bad")[self]

    @property
    def text(self) -> str:
        return (_("in order"), _("warning"), _("alarm"))[self]


@dataclass(frozen=True)
class Finding:
    """One check: what was found, and where the way out is when it is not in order."""

    name: str
    title: str
    severity: Severity
    message: str
    url: str = ""
    link: str = ""


def judge(now: Standing) -> list[Finding]:
    """Every check in turn. NotConfigured when a limit makes no sense."""
    return [
        Finding(name, title, *look(now))
        for name, title, look in (
            ("age", _("Last validated backup"), _age),
            ("validated", _("Newest backup: validated"), _validated),
            ("size", _("Newest backup: size"), _size),
            ("content", _("Newest backup: content"), _content),
            ("proven", _("Test restore"), _proven),
            ("copies", _("Copies"), _copies),
            ("space", _("Space"), _space),
            ("schedules", _("Schedules"), _schedules),
            ("worker", _("Worker"), _worker),
            ("api", _("API"), _api),
            ("database", _("Live database"), _database),
            ("exposure", _("New since then"), _exposure),
        )
    ]


def worst(findings: Sequence[Finding]) -> Severity:
    return max((finding.severity for finding in findings), default=Severity.OK)


def summary(findings: Sequence[Finding]) -> str:
    """`in order`, `2 warnings`, or `1 alarm, 2 warnings`."""
    alarms = sum(finding.severity is Severity.CRITICAL for finding in findings)
    warnings = sum(finding.severity is Severity.WARNING for finding in findings)
    parts = []
    if alarms:
        parts.append(ngettext("%d alarm", "%d alarms", alarms) % alarms)
    if warnings:
        parts.append(ngettext("%d warning", "%d warnings", warnings) % warnings)
    return ", ".join(parts) or Severity.OK.text


# --- the checks: severity, what was found, where the way out is --------------------------------------------

_Verdict = tuple[Severity, str] | tuple[Severity, str, str, str]
_Look = Callable[[Standing], _Verdict]


def _age(now: Standing) -> _Verdict:
    way_out = (reverse("admin:runbook", args=["no-backups"]), _("What to do"))
    if now.good is None and now.ahead is not None and now.ahead.is_good:
        text = _(
            "The only validated backup, %(name)s, bears a time in the future, so nobody knows how old it is:"
            " the clock seems to have been set back, or is wrong. Take a backup."
        )
        return Severity.CRITICAL, text % {"name": now.ahead.name}, *way_out
    if now.good is None:
        return Severity.CRITICAL, _("There is no validated backup."), *way_out
    if not now.is_good_stored:
        text = _("No copy of the last validated backup, %(name)s, is intact.") % {"name": now.good.name}
        return Severity.CRITICAL, text, *way_out
    as_of = now.good_as_of or now.good.created_at
    age = words.age(as_of)
    if now.now - as_of > config.alarms().backup_age:
        text = _("The last validated backup is too old: it was taken %(time)s.") % {"time": age}
        if now.line is Line.PUT_BACK:
            text = _("No backup was validated since the restore of %(name)s %(time)s.")
            text %= {"name": now.good.name, "time": age}
        return Severity.CRITICAL, text, *way_out
    if failed := _failed_since(now.good, now.latest.get(Kind.BACKUP)):
        return Severity.WARNING, _last_failed(failed), *_steps(failed)
    if now.ahead is not None:
        text = _(
            "%(name)s bears a time in the future and does not count as the newest until then:"
            " the clock seems to have been set back, or is wrong."
        )
        return Severity.WARNING, text % {"name": now.ahead.name}, *_look_at(now.ahead)
    if now.line is Line.PUT_BACK:
        text = _("%(name)s was restored %(time)s, and the live database goes on from it.")
    else:
        text = _("%(name)s was taken %(time)s.")
    return Severity.OK, text % {"name": now.good.name, "time": age}


def _failed_since(good: Backup, last: Operation | None) -> Operation | None:
    """The last backup when it failed and none has been taken since then, not by a restore either."""
    if last is None or last.state not in BAD:
        return None
    is_taken_since = good.imported_at is None and (good.operation_id or 0) > last.pk
    return None if is_taken_since else last


def _validated(now: Standing) -> _Verdict:
    newest = now.newest
    if newest is None:
        return Severity.OK, _no_backup()
    if newest.damage:
        text = _("%(name)s is damaged: %(damage)s") % {
            "name": newest.name,
            "damage": in_words(newest.damage),
        }
        return Severity.WARNING, text, *_look_at(newest)
    if newest.validated_at is None:
        text = _("%(name)s has not been validated: validate it.") % {"name": newest.name}
        return Severity.WARNING, text, *_look_at(newest)
    return Severity.OK, _("%(name)s was validated %(time)s.") % {
        "name": newest.name,
        "time": words.age(newest.validated_at),
    }


def _size(now: Standing) -> _Verdict:
    newest, least = now.newest, config.alarms().least_bytes
    if newest is None:
        return Severity.OK, _no_backup()
    size = {"name": newest.name, "size": words.size(newest.size), "least": words.size(least)}
    if newest.size < least:
        text = _("%(name)s has only %(size)s, less than %(least)s: compare its rows with an older backup's.")
        return Severity.WARNING, text % size, *_look_at(newest)
    return Severity.OK, _("%(name)s has %(size)s.") % size


def _content(now: Standing) -> _Verdict:
    if now.newest is None:
        return Severity.OK, _no_backup()
    if now.newest.warnings and not now.newest.is_pinned:
        return Severity.WARNING, " ".join(map(in_words, now.newest.warnings)), *_look_at(now.newest)
    return Severity.OK, _("Nothing about its rows is unusual.")


def _proven(now: Standing) -> _Verdict:
    drill, longest = now.latest.get(Kind.PROVE_BACKUP), config.alarms().drill_age
    if drill is not None and drill.state in BAD:
        severity = Severity.CRITICAL if drill.blame == "backup" else Severity.WARNING
        return (
            severity,
            _("The last test restore failed: %(error)s") % {"error": in_words(drill.error)},
            *_steps(drill),
        )
    way_out = (reverse("admin:backups_app_backup_changelist"), _("Prove a backup"))
    if now.proven_at is None:
        return Severity.WARNING, _("No backup has been proven by a test restore yet."), *way_out
    age = words.age(now.proven_at)
    if now.now - now.proven_at > longest:
        return (
            Severity.WARNING,
            _("The last test restore is too long ago: %(time)s.") % {"time": age},
            *way_out,
        )
    return Severity.OK, _("A backup was proven by a test restore %(time)s.") % {"time": age}


def _copies(now: Standing) -> _Verdict:
    check = now.latest.get(Kind.CHECK_COPIES)
    way_out = (reverse("admin:backups_app_backup_changelist"), _("Check the copies"))
    told = []
    if now.copies.damaged:
        text = ngettext(
            "%(count)s copy is missing or damaged.",
            "%(count)s copies are missing or damaged.",
            now.copies.damaged,
        )
        told.append(text % {"count": words.number(now.copies.damaged)})
    if now.copies.unreadable:
        text = ngettext(
            "%(count)s copy could not be read.",
            "%(count)s copies could not be read.",
            now.copies.unreadable,
        )
        told.append(text % {"count": words.number(now.copies.unreadable)})
    if now.copies.waiting:
        text = ngettext(
            "%(count)s copy waits for its location.",
            "%(count)s copies wait for their location.",
            now.copies.waiting,
        )
        told.append(text % {"count": words.number(now.copies.waiting)})
    away = _unread(check)
    if told:
        return Severity.WARNING, " ".join([*told, *away]), *way_out
    if check is not None and check.state in BAD:
        return Severity.WARNING, " ".join([_last_failed(check), *away]), *_steps(check)
    if away:
        return Severity.WARNING, " ".join(away), *way_out
    if now.copies.elsewhere:
        text = _("Copies lie in %(places)s, no longer named in BACKUP_LOCATIONS: nobody looks after them.")
        return Severity.WARNING, text % {"places": ", ".join(now.copies.elsewhere)}
    if now.newest is not None and len(now.rooms) == 1:
        return Severity.WARNING, _(
            "Every backup lies in one place alone, and is lost with it:"
            " name a second one in BACKUP_LOCATIONS."
        )
    if check is None or check.finished_at is None:
        return Severity.OK, _("None is known to be missing or damaged; they have not been read again yet.")
    return Severity.OK, _("All are intact, as far as known; read again %(time)s.") % {
        "time": words.age(check.finished_at)
    }


def _unread(check: Operation | None) -> list[str]:
    """The locations that did not answer when the copies were last read."""
    places = check.result.get("unreachable") if check is not None else None
    if not places:
        return []
    text = _("At the last check of the copies, these locations could not be read: %(places)s.")
    return [text % {"places": ", ".join(places)}]


def _space(now: Standing) -> _Verdict:
    told = [
        room.trouble
        or _("%(place)s has only %(size)s left.") % {"place": room.alias, "size": words.size(room.free)}
        for room in now.tight
    ]
    if told:
        way_out = (reverse("admin:runbook", args=["no-backups"]), _("What to do"))
        return Severity.CRITICAL, " ".join(told), *way_out
    return Severity.OK, _("Every location has room.")


def _schedules(now: Standing) -> _Verdict:
    way_out = (reverse("admin:schedules"), _("Look at the schedules"))
    running = [one for one in now.schedules if one.repeats != PAUSED]
    missing = [key for key in (*JOBS, HOUSEKEEPING) if key not in {one.name for one in now.schedules}]
    if missing:
        text = _("Missing: %(names)s. Run manage.py migrate, which makes them.")
        return Severity.CRITICAL, text % {"names": ", ".join(map(_title, missing))}, *way_out
    late = [one for one in running if one.next_run and now.now - one.next_run > LATE_AFTER]
    if late:
        since = min(one.next_run for one in late)
        text = _("What should have run by itself %(time)s has not: look whether a worker is alive.")
        return Severity.CRITICAL, text % {"time": words.age(since)}, *way_out
    ahead = [_title(one.name) for one in running if is_too_far_ahead(one, now.now)]
    if ahead:
        text = _(
            "The next run is further ahead than it should be: %(names)s;"
            " the clock seems to have been set back, or is wrong."
        )
        return Severity.WARNING, text % {"names": ", ".join(ahead)}, *way_out
    paused = [_title(one.name) for one in now.schedules if one.repeats == PAUSED]
    if paused:
        return Severity.WARNING, _("Paused: %(names)s.") % {"names": ", ".join(paused)}, *way_out
    for kind in (Kind.BACKUP_SITE, Kind.PRUNE):
        last = now.latest.get(kind)
        if last is not None and last.state in BAD:
            return Severity.WARNING, _last_failed(last), *_steps(last)
    site = now.latest.get(Kind.BACKUP_SITE)
    check = now.latest.get(Kind.CHECK_COPIES)
    if site is None:
        return Severity.OK, _("All of them run.")
    told, warnings = site, site.result.get("warnings")
    if check is not None and check.result.get("site_backup", "") == site.result.get("file"):
        told, warnings = check, check.result["site_warnings"]  # what it lacked may have been brought since
    if warnings:
        text = _("The last backup of the site's own database: %(warnings)s")
        return Severity.WARNING, text % {"warnings": " ".join(map(in_words, warnings))}, *_steps(told)
    return Severity.OK, _("All of them run.")


def _worker(now: Standing) -> _Verdict:
    if now.is_worker_alive:
        return Severity.OK, _("A worker is alive.")
    text = _("No worker is alive: nothing that is asked for begins, and no schedule runs.")
    return Severity.CRITICAL, text, reverse("admin:runbook", args=["hung-backup"]), _("How to start one")


def _api(now: Standing) -> _Verdict:
    if not now.api.is_managed:
        return Severity.OK, _("It is not managed from here.")
    stopped_by = next((one for one in now.active if one.api_stop_intended), None)
    if stopped_by is not None:
        return Severity.OK, _("%(operation)s stopped it and will start it again.") % {"operation": stopped_by}
    if now.owing is not None and (now.api.is_running or not now.api.is_known):
        text = _(
            "%(operation)s stopped the API, and it is not well again since then: it is tried every minute."
        )
        return Severity.CRITICAL, text % {"operation": now.owing}, *_steps(now.owing)
    way_out = (reverse("admin:runbook", args=["api-down"]), _("What to do"))
    if not now.api.is_known:
        text = _("How the API is, is not known: %(error)s")
        return Severity.WARNING, text % {"error": now.api.detail}, *way_out
    if not now.api.is_running:
        text = _("The API is down: %(state)s.") % {"state": now.api.text}
        return Severity.CRITICAL, f"{text} {now.api.detail}".strip(), *way_out
    if now.api.tone == "bad":
        text = _("The API runs, and Docker's health check says that it is not well.")
        return Severity.CRITICAL, text, *way_out
    severity = Severity.OK if now.api.tone == "good" else Severity.WARNING
    return severity, _("The API is up: %(state)s.") % {"state": now.api.text}


def _database(now: Standing) -> _Verdict:
    check = now.latest.get(Kind.VALIDATE_DATABASE)
    if check is None or check.finished_at is None:
        return Severity.WARNING, _("The live database has not been checked yet.")
    age = words.age(check.finished_at)
    if check.state in BAD and (trouble := unreachable(check)):
        text = _("The live database cannot be reached: %(error)s") % {"error": in_words(trouble)}
        return Severity.CRITICAL, text, *_steps(check)
    if check.state in BAD and check.blame == "database":
        way_out = (reverse("admin:runbook", args=["failed-validation"]), _("What to do"))
        return Severity.CRITICAL, _("The live database is not valid."), *way_out
    if check.state in BAD:
        text = _("The live database could not be checked: %(error)s") % {"error": in_words(check.error)}
        return Severity.CRITICAL, text, *_steps(check)
    if _is_in_the_future(now, check.finished_at):
        text = _(
            "The last check of the live database bears a time in the future:"
            " the clock seems to have been set back, or is wrong."
        )
        return Severity.WARNING, text, *_steps(check)
    if now.now - check.finished_at > DATABASE_CHECKED_FOR:
        text = _("The live database was valid, but that was checked %(time)s.") % {"time": age}
        return Severity.WARNING, text, *_steps(check)
    return Severity.OK, _("The live database is valid, checked %(time)s.") % {"time": age}


def unreachable(check: Operation) -> str:
    """Why a check of the database got no connection; empty when it got one."""
    checks = check.result.get("checks", [])
    failed = (one for one in checks if (one["name"], one["outcome"]) == ("connection", "failed"))
    return next((str(one["message"]) for one in failed), "")


def _exposure(now: Standing) -> _Verdict:
    exposure = exposure_of(now)
    if exposure is None:
        return Severity.OK, _("Counted at the next check of the live database.")
    counted = now.latest[Kind.VALIDATE_DATABASE].finished_at or now.now
    return Severity.OK, _("%(exposure)s, counted %(time)s.") % {
        "exposure": exposure_in_words(exposure),
        "time": words.age(counted),
    }


def exposure_of(now: Standing) -> Exposure | None:
    """What the last validation counted; None when a backup was taken or restored since then."""
    check = now.latest.get(Kind.VALIDATE_DATABASE)
    if check is None or now.good is None or _is_of_before(now.swap, check):
        return None
    found = Exposure.from_result(check.result)
    return found if found is not None and found.backup == now.good.name else None


def _is_of_before(swap: RestoreEvent | None, check: Operation) -> bool:
    """Whether the check may have looked at the database that the restore has replaced."""
    if swap is None:
        return False
    ended, began = swap.operation.finished_at, check.started_at or check.created_at
    return ended is None or began < ended


def _is_in_the_future(now: Standing, moment: datetime) -> bool:
    return moment > now.now + CLOCK_TOLERANCE


def _no_backup() -> str:
    return _("There is no backup yet.")


def _look_at(backup: Backup) -> tuple[str, str]:
    return reverse("admin:backups_app_backup_change", args=[backup.pk]), _("Look at it")


def _steps(operation: Operation) -> tuple[str, str]:
    return reverse("admin:backups_app_operation_change", args=[operation.pk]), _("See its steps")


def _last_failed(operation: Operation) -> str:
    return _("%(operation)s failed: %(error)s") % {
        "operation": operation,
        "error": in_words(operation.error),
    }


def _title(key: str) -> str:
    return str(JOBS[key].title) if key in JOBS else HOUSEKEEPING
