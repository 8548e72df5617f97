"""Operations whose worker is dead: their records are closed, and what became of the live database is told."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from django.utils import timezone

from backups_app import config
from backups_app.models import Operation, RestoreEvent
from backups_app.models.operation import SILENT_FOR
from backups_app.operations import api as api_lifecycle
from backups_app.operations import liveness, restore
from backups_app.operations.aftermath import Aftermath, end_sessions
from backups_app.operations.journal import UNTOUCHED
from backups_app.operations.log_lines import log_end
from backups_app.sentences import say
from backups_app.systems.postgres import databases
from backups_app.systems.postgres.connections import Server

SUSPICIOUS_FOR = timedelta(seconds=15)
LOOK_AGAIN_SECONDS = 5.0
LOOK_AGAIN_FOR = timedelta(days=1)
MAY_STILL_MIGRATE = say(
    "The migrations may still run in the API's container, where no program ends with its worker:"
    " the trail says when they have ended."
)
NO_SIGN_OF_LIFE = say("No sign of life for a minute and a half: marked as interrupted.")
GOES_ON = say("What was removed before stands in the trail; the next clean-up goes on.")

Kind = Operation.Kind
# What may have been done when the worker died; by any other kind, nothing to the live database.
_TOUCHED: dict[str, str] = {
    Kind.MIGRATE_DATABASE: say(
        "The migrations may have changed the live database: validate it before you run them again or restore."
    ),
    Kind.END_SESSIONS: say(
        "Some of the chosen sessions may have been ended: what they had not committed is undone."
    ),
    Kind.PRUNE: f"{UNTOUCHED} {GOES_ON}",
    Kind.STOP_API: api_lifecycle.STAYS_AS_IT_IS,
    Kind.START_API: say("Whether the API runs is shown on the overview."),
}

# The operations that the last look of `close_suspects` found silent, each with its last sign of life, and
# since when that has been the last one, by a clock that nobody sets.
_suspects: dict[tuple[int, datetime | None], float] = {}


def close_dead_operations() -> bool:
    """Running rows without a sign of life: end their sessions, mark them interrupted; whether any was."""
    now = timezone.now()
    closed = [
        _close(operation, SILENT_FOR, why)
        for operation in Operation.objects.silent(now)
        if (why := _why_dead(operation, now)) and (_is_overdue(operation, now) or _is_silent_still(operation))
    ]
    return any(closed)


def close_suspects() -> bool:
    """What was running on this machine and whose process is gone, and what has been silent for too long
    wherever it ran: marked interrupted; whether any was.

    Two looks in a row have to find it silent: the site's database may have been away, and the worker
    with it.
    """
    now, clock = timezone.now(), time.monotonic()
    silent = {
        (one.pk, one.heartbeat_at): one for one in Operation.objects.silent(now, silent_for=SUSPICIOUS_FOR)
    }
    seen_before = {look: since for look, since in _suspects.items() if look in silent}
    _suspects.clear()
    _suspects.update({look: seen_before.get(look, clock) for look in silent})
    closed = [
        _close(silent[look], SUSPICIOUS_FOR, why)
        for look, since in seen_before.items()
        if (why := _why_dead(silent[look], now, unchanged_for=clock - since))
    ]
    return any(closed)


def _why_dead(operation: Operation, now: datetime, *, unchanged_for: float = 0) -> str:
    """Why a silent operation counts as dead; empty while it may be alive.

    Where its last sign of life lies ahead, the seconds for which that has been unchanged say so.
    """
    if liveness.is_process_gone(operation):
        return say("Its process is gone: marked as interrupted.")
    is_silent = _is_overdue(operation, now) or unchanged_for >= SILENT_FOR.total_seconds()
    return NO_SIGN_OF_LIFE if is_silent else ""


def _is_overdue(operation: Operation, now: datetime) -> bool:
    return operation.heartbeat_at is not None and operation.heartbeat_at < now - SILENT_FOR


def _is_silent_still(operation: Operation) -> bool:
    """Whether a moment later its last sign of life, which lies ahead, is the same."""
    time.sleep(LOOK_AGAIN_SECONDS)
    return Operation.objects.running().filter(pk=operation.pk, heartbeat_at=operation.heartbeat_at).exists()


def _close(operation: Operation, silent_for: timedelta, why: str) -> bool:
    end_sessions(operation)
    is_closed = operation.interrupt(
        say(
            "Its worker stopped without a word, so it was marked as interrupted."
            " It is not started again. {touched}",
            touched=_what_was_touched(operation),
        ),
        silent_for=silent_for,
    )
    if is_closed:
        Aftermath(operation).note(why, level="error")
        log_end(operation, Operation.State.INTERRUPTED)
    return is_closed


def _what_was_touched(operation: Operation) -> str:
    event = RestoreEvent.objects.filter(operation=operation).first()
    told = _TOUCHED.get(operation.kind, UNTOUCHED)
    if event is not None and event.replaced_database:
        told = say(
            "Housekeeping looks whether the databases were swapped, and says so on the restore's page."
        )
    return f"{told} {MAY_STILL_MIGRATE}" if api_lifecycle.programs_of(operation) else told


def resolve_interrupted_restores() -> None:
    """Whether the swap of a dead restore was done is seen by the databases' names.

    They are the truth, whatever was found before: for a day they are looked at again.
    """
    for event in RestoreEvent.objects.filter(outcome__in=RestoreEvent.OPEN).exclude(
        operation__state__in=Operation.ACTIVE
    ):
        resolve(event)
    for event in RestoreEvent.objects.filter(
        outcome__in=RestoreEvent.NOT_SWAPPED, operation__finished_at__gt=timezone.now() - LOOK_AGAIN_FOR
    ).exclude(replaced_database=""):
        if _is_swapped(event, config.managed_database()):
            resolve(event)


def resolve(event: RestoreEvent) -> None:
    """Write down what the databases' names say of it; its worker's sessions are ended first."""
    server = config.managed_database()
    teller = Aftermath(event.operation)
    # A worker that is only frozen must not finish its swap after the look.
    databases.end_sessions(server, application_prefix=event.operation.application_name)
    if _is_swapped(event, server):
        restore.record_outcome(
            event,
            RestoreEvent.Outcome.RESTORED,
            undone=RestoreEvent.Outcome.UNDONE,
            replaced_kept_until=timezone.now() + config.keep_replaced_for(),
        )
        teller.note(say("The databases had been swapped: the restored one is live."))
        event.change(rows_after=databases.row_counts(server))
    elif event.swap_seconds is not None:
        restore.record_outcome(
            event, RestoreEvent.Outcome.ROLLED_BACK, undone=RestoreEvent.Outcome.RESTORED, rows_after={}
        )
        teller.note(say("The databases had been swapped back: the one that was live before is live again."))
    else:
        is_wish = event.operation.state == Operation.State.CANCELLED
        outcome = RestoreEvent.Outcome.CANCELLED if is_wish else RestoreEvent.Outcome.UNTOUCHED
        event.change(outcome=outcome)
        teller.note(say("The databases had not been swapped: the live database was not touched."))


def _is_swapped(event: RestoreEvent, server: Server) -> bool:
    return (
        bool(event.replaced_database)
        and databases.exists(server, event.replaced_database)
        and databases.exists(server, server.database)
    )
