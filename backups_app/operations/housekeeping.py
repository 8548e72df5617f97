"""Every minute: close the records of dead workers, clean up what they left, and start the API again."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone

from backups_app import config
from backups_app.errors import QradminError
from backups_app.models import Backup, Operation, RestoreEvent
from backups_app.models.operation import SILENT_FOR
from backups_app.operations import api as api_lifecycle
from backups_app.operations import liveness, uploads
from backups_app.operations.masking import masked
from backups_app.systems.postgres import activity, databases

UNRECORDED_FILE_SECONDS = 5.0
ABANDONED_FILE_SECONDS = 24 * 3600.0
SUSPICIOUS_FOR = timedelta(seconds=15)

log = logging.getLogger(__name__)

# The operations that the last look of `rescue` found without a process, and their last sign of life.
_suspects: dict[int, datetime | None] = {}


class Aftermath:
    """Writes into the trail of an operation that has ended."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    @property
    def operation(self) -> Operation:
        return self._operation

    def note(self, what: str, *, level: str = "info", **detail: Any) -> None:
        log.info("%s: %s", self._operation, what, extra={"operation": self._operation.pk})
        self._operation.note(what, level=level, **detail)


def keep_house() -> None:
    """Each duty by itself: one that fails does not keep the others from being done."""
    for duty in (
        close_dead_operations,
        clean_up_leftovers,
        resolve_interrupted_restores,
        start_the_api_again,
        drop_old_replaced_databases,
        sweep_temporary_files,
        uploads.sweep_forgotten,
        expire_overdue,
        liveness.forget_dead_workers,
    ):
        _do(duty)


def close_dead_operations() -> None:
    """Running rows without a sign of life: end their sessions, then mark them interrupted."""
    for operation in Operation.objects.silent(timezone.now()):
        _close(operation, SILENT_FOR, "No sign of life for two minutes: marked as interrupted.")


def rescue() -> None:
    """Between two housekeepings: what was running on this machine and whose process is gone.

    Each worker looks every few seconds, so that the API comes back soon after a kill or a reboot. Two looks
    in a row have to find it silent: the site's database may have been away, and the worker with it.
    """
    silent = Operation.objects.silent(timezone.now(), silent_for=SUSPICIOUS_FOR)
    gone = [operation for operation in silent if liveness.is_process_gone(operation)]
    dead = [operation for operation in gone if _suspects.get(operation.pk) == operation.heartbeat_at]
    _suspects.clear()
    _suspects.update({operation.pk: operation.heartbeat_at for operation in gone})
    closed = [_close(one, SUSPICIOUS_FOR, "Its process is gone: marked as interrupted.") for one in dead]
    if any(closed):
        for duty in (clean_up_leftovers, resolve_interrupted_restores, start_the_api_again):
            _do(duty)


def clean_up_leftovers() -> None:
    """Staging databases and half files of ended operations."""
    for operation in Operation.objects.exclude(state__in=Operation.ACTIVE).exclude(leftovers=[]):
        _end_sessions(operation)
        for leftover in list(operation.leftovers):
            try:
                _clean_up(operation, leftover)
            except QradminError as error:
                log.warning("%s: %s is still there: %s", operation, leftover["name"], error.message)
                continue
            operation.leftovers.remove(leftover)
            Operation.objects.filter(pk=operation.pk).update(leftovers=operation.leftovers)
            Aftermath(operation).note(f"Cleaned up: {leftover['what']} {leftover['name']}.")


def resolve_interrupted_restores() -> None:
    """Whether the swap of a dead restore was done is seen by the databases' names."""
    open_outcomes = (RestoreEvent.Outcome.UNDER_WAY, RestoreEvent.Outcome.UNCLEAR)
    for event in RestoreEvent.objects.filter(outcome__in=open_outcomes).exclude(
        operation__state__in=Operation.ACTIVE
    ):
        _resolve(event)


def start_the_api_again() -> None:
    """Operations that ended while they still owed the API a start."""
    api = config.api()
    for operation in Operation.objects.filter(api_stop_intended=True).exclude(state__in=Operation.ACTIVE):
        teller = Aftermath(operation)
        if not api.is_managed:
            teller.note("The API is no longer managed: nobody starts it from here.", level="warning")
            api_lifecycle.store_intent(operation, is_intended=False)
        elif not _is_another_at_work(operation):
            teller.note("Starting the API again, which this operation had stopped.")
            api_lifecycle.bring_back(teller, api)


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
        databases.drop(config.managed_database(), event.replaced_database)
        event.change(replaced_dropped_at=timezone.now())
        event.operation.note(
            f"Dropped {event.replaced_database}: its time was over and {safety.name} is validated."
        )


def sweep_temporary_files() -> None:
    """What killed work left in the locations under temporary names."""
    is_quiet = not Operation.objects.running().exists()
    age = UNRECORDED_FILE_SECONDS if is_quiet else ABANDONED_FILE_SECONDS
    for location in config.locations():
        try:
            for name in location.sweep_temporary(age):
                log.info("Removed the temporary file %s in %s", name, location.alias)
        except QradminError as error:
            log.warning("%s was not swept: %s", location.alias, error.message)


def expire_overdue() -> None:
    Operation.objects.expire_overdue(timezone.now())


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
        "Its worker stopped without a word, so it was marked as interrupted. It is not started again."
        f" {_what_was_touched(operation)}",
        silent_for=silent_for,
    )
    if is_closed:
        Aftermath(operation).note(why, level="error")
    return is_closed


def _end_sessions(operation: Operation) -> None:
    """The dead worker's sessions on the servers it worked on."""
    for server in {config.managed_database(), config.drill_database()}:
        try:
            activity.end_sessions(server, application_prefix=operation.application_name)
        except QradminError as error:
            log.warning("The sessions of %s could not be ended: %s", operation, error.message)


def _clean_up(operation: Operation, leftover: dict[str, Any]) -> None:
    name = str(leftover["name"])
    if leftover["what"] == "database":
        if RestoreEvent.objects.filter(operation=operation, outcome__in=("under_way", "unclear")).exists():
            _resolve(operation.restore_event)
            if operation.restore_event.outcome == RestoreEvent.Outcome.RESTORED:
                return
        server = config.drill_database() if leftover.get("is_drill") else config.managed_database()
        databases.drop(server, name)
        return
    location = config.location(str(leftover.get("location", "")))
    if location is not None and not Backup.objects.filter(name=name).exists():
        location.remove(name)


def _resolve(event: RestoreEvent) -> None:
    server = config.managed_database()
    teller = Aftermath(event.operation)
    is_swapped = bool(event.replaced_database) and databases.exists(server, event.replaced_database)
    if is_swapped and databases.exists(server, server.database):
        event.change(
            outcome=RestoreEvent.Outcome.RESTORED,
            replaced_kept_until=timezone.now() + config.keep_replaced_for(),
        )
        _set_undone(event, RestoreEvent.Outcome.UNDONE)
        teller.note("The databases had been swapped: the restored one is live.")
        event.change(rows_after=databases.row_counts(server))
    elif event.swap_seconds is not None:
        event.change(outcome=RestoreEvent.Outcome.ROLLED_BACK, replaced_database="", rows_after={})
        _set_undone(event, RestoreEvent.Outcome.RESTORED)
        teller.note("The databases had been swapped back: the one that was live before is live again.")
    else:
        event.change(outcome=RestoreEvent.Outcome.UNTOUCHED, replaced_database="")
        teller.note("The databases had not been swapped: the live database was not touched.")


def _set_undone(event: RestoreEvent, outcome: str) -> None:
    """What became of the restore that ``event`` undoes, if it undoes one."""
    if event.undoes is not None:
        event.undoes.change(outcome=outcome)


def _is_another_at_work(operation: Operation) -> bool:
    """Another operation may have stopped the API for itself: it starts it again."""
    return Operation.objects.running().filter(api_stop_intended=True).exclude(pk=operation.pk).exists()


def _what_was_touched(operation: Operation) -> str:
    event = RestoreEvent.objects.filter(operation=operation).first()
    if event is None:
        return "The live database was not touched."
    if event.replaced_database:
        return "Housekeeping looks whether the databases were swapped, and says so on the restore's page."
    return "The live database was not touched."
