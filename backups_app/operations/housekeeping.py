"""Every minute: close the records of dead workers, clean up what they left, and start the API again."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.db.models import Q
from django.utils import timezone

from backups_app import config
from backups_app.errors import ClaimLost, ContainerProblem, EnvironmentProblem, QradminError
from backups_app.models import Backup, Operation, RestoreEvent
from backups_app.models.operation import LONGEST_HOLD, SILENT_FOR
from backups_app.operations import api as api_lifecycle
from backups_app.operations import liveness, restore, trial, uploads
from backups_app.operations.journal import UNTOUCHED
from backups_app.operations.log_lines import log_end, log_note
from backups_app.operations.masking import masked
from backups_app.sentences import say
from backups_app.systems import vault
from backups_app.systems.api_container import Api, HealthReport
from backups_app.systems.postgres import databases
from backups_app.systems.postgres.connections import Server

UNUSED_FILE_SECONDS = 5.0
ABANDONED_FILE_SECONDS = 24 * 3600.0
LEFT_ALONE_SECONDS = 1800.0
SUSPICIOUS_FOR = timedelta(seconds=15)
LOOK_AGAIN_SECONDS = 5.0
LOOK_AGAIN_FOR = timedelta(days=1)
HELD_FOR = timedelta(seconds=30)
RETRY_AFTER = LONGEST_HOLD
MAY_STILL_MIGRATE = say(
    "The migrations may still run in the API's container, where no program ends with its worker:"
    " the trail says when they have ended."
)
MIGRATIONS_ENDED = say("The migrations no longer run in the API's container: validate the database.")
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

log = logging.getLogger(__name__)

# The operations that the last look of `rescue` found silent, each with its last sign of life, and since
# when that has been the last one, by a clock that nobody sets.
_suspects: dict[tuple[int, datetime | None], float] = {}
# Alias -> when this process cleans up again in a location that did not answer.
_left_alone_until: dict[str, float] = {}


class Aftermath:
    """Writes into the trail of an operation that has ended."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    @property
    def operation(self) -> Operation:
        return self._operation

    def note(self, what: str, *, level: str = "info", **detail: Any) -> None:
        what, detail = masked(what), masked(detail)
        log_note(self._operation, what, level=level, step=what)
        self._operation.note(what, level=level, **detail)

    @contextmanager
    def stage(self, name: str, *, is_endable: bool = True) -> Iterator[None]:  # noqa: ARG002
        """As a journal's; nothing ends it."""
        began = time.monotonic()
        yield
        self.note(name, seconds=round(time.monotonic() - began, 3))


def keep_house() -> None:
    """Each duty by itself: one that fails does not keep the others from being done."""
    for duty in (
        close_dead_operations,
        clean_up_leftovers,
        resolve_interrupted_restores,
        drop_old_replaced_databases,
        sweep_temporary_files,
        sweep_scratch_folders,
        uploads.sweep_forgotten,
        expire_overdue,
        liveness.forget_dead_workers,
    ):
        _do(duty)


def close_dead_operations() -> bool:
    """Running rows without a sign of life: end their sessions, mark them interrupted; whether any was."""
    now = timezone.now()
    closed = [
        _close(operation, SILENT_FOR, why)
        for operation in Operation.objects.silent(now)
        if (why := _why_dead(operation, now)) and (_is_overdue(operation, now) or _is_silent_still(operation))
    ]
    return any(closed)


def rescue() -> None:
    """Between two housekeepings: what was running on this machine and whose process is gone, and what
    has been silent for too long wherever it ran.

    Each worker looks every few seconds, so that the API comes back soon after a kill or a reboot. Two looks
    in a row have to find it silent: the site's database may have been away, and the worker with it.
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
    if any(closed):
        for duty in (clean_up_leftovers, resolve_interrupted_restores):
            _do(duty)


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


def clean_up_leftovers() -> None:
    """Staging databases and half files of ended operations."""
    for operation in Operation.objects.exclude(state__in=Operation.ACTIVE).exclude(leftovers=[]):
        _end_sessions(operation)
        for leftover in [one for one in operation.leftovers if not trial.is_kept(one)]:
            alias = str(leftover.get("location", ""))
            if _is_left_alone(alias):
                continue
            try:
                is_gone = _clean_up(operation, leftover)
            except QradminError as error:
                if isinstance(error, vault.ConnectionBroken):
                    _leave_alone(alias)
                _tell_still_there(operation, leftover["name"], error)
                continue
            operation.leftovers.remove(leftover)
            Operation.objects.filter(pk=operation.pk).update(leftovers=operation.leftovers)
            if is_gone:
                Aftermath(operation).note(
                    say("Cleaned up: {what} {name}.", what=leftover["what"], name=leftover["name"])
                )


def _tell_still_there(operation: Operation, name: str, error: QradminError) -> None:
    """In the log each time; in the trail, and once, what does not pass by itself."""
    what = say("{name} is still there: {problem}", name=name, problem=error.message)
    if not isinstance(error, databases.LiveDatabase):
        log_note(operation, what, level="warning", step="Clean up")
    elif not operation.steps.filter(what=masked(what)).exists():
        Aftermath(operation).note(what, level="warning")


def resolve_interrupted_restores() -> None:
    """Whether the swap of a dead restore was done is seen by the databases' names.

    They are the truth, whatever was found before: for a day they are looked at again.
    """
    open_outcomes = (RestoreEvent.Outcome.UNDER_WAY, RestoreEvent.Outcome.UNCLEAR)
    for event in RestoreEvent.objects.filter(outcome__in=open_outcomes).exclude(
        operation__state__in=Operation.ACTIVE
    ):
        _resolve(event)
    for event in RestoreEvent.objects.filter(
        outcome__in=RestoreEvent.NOT_SWAPPED, operation__finished_at__gt=timezone.now() - LOOK_AGAIN_FOR
    ).exclude(replaced_database=""):
        if _is_swapped(event, config.managed_database()):
            _resolve(event)


def start_the_api_again() -> None:
    """For the last operation that ended while it still owed the API a start; at most once a minute.

    This waits for minutes where the API does not get well, so it has a thread of its own beside each
    worker's sign of life, and no place in the queue.
    """
    api = config.api()
    debts = Operation.objects.owing_the_api().exclude(state__in=Operation.ACTIVE)
    if not api.is_managed:
        for operation in debts:
            teller = Aftermath(operation)
            teller.note(say("The API is no longer managed: nobody starts it from here."), level="warning")
            api_lifecycle.store_intent(operation, is_intended=False)
        return
    newest = debts.first()
    if newest is not None and not _is_another_at_work(newest):
        _start_the_api_for(newest, api)


def _start_the_api_for(operation: Operation, api: Api) -> None:
    """One try by one worker. If that dies meanwhile, another one may try half a minute later."""
    began = timezone.now()
    held_until = began + HELD_FOR
    if not Operation.objects.take_api_start(operation.pk, began, until=held_until):
        return

    def hold_on() -> None:
        nonlocal held_until
        now = timezone.now()
        if held_until - now < HELD_FOR / 2:
            held_until = now + HELD_FOR
            Operation.objects.owing_the_api().filter(pk=operation.pk).update(api_retry_at=held_until)

    def bring_back() -> HealthReport | None:
        return api_lifecycle.bring_back(
            teller, api, is_free=lambda: not _is_another_at_work(operation), watch=hold_on
        )

    teller = Aftermath(operation)
    teller.note(say("Starting the API again, which this operation had stopped."))
    try:
        if bring_back() is None and _swap_back_for(operation, teller, api):
            bring_back()
    finally:
        mine = Operation.objects.owing_the_api().filter(pk=operation.pk)
        mine.update(api_retry_at=max(began + RETRY_AFTER, timezone.now()))


def _swap_back_for(operation: Operation, teller: Aftermath, api: Api) -> bool:
    """What the dead restore would have done: the API does not get well on the restored database.

    Not while the engine does not answer, which says nothing of the database, and not beside other work.
    """
    event = RestoreEvent.objects.filter(operation=operation, outcome=RestoreEvent.Outcome.RESTORED).first()
    if event is None or operation.state != Operation.State.INTERRUPTED or not event.replaced_database:
        return False
    is_busy = Operation.objects.running().filter(is_exclusive=True).exists()
    if is_busy or not api_lifecycle.is_owed(operation) or not api.state().exists:
        return False
    if event.undoes is None:
        operation.leftovers.append({"what": "database", "name": event.staged_database, "is_drill": False})
        Operation.objects.filter(pk=operation.pk).update(leftovers=operation.leftovers)
    restore.swap_back(
        teller,
        event,
        config.managed_database(),
        api,
        # Not the operation's name: what bears that is ended by any worker that cleans up after it.
        application_name=databases.APPLICATION_NAME,
        before_commit=lambda: _insist_on_debt(operation),
    )
    return True


def _insist_on_debt(operation: Operation) -> None:
    if not api_lifecycle.is_owed(operation):
        raise ClaimLost(say("Somebody else has brought the API back meanwhile: nothing is swapped back."))


def drop_old_replaced_databases() -> None:
    """Replaced databases whose time is over, once the safety backup taken from them is validated.

    Not while an operation is at work, which may be the undo that brings one back.
    """
    if Operation.objects.running().filter(is_exclusive=True).exists():
        return
    overdue = RestoreEvent.objects.filter(
        Q(outcome=RestoreEvent.Outcome.RESTORED),
        replaced_dropped_at=None,
        replaced_kept_until__lte=timezone.now(),
    ).exclude(replaced_database="")
    for event in overdue:
        safety = event.safety_backup
        if safety is None or safety.state not in {"validated", "proven"}:
            continue
        try:
            databases.drop(config.managed_database(), event.replaced_database)
        except EnvironmentProblem as error:
            _tell_still_there(event.operation, event.replaced_database, error)
            continue
        event.change(replaced_dropped_at=timezone.now())
        event.operation.note(
            say(
                "Dropped {name}: its time was over and {safety} is validated.",
                name=event.replaced_database,
                safety=safety.name,
            )
        )


def sweep_temporary_files() -> None:
    """What killed work left in the locations under temporary names.

    At once what was left of a backup of this site; the rest, which may be another site's that shares the
    place, when nobody has touched it for a day. Nothing while an operation runs: a copy may be on its way.
    A location that did not answer is left alone for a while.
    """
    for location in config.locations():
        if _is_left_alone(location.alias):
            continue
        try:
            gone = location.sweep_temporary(ABANDONED_FILE_SECONDS, is_wanted=_is_nobodys)
            gone += location.sweep_temporary(UNUSED_FILE_SECONDS, is_wanted=_is_left_of_a_known_backup)
        except QradminError as error:
            _leave_alone(location.alias)
            log.warning("%s was not swept: %s", location.alias, error.message)
            continue
        for name in gone:
            log.info("Removed the temporary file %s in %s", name, location.alias)


def _is_left_alone(alias: str) -> bool:
    return time.monotonic() < _left_alone_until.get(alias, 0)


def _leave_alone(alias: str) -> None:
    _left_alone_until[alias] = time.monotonic() + LEFT_ALONE_SECONDS


def sweep_scratch_folders() -> None:
    """What killed downloads, and workers whose record is lost, left of fetched copies."""
    for folder in {config.scratch_folder(), config.upload_folder()}:
        for name in vault.sweep_scratch(folder, ABANDONED_FILE_SECONDS):
            log.info("Removed the folder %s", name)


def _is_nobodys(_name: str) -> bool:
    """Asked for each file, as an operation may have begun since the sweep did."""
    return not Operation.objects.running().exists()


def _is_left_of_a_known_backup(name: str) -> bool:
    return _is_nobodys(name) and _is_of_a_known_backup(name)


def _is_of_a_known_backup(name: str) -> bool:
    return Backup.objects.filter(name=name).exists()


def expire_overdue() -> None:
    """And nothing waits for longer because the clock was ahead when it was asked for."""
    now = timezone.now()
    Operation.objects.pull_back(now)
    overdue = list(Operation.objects.overdue(now))
    if Operation.objects.expire_overdue(now):
        for operation in overdue:
            log_end(operation, Operation.State.EXPIRED)


def _do(duty: Callable[[], object]) -> None:
    try:
        duty()
    except QradminError as error:
        log.warning("Housekeeping, %s: %s", duty.__name__, error.message)
    except Exception:  # noqa: BLE001 - logged, without secrets
        log.error("Housekeeping, %s\n%s", duty.__name__, masked(traceback.format_exc()))  # noqa: TRY400


def _close(operation: Operation, silent_for: timedelta, why: str) -> bool:
    _end_sessions(operation)
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


def _end_sessions(operation: Operation) -> None:
    """The dead worker's sessions on the servers it worked on."""
    for server in {config.managed_database(), config.drill_database()}:
        try:
            databases.end_sessions(server, application_prefix=operation.application_name)
        except QradminError as error:
            what = say("Its sessions could not be ended: {problem}", problem=error.message)
            log_note(operation, what, level="warning", step="End the sessions")


def _clean_up(operation: Operation, leftover: dict[str, Any]) -> bool:
    """Whether anything was removed: what was there, and is nobody's by now."""
    name = str(leftover["name"])
    if leftover["what"] == "database":
        if RestoreEvent.objects.filter(operation=operation, outcome__in=("under_way", "unclear")).exists():
            _resolve(operation.restore_event)
            if operation.restore_event.outcome == RestoreEvent.Outcome.RESTORED:
                return False
        server = config.drill_database() if leftover.get("is_drill") else config.managed_database()
        return databases.drop(server, name)
    if leftover["what"] == trial.TRIAL:
        return databases.drop(config.managed_database(), name)
    if leftover["what"] == "folder":
        return vault.remove_scratch(Path(name))
    if leftover["what"] == api_lifecycle.PROGRAM:
        if config.api().runs(name):
            raise ContainerProblem(say("The migrations still run in the API's container."))
        Aftermath(operation).note(MIGRATIONS_ENDED, level="warning")
        return False
    location = config.location(str(leftover.get("location", "")))
    if location is None or _is_of_a_known_backup(name):
        return False
    was_there = location.remove(name)
    parts = location.sweep_temporary(0, is_wanted=lambda found: found == name)
    return was_there or bool(parts)


def _resolve(event: RestoreEvent) -> None:
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


def _is_another_at_work(operation: Operation) -> bool:
    """Another operation may have stopped the API for itself: it starts it again."""
    return Operation.objects.running().filter(api_stop_intended=True).exclude(pk=operation.pk).exists()


def _what_was_touched(operation: Operation) -> str:
    event = RestoreEvent.objects.filter(operation=operation).first()
    told = _TOUCHED.get(operation.kind, UNTOUCHED)
    if event is not None and event.replaced_database:
        told = say(
            "Housekeeping looks whether the databases were swapped, and says so on the restore's page."
        )
    return f"{told} {MAY_STILL_MIGRATE}" if api_lifecycle.programs_of(operation) else told
