"""Values in an operator's words: moments, durations, sizes, states."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from django.contrib.humanize.templatetags.humanize import NaturalTimeFormatter
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backups_app.models import Backup, BackupCopy, Operation, RestoreEvent
from backups_app.models.labels import label_of

NOTHING = "–"
MINUTE, HOUR = 60, 3600
SHORT, INSTANT = 10, 0.05


class State(NamedTuple):
    """A state as text, and the tone that underlines it: good, warn, bad, busy or quiet."""

    tone: str
    text: str


BACKUP_STATES = {
    "proven": ("good", gettext_lazy("Proven")),
    "validated": ("good", gettext_lazy("Validated")),
    "unvalidated": ("warn", gettext_lazy("Not validated")),
    "damaged": ("bad", gettext_lazy("Damaged")),
    "removed": ("quiet", gettext_lazy("Removed")),
}
OPERATION_TONES = {
    Operation.State.QUEUED: "busy",
    Operation.State.RUNNING: "busy",
    Operation.State.SUCCEEDED: "good",
    Operation.State.FAILED: "bad",
    Operation.State.CANCELLED: "quiet",
    Operation.State.INTERRUPTED: "bad",
    Operation.State.EXPIRED: "warn",
}
OUTCOME_TONES = {
    RestoreEvent.Outcome.UNDER_WAY: "busy",
    RestoreEvent.Outcome.RESTORED: "good",
    RestoreEvent.Outcome.UNTOUCHED: "bad",
    RestoreEvent.Outcome.CANCELLED: "quiet",
    RestoreEvent.Outcome.ROLLED_BACK: "bad",
    RestoreEvent.Outcome.UNDONE: "quiet",
    RestoreEvent.Outcome.UNCLEAR: "bad",
}
COPY_TONES = {
    BackupCopy.State.STORED: "good",
    BackupCopy.State.PENDING: "warn",
    BackupCopy.State.MISSING: "bad",
    BackupCopy.State.CORRUPT: "bad",
    BackupCopy.State.UNREADABLE: "bad",
    BackupCopy.State.REMOVED: "quiet",
}


def state_of(row: Backup | BackupCopy | Operation | RestoreEvent) -> State:
    if isinstance(row, Backup):
        tone, text = BACKUP_STATES[row.state]
        return State(tone, str(text))
    if isinstance(row, Operation):
        return State(OPERATION_TONES[Operation.State(row.state)], label_of(row.State, row.state))
    if isinstance(row, BackupCopy):
        return State(COPY_TONES[BackupCopy.State(row.state)], label_of(row.State, row.state))
    return _state_of_restore(row)


def _state_of_restore(event: RestoreEvent) -> State:
    """The swap alone is no restore yet: the API may not come up, and migrations may fail."""
    outcome = RestoreEvent.Outcome(event.outcome)
    if event.is_unfinished:
        return State("bad", _("Restored, but not finished"))
    if outcome == RestoreEvent.Outcome.RESTORED and event.operation.is_active:
        outcome = RestoreEvent.Outcome.UNDER_WAY
    return State(OUTCOME_TONES[outcome], str(outcome.label))


def badge(state: State) -> SafeString:
    return format_html('<span class="state state-{}">{}</span>', state.tone, state.text)


def outcome(code: str) -> str:
    """What came of a check of the database."""
    known = {"passed": _("passed"), "warning": _("warning"), "failed": _("failed"), "skipped": _("skipped")}
    return known.get(code, code)


def at_underscores(name: str) -> SafeString:
    """A name that is better broken behind an underscore than anywhere else, where there is little room."""
    return mark_safe(escape(name).replace("_", "_<wbr>"))  # noqa: S308 - escaped before


def at_joints(name: str) -> SafeString:
    """The name of a table with its schema, which is better broken behind the dot, too."""
    return mark_safe(at_underscores(name).replace(".", ".<wbr>"))  # noqa: S308 - escaped before


def moment(value: datetime | None) -> SafeString | str:
    """Local time on the page, UTC on hover."""
    if value is None:
        return NOTHING
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        _local(value).strftime("%Y-%m-%d %H:%M"),
    )


def _local(value: datetime) -> datetime:
    """The first and the last day that a record can bear may have no local time: they stay as they are."""
    try:
        return timezone.localtime(value)
    except OverflowError:
        return value


def clock(value: datetime) -> SafeString:
    """The time of day to the second, the whole moment in UTC on hover."""
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        timezone.localtime(value).strftime("%H:%M:%S"),
    )


def age(value: datetime) -> str:
    """`3 hours ago`, or `just now` within the last minute."""
    if timezone.now() - value < timedelta(minutes=1):
        return _("just now")
    time = timesince(value, depth=1, time_strings=NaturalTimeFormatter.past_substrings)
    return _("%(time)s ago") % {"time": time}


def ahead(left: timedelta) -> str:
    """`in 3 hours`."""
    now = timezone.now()
    time = timesince(now - left, now, depth=1, time_strings=NaturalTimeFormatter.future_substrings)
    return _("in %(time)s") % {"time": time}


def duration(seconds: float | timedelta | None) -> str:
    """`4.2 s`, `41 s`, `2 min 5 s`, `1 h 10 min`."""
    if seconds is None:
        return NOTHING
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if 0 < seconds < INSTANT:
        return _("< %(seconds)s s") % {"seconds": number_format(2 * INSTANT, 1)}
    if round(seconds, 1) < SHORT:
        return _("%(seconds)s s") % {"seconds": number_format(round(seconds, 1), 1)}
    whole = round(seconds)
    if whole < MINUTE:
        return _("%(seconds)s s") % {"seconds": whole}
    if whole < HOUR:
        return _("%(minutes)s min %(seconds)s s") % {"minutes": whole // MINUTE, "seconds": whole % MINUTE}
    return _("%(hours)s h %(minutes)s min") % {"hours": whole // HOUR, "minutes": whole % HOUR // MINUTE}


def size(count: float | None) -> str:
    return NOTHING if count is None else str(filesizeformat(count))


def number(count: float | None) -> str:
    """With the language's thousands separators."""
    return NOTHING if count is None else str(number_format(count, use_l10n=True, force_grouping=True))


def how(operation: Operation) -> str:
    """What was chosen when it was asked for; nothing where there was no choice."""
    asked = operation.parameters
    if operation.kind == Operation.Kind.BACKUP:
        if asked.get("stop_api"):
            return _("production-safe: the API is stopped meanwhile")
        return _("the API keeps serving")
    chosen = []
    if asked.get("without_safety_backup"):
        chosen.append(_("without a safety backup"))
    if asked.get("run_migrations"):
        chosen.append(_("the migrations run afterwards"))
    return ", ".join(chosen)


def amount_done(operation: Operation) -> str:
    """`1,200 of 5,010 rows`, or what is known of it."""
    done, total, unit = operation.progress_done, operation.progress_total, operation.progress_unit
    if not unit or not (done or total):
        return ""
    write = size if unit == "bytes" else number
    words = {"rows": _("rows"), "bytes": ""}.get(unit, unit)
    is_known = operation.progress_share is not None
    text = _("%(done)s of %(total)s %(unit)s") if is_known else _("%(done)s %(unit)s so far")
    return (text % {"done": write(done), "total": write(total), "unit": words}).strip()
