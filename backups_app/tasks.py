"""The queue's door: ``request_*`` makes the row and enqueues it on commit; ``run`` claims it and calls."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import Error as RecordsError
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from backups_app import config, schedules
from backups_app.errors import Busy, QradminError, Refused, UnknownBackup
from backups_app.models import Backup, Operation, RestoreEvent
from backups_app.models.operation import FAR_AHEAD, QUEUED_FOR_AT_MOST, UNSTARTED_FOR
from backups_app.operations import (
    api,
    backup,
    blocking,
    copy_check,
    drill,
    housekeeping,
    imports,
    interruption,
    liveness,
    restore,
    retention,
    sightings,
    site_backup,
    trial,
    validation,
)
from backups_app.operations.journal import Journal, OnNote, OnProgress, open_journal
from backups_app.sentences import in_english, say
from backups_app.systems import vault

URGENT_AFTER = timedelta(seconds=2)

log = logging.getLogger(__name__)

Kind = Operation.Kind
RUNNERS: dict[str, Callable[[Journal], None]] = {
    Kind.BACKUP: backup.create_backup,
    Kind.VALIDATE_BACKUP: validation.validate_backup,
    Kind.PROVE_BACKUP: drill.prove_backup,
    Kind.TRIAL: trial.restore_into_trial,
    Kind.VALIDATE_TRIAL: trial.validate_trial,
    Kind.DROP_TRIAL: trial.drop_trial,
    Kind.VALIDATE_DATABASE: validation.validate_database,
    Kind.RESTORE: restore.restore_backup,
    Kind.UNDO_RESTORE: restore.undo_restore,
    Kind.STOP_API: api.stop_api,
    Kind.START_API: api.start_api,
    Kind.MIGRATE_DATABASE: api.migrate_database,
    Kind.END_SESSIONS: blocking.end_blocking_sessions,
    Kind.CHECK_COPIES: copy_check.check_copies,
    Kind.IMPORT: imports.import_backups,
    Kind.BACKUP_SITE: site_backup.backup_site,
    Kind.PRUNE: retention.prune,
}


# --- requests: what an operator, a command or a schedule asks for ----------------------------------------


def request_backup(*, stop_api: bool = False, **who: Any) -> Operation:
    """A backup of the live database; production-safe with ``stop_api``."""
    if stop_api:
        _insist_on_api(who)
    # one of the other kind stands for itself: nobody's stop of the API is quietly left out, or added
    key = "backup:stop_api" if stop_api else "backup"
    return request(Kind.BACKUP, open_key=key, parameters={"stop_api": stop_api}, **who)


def request_validate_backup(backup: Backup, **who: Any) -> Operation:
    return request(Kind.VALIDATE_BACKUP, open_key=f"validate:{backup.pk}", backup=_present(backup), **who)


def request_prove_backup(backup: Backup, **who: Any) -> Operation:
    return request(Kind.PROVE_BACKUP, open_key=f"prove:{backup.pk}", backup=_present(backup), **who)


def request_trial(backup: Backup, **who: Any) -> Operation:
    """``backup`` restored into a database of its own, which is kept for a while."""
    return request(Kind.TRIAL, open_key=f"trial:{backup.pk}", backup=_present(backup), **who)


def request_validate_trial(of: Operation, **who: Any) -> Operation:
    return _request_of_trial(Kind.VALIDATE_TRIAL, of, who)


def request_drop_trial(of: Operation, **who: Any) -> Operation:
    return _request_of_trial(Kind.DROP_TRIAL, of, who)


def request_validate_database(**who: Any) -> Operation:
    return request(Kind.VALIDATE_DATABASE, open_key="validate_database", **who)


def request_restore(
    backup: Backup,
    *,
    reason: str,
    run_migrations: bool = False,
    without_safety_backup: bool = False,
    **who: Any,
) -> Operation:
    """Replace the live database by ``backup``. Refused without a reason, Busy while anything is at work."""
    if backup.why_not_restorable:
        raise Refused(backup.why_not_restorable)
    _insist_on_api(who, is_needed=run_migrations)
    parameters = {"run_migrations": run_migrations, "without_safety_backup": without_safety_backup}
    return _request_replacement(Kind.RESTORE, reason, {"backup": backup, "parameters": parameters, **who})


def request_undo_restore(event: RestoreEvent, *, reason: str, **who: Any) -> Operation:
    """Swap the database that ``event`` replaced back in."""
    if event.why_not_undoable:
        raise Refused(event.why_not_undoable)
    _insist_on_api(who, is_needed=False)
    parameters = {"event": event.pk}
    return _request_replacement(
        Kind.UNDO_RESTORE, reason, {"backup": event.backup, "parameters": parameters, **who}
    )


def request_api_stop(*, reason: str, **who: Any) -> Operation:
    """Stop the API by hand: no further changes until somebody starts it."""
    return _request_api(Kind.STOP_API, reason, who)


def request_api_start(*, reason: str, **who: Any) -> Operation:
    """Start the API by hand, on a validated database."""
    return _request_api(Kind.START_API, reason, who)


def request_migrate_database(*, reason: str, **who: Any) -> Operation:
    """Run the migrations in the API's container."""
    return _request_api(Kind.MIGRATE_DATABASE, reason, who)


def request_end_sessions(pids: Iterable[int], *, operation: Operation, reason: str, **who: Any) -> Operation:
    """End those of the sessions that block ``operation``."""
    _insist_on_reason(reason)
    parameters = blocking.request_parameters(operation, pids)
    return request(Kind.END_SESSIONS, parameters=parameters, reason=reason, **who)


def request_check_copies(*, only_pending: bool = False, **who: Any) -> Operation:
    """Every copy read where it lies and repaired; with ``only_pending`` only those that still wait."""
    key = "check_copies:pending" if only_pending else "check_copies"
    return request(Kind.CHECK_COPIES, open_key=key, parameters={"only_pending": only_pending}, **who)


def request_prune(**who: Any) -> Operation:
    """Remove the backups that are no longer needed. NotConfigured when the settings say nothing sensible."""
    config.retention()
    return request(Kind.PRUNE, open_key="prune", **who)


def request_import(*, dry_run: bool = False, **who: Any) -> Operation:
    """Adopt the files in the locations that no record knows; with ``dry_run`` only say which."""
    key = "import:dry_run" if dry_run else "import"
    return request(Kind.IMPORT, open_key=key, parameters={"dry_run": dry_run}, **who)


def request_import_upload(upload: str, *, original: str, **who: Any) -> Operation:
    """Import one uploaded file, by the name it lies under; ``original`` is what its sender called it."""
    return request(Kind.IMPORT, parameters={"upload": upload, "original": original[:200]}, **who)


def request_backup_site(**who: Any) -> Operation:
    """A backup of the site's own database."""
    return request(Kind.BACKUP_SITE, open_key="backup_site", **who)


def find_backup(name: str) -> Backup:
    """The backup of that name; Refused when it is no name of a backup, UnknownBackup when there is none."""
    vault.MANAGED_NAMES.insist_on(name)
    found = Backup.objects.filter(name=name).first()
    if found is None:
        raise UnknownBackup(say("There is no backup named {name}.", name=name))
    return found


def request(
    kind: str,
    *,
    open_key: str = "",
    backup: Backup | None = None,
    parameters: Mapping[str, Any] | None = None,
    user: AbstractBaseUser | None = None,
    by: str = "",
    reason: str = "",
    source: str = Operation.Source.PAGE,
    dedupe_key: str = "",
    is_queued: bool = True,
) -> Operation:
    """Make the operation's row and, on commit, its message.

    Without ``is_queued`` it is for this process alone, and given up when that does not begin soon: see
    `run_here`.

    A second request with the same ``open_key`` while the first is open gives the first one's row (a
    double click is one operation), and one with the same ``dedupe_key`` gives the row there ever was. What a
    schedule asks for stands by itself beside what a person has asked for, who may cancel that.
    """
    now = timezone.now()
    row = Operation(
        kind=kind,
        source=source,
        requested_by=user,  # type: ignore[misc]
        requested_by_name=by or (user.get_username() if user else ""),
        reason=reason.strip(),
        parameters=dict(parameters or {}),
        backup=backup,
        created_at=now,
        expires_at=now + (QUEUED_FOR_AT_MOST if is_queued else UNSTARTED_FOR),
        is_exclusive=kind in Operation.EXCLUSIVE,
        open_key=open_key,
        dedupe_key=dedupe_key,
    )
    if not is_queued:
        row.host, row.pid = socket.gethostname(), os.getpid()
    if not _is_new(row, is_queued=is_queued):
        same = _same(open_key, dedupe_key)
        if not dedupe_key or same.source == Operation.Source.SCHEDULE:
            return same
        row.open_key = ""
        if not _is_new(row, is_queued=is_queued):
            return _same("", dedupe_key)
    row.is_made_here = True
    return row


def _is_new(row: Operation, *, is_queued: bool) -> bool:
    """Write the row and, on commit, its message; False when one of its keys is taken."""
    try:
        with transaction.atomic():
            row.save()
            if is_queued:
                transaction.on_commit(lambda: _dispatch(row))
    except IntegrityError:
        return False
    return True


def _request_replacement(kind: str, reason: str, rest: Mapping[str, Any]) -> Operation:
    _insist_on_reason(reason)
    asked = {"kind": kind, "backup": rest["backup"], "parameters": rest["parameters"]}
    if existing := Operation.objects.active().filter(**asked).first():
        return existing
    if other := Operation.objects.active().filter(is_exclusive=True).first():
        state = other.get_state_display().lower()
        raise Busy(
            _("%(operation)s is %(state)s: wait for it or cancel it first.")
            % {"operation": other, "state": state}
        )
    found = request(kind, open_key="replacement", reason=reason, **rest)
    if not found.is_made_here and (found.backup, found.parameters) != (rest["backup"], rest["parameters"]):
        raise Busy(
            _("%(operation)s was asked for at the same moment: wait for it or cancel it first.")
            % {"operation": found}
        )
    return found


def _request_of_trial(kind: str, of: Operation, who: Mapping[str, Any]) -> Operation:
    trial.name_of(of)
    return request(kind, open_key=f"{kind}:{of.pk}", backup=of.backup, parameters={"trial": of.pk}, **who)


def _request_api(kind: str, reason: str, who: Mapping[str, Any]) -> Operation:
    _insist_on_reason(reason)
    _insist_on_api(who)
    return request(kind, open_key=kind, reason=reason, **who)


def _insist_on_api(who: Mapping[str, Any], *, is_needed: bool = True) -> None:
    """What a worker will do is refused by what was last seen; what a command does in this process asks Docker
    itself. The web process has no way to Docker."""
    found = config.api()
    if is_needed:
        api.insist_on_setting(found)
    if who.get("is_queued", True):
        sightings.insist_on_no_trouble(found)
    else:
        api.insist_on_reachable(found)


def _insist_on_reason(reason: str) -> None:
    if not reason.strip():
        raise Refused(_("A reason is needed: it stands in the audit history."))


def _present(backup: Backup) -> Backup:
    if not backup.is_present:
        raise Refused(_("The backup %(name)s has been removed.") % {"name": backup.name})
    return backup


def _same(open_key: str, dedupe_key: str) -> Operation:
    same = Q(pk__in=[])
    if open_key:
        same |= Q(open_key=open_key, state__in=Operation.ACTIVE)
    if dedupe_key:
        same |= Q(dedupe_key=dedupe_key)
    found = Operation.objects.filter(same).first()
    if found is None:
        raise Busy(_("The same was asked for a moment ago: look at the audit history, then try again."))
    return found


# --- what runs by itself -----------------------------------------------------------------------------------


def request_scheduled(key: str, due: str = "") -> str:
    """What the queue calls when a schedule is due: ask for that operation, at most once a day or hour.

    A run that was missed while the site was down is called once when it is up again; ``due`` is when it was
    meant to be.
    """
    with liveness.at_work():
        try:
            operation = _ask_for(key, parse_datetime(due) or timezone.now())
        except QradminError as error:
            log.warning("The schedule %s asked for nothing: %s", key, error.message)
            return error.message
    return f"operation {operation.pk}"


def make_up_for_lost_runs() -> None:
    """Ask for the runs whose call got lost with the worker that had fetched it."""
    for key, due in schedules.lost_runs(timezone.now()):
        with suppress(QradminError):  # the schedule itself tells why it asks for nothing
            if (operation := _ask_for(key, due)).is_made_here:
                log.warning("%s is asked for again: its call of %s got lost", operation, due)


def _ask_for(key: str, due: datetime) -> Operation:
    slot = schedules.slot_of(schedules.JOBS[key], due)
    return _SCHEDULED[key](by="schedule", source=Operation.Source.SCHEDULE, dedupe_key=slot)


def _request_drill(**who: Any) -> Operation:
    newest = Backup.objects.validated().taken_by(timezone.now()).first()
    if newest is None:
        raise Refused(say("There is no validated backup to prove."))
    return request_prove_backup(newest, **who)


# Never a restore.
_SCHEDULED: dict[str, Callable[..., Operation]] = {
    Kind.BACKUP: request_backup,
    Kind.BACKUP_SITE: request_backup_site,
    Kind.PROVE_BACKUP: _request_drill,
    Kind.CHECK_COPIES: request_check_copies,
    Kind.PRUNE: partial(request, Kind.PRUNE, open_key="prune"),  # a wrong setting is told in its record
    Kind.VALIDATE_DATABASE: request_validate_database,
}


# --- the worker's side --------------------------------------------------------------------------------------


def run(pk: int) -> str:
    """What the queue calls: claim the operation and do it. Harmless when it has already been started.

    A worker that is about to stop works off the messages it has fetched: they go back to the queue.
    """
    if liveness.is_stopping():
        _dispatch(Operation.objects.get(pk=pk))
        return "stays queued: this worker stops"
    with liveness.at_work():
        try:
            operation = Operation.objects.claim(pk, host=socket.gethostname(), pid=os.getpid())
        except Busy:
            return "waits for another operation"
        if operation is None:
            return "was already started, or is no longer wanted"
        try:
            perform(operation)
        finally:
            dispatch_next()
    return operation.state


def run_urgent() -> None:
    """What must not wait until a worker is free: the API is to be stopped. It needs no program of its own,
    so it is done beside whatever this process works on."""
    now = timezone.now()
    stops = Operation.objects.for_workers(now).filter(kind=Kind.STOP_API)
    for waiting in stops.exclude(created_at__range=(now - URGENT_AFTER, now + FAR_AHEAD)):
        operation = Operation.objects.claim(waiting.pk, host=socket.gethostname(), pid=os.getpid())
        if operation is not None:
            perform(operation)


def run_here(
    operation: Operation, *, on_note: OnNote | None = None, on_progress: OnProgress | None = None
) -> Operation:
    """Do it in this process, as the commands do. Busy while another is at work.

    What cannot be started is told as refused: its row is closed, where it was made for this.
    """
    try:
        claimed = Operation.objects.claim(operation.pk, host=socket.gethostname(), pid=os.getpid())
    except BaseException as error:
        # Where no worker runs, nobody else closes them.
        if isinstance(error, Busy) and interruption.close_dead_operations():
            return run_here(operation, on_note=on_note, on_progress=on_progress)
        if operation.is_made_here:
            with suppress(RecordsError):  # it is sent to no worker, and given up soon
                operation.request_cancel("qradmin")
        raise
    if claimed is None:
        raise Busy(say("{operation} has already been started elsewhere.", operation=operation))
    perform(claimed, on_note=on_note, on_progress=on_progress)
    claimed.refresh_from_db()
    return claimed


def perform(
    operation: Operation, *, on_note: OnNote | None = None, on_progress: OnProgress | None = None
) -> None:
    """Do a claimed operation; its outcome stands in its row, in English whoever asked for it."""
    with in_english(), open_journal(operation, on_note=on_note, on_progress=on_progress) as journal:
        RUNNERS[operation.kind](journal)


def give_up_overdue() -> None:
    """What waits no longer, and would hold up others: where no worker runs, nobody else does."""
    housekeeping.expire_overdue()


def keep_house() -> None:
    """What the queue calls every minute."""
    with liveness.at_work(), in_english():
        housekeeping.keep_house()
        dispatch_waiting(unsent_since=UNSTARTED_FOR)
        retry_waiting_copies()
        make_up_for_lost_runs()


def retry_waiting_copies() -> None:
    """Ask for the copies that still wait for their location, with growing pauses; a worker brings them."""
    is_asked = Operation.objects.active().filter(kind=Kind.CHECK_COPIES).exists()
    if not is_asked and copy_check.is_retry_due(timezone.now()):
        request_check_copies(only_pending=True, by="housekeeping", source=Operation.Source.SCHEDULE)


def dispatch_next() -> None:
    """Send the oldest operation that waited for the managed database to be free."""
    if waiting := Operation.objects.for_workers(timezone.now()).filter(is_exclusive=True).first():
        _dispatch(waiting)


def dispatch_waiting(*, unsent_since: timedelta) -> None:
    """Send the waiting operations again whose last message is older; a second message does no harm."""
    for operation in Operation.objects.unsent(timezone.now(), unsent_for=unsent_since):
        _dispatch(operation)


def _dispatch(operation: Operation) -> None:
    """Send the operation's id to the queue; when that fails, housekeeping tries again."""
    from django_q.tasks import async_task

    try:
        async_task("backups_app.tasks.run", operation.pk, task_name=f"operation-{operation.pk}")
    except Exception:
        fields = {"operation": operation.pk, "user": operation.requested_by_name or None}
        log.exception("%s could not be sent to the queue yet", operation, extra=fields)
        return
    Operation.objects.filter(pk=operation.pk).update(dispatched_at=timezone.now())
