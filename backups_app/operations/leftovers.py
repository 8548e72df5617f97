"""What ended work left behind: databases, half files, folders; removed when it is nobody's any more."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from django.db.models import Q
from django.utils import timezone

from backups_app import config
from backups_app.errors import ContainerProblem, EnvironmentProblem, QradminError
from backups_app.models import Backup, Operation, RestoreEvent
from backups_app.operations import api as api_lifecycle
from backups_app.operations import trial
from backups_app.operations.aftermath import Aftermath, end_sessions
from backups_app.operations.interruption import resolve
from backups_app.operations.log_lines import log_note
from backups_app.operations.masking import masked
from backups_app.sentences import say
from backups_app.systems import vault
from backups_app.systems.postgres import databases

UNUSED_FILE_SECONDS = 5.0
ABANDONED_FILE_SECONDS = 24 * 3600.0
LEFT_ALONE_SECONDS = 1800.0
MIGRATIONS_ENDED = say("The migrations no longer run in the API's container: validate the database.")

log = logging.getLogger(__name__)

# Alias -> when this process cleans up again in a location that did not answer.
_left_alone_until: dict[str, float] = {}


def clean_up() -> None:
    """Staging databases and half files of ended operations."""
    for operation in Operation.objects.exclude(state__in=Operation.ACTIVE).exclude(leftovers=[]):
        end_sessions(operation)
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


def _clean_up(operation: Operation, leftover: dict[str, Any]) -> bool:
    """Whether anything was removed: what was there, and is nobody's by now."""
    name = str(leftover["name"])
    if leftover["what"] == "database":
        if RestoreEvent.objects.filter(operation=operation, outcome__in=RestoreEvent.OPEN).exists():
            resolve(operation.restore_event)
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


def sweep_scratch_folders() -> None:
    """What killed downloads, and workers whose record is lost, left of fetched copies."""
    for folder in {config.scratch_folder(), config.upload_folder()}:
        for name in vault.sweep_scratch(folder, ABANDONED_FILE_SECONDS):
            log.info("Removed the folder %s", name)


def _is_left_alone(alias: str) -> bool:
    return time.monotonic() < _left_alone_until.get(alias, 0)


def _leave_alone(alias: str) -> None:
    _left_alone_until[alias] = time.monotonic() + LEFT_ALONE_SECONDS


def _is_nobodys(_name: str) -> bool:
    """Asked for each file, as an operation may have begun since the sweep did."""
    return not Operation.objects.running().exists()


def _is_left_of_a_known_backup(name: str) -> bool:
    return _is_nobodys(name) and _is_of_a_known_backup(name)


def _is_of_a_known_backup(name: str) -> bool:
    return Backup.objects.filter(name=name).exists()
