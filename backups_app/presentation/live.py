"""A running operation: its bar, the time that is left, its new steps, and what a cancel would mean."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import prefetch_related_objects
from django.utils import timezone
from django.utils.translation import gettext as _

from backups_app import config
from backups_app.errors import QradminError
from backups_app.models import Operation
from backups_app.operations import blocking, liveness, stages
from backups_app.operations.blocking import Blocker
from backups_app.presentation import words
from backups_app.presentation.numbers import whole
from backups_app.presentation.retelling import in_words

Kind = Operation.Kind


@dataclass(frozen=True)
class HeldUp:
    """For how long nothing has moved, and the sessions that block it; or why nobody can tell."""

    time: str
    blockers: tuple[Blocker, ...] = ()
    trouble: str = ""

    @property
    def has_endable(self) -> bool:
        return any(blocker.is_endable for blocker in self.blockers)


ENOUGH_TO_GUESS = 0.05
A_MOMENT = timedelta(seconds=10)


def report(operation: Operation, *, after: str = "") -> dict[str, Any]:
    """What the page needs to go on; ``after`` is the last step that it shows already."""
    _load_steps(operation)
    share = operation.progress_share
    shown = whole(after)
    state = words.state_of(operation)
    return {
        "state": operation.state,
        "state_text": state.text,
        "is_active": operation.is_active,
        "is_past_cancelling": operation.is_past_cancelling,
        "cancel_requested": operation.cancel_requested_at is not None,
        "step": step_text(operation),
        "percent": None if share is None else round(share * 100),
        "amount": words.amount_done(operation),
        "left": time_left(operation),
        "ahead": stages_ahead(operation),
        "stands_still": stands_still(operation),
        "duration": words.duration(operation.duration),
        "steps": [
            {
                "id": step.pk,
                "level": step.level,
                "level_text": "" if step.level == "info" else step.get_level_display(),
                "at": {"local": f"{timezone.localtime(step.at):%H:%M:%S}", "utc": step.at.isoformat()},
                "what": in_words(step.what),
                "seconds": words.duration(step.detail["seconds"]) if "seconds" in step.detail else "",
            }
            for step in operation.steps.all()
            if shown is not None and step.pk > shown
        ],
    }


def context_of(operation: Operation) -> dict[str, Any]:
    """What the template of the bar shows at first."""
    _load_steps(operation)
    share = operation.progress_share
    steps = list(operation.steps.all())
    return {
        "operation": operation,
        "step": step_text(operation),
        "percent": None if share is None else round(share * 100),
        "amount": words.amount_done(operation),
        "left": time_left(operation),
        "steps": steps,
        "last_step": steps[-1].pk if steps else 0,
        "ahead": stages_ahead(operation),
        "waits_for": waits_for(operation),
        "stands_still": stands_still(operation),
    }


def _load_steps(operation: Operation) -> None:
    """In one query, whatever is asked of them below."""
    prefetch_related_objects([operation], "steps")


def stands_still(operation: Operation) -> bool:
    """Whether nothing has moved in it for so long that somebody may block it."""
    limit = timedelta(seconds=config.limits().standstill)
    return operation.stands_still_for(timezone.now()) > limit


def held_up_by(operation: Operation) -> HeldUp | None:
    """Which sessions block an operation that stands still; None while it moves."""
    if not stands_still(operation):
        return None
    seconds = operation.stands_still_for(timezone.now())
    try:
        return HeldUp(words.duration(seconds), tuple(blocking.blockers_of(operation)))
    except QradminError as error:
        return HeldUp(words.duration(seconds), trouble=error.message)


def step_text(operation: Operation) -> str:
    if operation.state == Operation.State.QUEUED:
        return _("Waiting for a worker")
    if operation.current_step:
        return in_words(operation.current_step)
    return _("On to the next step") if operation.steps.exists() else _("Starting")


def stages_ahead(operation: Operation) -> list[str]:
    """What an operation under way has still to do, as far as that is known."""
    if operation.kind not in stages.FORESEEN or not operation.is_active:
        return []
    told = {operation.current_step, *(step.what for step in operation.steps.all())}
    try:
        return [in_words(name) for name in stages.ahead(operation, told)]
    except QradminError:  # a setting is wrong, which the operation itself will say
        return []


def time_left(operation: Operation) -> str:
    """Of the present step, which began when the last line was written; nothing while nobody can tell."""
    share = operation.progress_share
    if not operation.is_active or share is None or not ENOUGH_TO_GUESS <= share < 1:
        return ""
    began = max((step.at for step in operation.steps.all()), default=operation.started_at)
    if began is None:
        return ""
    ran = (timezone.now() - began).total_seconds()
    return _("about %(time)s left") % {"time": words.duration(max(1, round(ran * (1 - share) / share)))}


def waits_for(operation: Operation) -> str:
    """Why a queued operation has not started yet."""
    if operation.state != Operation.State.QUEUED:
        return ""
    if operation.is_exclusive:
        other = Operation.objects.running().filter(is_exclusive=True).first()
        if other:
            return _("It waits until %(other)s has ended.") % {"other": other}
    if not liveness.is_any_worker_alive():
        return _("No worker is alive: start one (manage.py qcluster), then it begins by itself.")
    if timezone.now() - operation.created_at > A_MOMENT:
        running = ", ".join(str(one) for one in Operation.objects.running().order_by("pk"))
        if running:
            return _("Every worker is busy, with %(running)s: it begins when one is free.") % {
                "running": running
            }
    return _("A worker takes it within a moment.")


def cancel_consequence(operation: Operation) -> str:
    """What a cancel does, in words, for this kind of operation."""
    if not operation.is_active:
        return ""
    if operation.state == Operation.State.QUEUED:
        return _("It has not started: a cancel takes it back, nothing is touched.")
    if operation.kind in {Kind.RESTORE, Kind.UNDO_RESTORE}:
        return _(
            "Until the databases are swapped a cancel leaves the live database as it is."
            " From the swap on it can no longer be cancelled, only undone afterwards."
        )
    if operation.kind == Kind.BACKUP:
        return _(
            "Until the backup has its name a cancel leaves no file; from then on the backup is kept, and only"
            " what was still to do is left out. An API that was stopped for it is started again."
        )
    if operation.kind == Kind.PROVE_BACKUP:
        return _("The scratch database is dropped; the backup keeps the state it had.")
    if operation.kind == Kind.TRIAL:
        return _("The trial database is dropped again; the backup keeps the state it had.")
    if operation.kind == Kind.START_API:
        return _(
            "A start that has begun is not broken off: it ends by itself, at the latest at its time limit."
        )
    return _("It ends within seconds; what has been done so far stays.")
