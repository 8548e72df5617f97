"""Restore a backup, and undo a restore: proven beside the live database, then swapped in by rename."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from django.db import Error as RecordsError
from django.db import transaction
from django.utils import timezone

from backups_app import config
from backups_app.errors import (
    BadBackup,
    ClaimLost,
    ContainerProblem,
    EnvironmentProblem,
    QradminError,
    Refused,
    UnhealthyDatabase,
)
from backups_app.models import Backup, RestoreEvent
from backups_app.operations import api as api_lifecycle
from backups_app.operations import copies, revisions, stages, validation
from backups_app.operations.api import Downtime, Teller
from backups_app.operations.backup import take_backup
from backups_app.operations.journal import UNTOUCHED, WISHES, Journal, patiently
from backups_app.operations.movement import followed
from backups_app.operations.staging import Staged, fitting_name, staged_copy
from backups_app.sentences import say
from backups_app.systems.api_container import Api, HealthReport
from backups_app.systems.postgres import databases, manifest, preflight, swap
from backups_app.systems.postgres.connections import Server
from backups_app.systems.postgres.health import STRUCTURE, check_database
from backups_app.systems.waiting import Watch


def restore_backup(journal: Journal) -> None:
    """The operation: replace the live database by a backup.

    1. Record the present state.
    2. Stage and prove the backup in a fresh database, while the API serves.
    3. Take a safety backup of the live database.
    4. Stop the API.
    5. Swap the databases by rename.
    6. Start the API and wait until it is healthy; swap back when it does not become so.
    7. Run the migrations when asked.
    8. Compare before with after.

    Until step 5 nothing of the live database is touched.
    """
    backup = validation.present_backup(journal)
    journal.result["backup"] = backup.name
    event = RestoreEvent.objects.create(operation=journal.operation, backup=backup)
    journal.consequence = UNTOUCHED
    server = config.managed_database()
    with _settled(event):
        try:
            _record_present_state(journal, event, server)
            _compare_revisions(journal, backup)
            with staged_copy(journal, backup, server, is_drill=False) as staged:
                with journal.stage(stages.CHECK_RESTORED):
                    _insist_on_sound(journal, staged, say("The restored copy"))
                _take_safety_backup(journal, event)
                _put_in_place(journal, event, server, staged)
        except BadBackup as error:
            copies.record_damage(backup, error)
            raise
    try:
        _run_wanted_migrations(journal)
    finally:
        _compare(journal, event, server)


def undo_restore(journal: Journal) -> None:
    """The operation: swap the replaced database back in. What was live becomes the replaced one,
    so that an undo can itself be undone."""
    undone = _undoable_event(journal)
    event = RestoreEvent.objects.create(operation=journal.operation, backup=None, undoes=undone)
    journal.consequence = UNTOUCHED
    server = config.managed_database()
    with _settled(event):
        _record_present_state(journal, event, server)
        _take_safety_backup(journal, event)
        with journal.stage(stages.COUNT_REPLACED):
            back = server.at(undone.replaced_database)
            staged = Staged(back, _rows_of(journal, back), _revision_of(journal, back))
        if config.api().is_managed:
            with journal.stage(stages.CHECK_REPLACED):
                _insist_on_sound(journal, staged, say("The replaced database"))
        _put_in_place(journal, event, server, staged)
    _compare(journal, event, server)


# --- the steps, in their order -----------------------------------------------------------------------


def _record_present_state(journal: Journal, event: RestoreEvent, server: Server) -> None:
    with journal.stage(stages.RECORD_STATE):
        api_lifecycle.insist_on_reachable(config.api())
        api_lifecycle.insist_on_no_migrations(config.api())
        _insist_on_a_live_database(server)
        problems = preflight.restore_problems(server)
        if problems:
            raise Refused(" ".join(problems))
        try:
            event.change(rows_before=_rows_of(journal, server))
        except EnvironmentProblem as error:
            if not journal.operation.parameters.get("without_safety_backup"):
                raise
            journal.warn(
                say("The rows of the live database cannot be counted: {problem}", problem=error.message)
            )


def _compare_revisions(journal: Journal, backup: Backup) -> None:
    """What was said of the revisions before the restore was confirmed stands in the trail as well."""
    with suppress(EnvironmentProblem):
        found = revisions.compare_with_live(backup)
        if found.advice:
            journal.note(found.advice, level="warning" if found.is_warning else "info")


def _insist_on_a_live_database(server: Server) -> None:
    """After a DROP DATABASE there is none: its owner and settings are not known from a backup."""
    if not databases.exists(server, server.database):
        raise EnvironmentProblem(
            say(
                "There is no database {database} at {host}:{port}. If it was dropped, create an "
                "empty one of that name for its owner and restore again: that one is then replaced.",
                database=server.database,
                host=server.host,
                port=server.port,
            )
        )


def _insist_on_sound(journal: Journal, staged: Staged, subject: str) -> None:
    """The API re-creates the tables of a database that lacks some of them: none such may get there.

    Any other fault is in the backup as well, which is restored as it was: it is told.
    """
    checks = check_database(staged.server, api_lifecycle.expectations_of_the_api(), watch=journal.watch)
    validation.tell_checks(journal, checks)
    bad = [check for check in validation.failed(checks) if check.name in STRUCTURE]
    if bad:
        told = f"{bad[0].title}: {bad[0].message} {bad[0].remedy}".strip()
        raise UnhealthyDatabase(say("{subject} is no sound database. {told}", subject=subject, told=told))


def _take_safety_backup(journal: Journal, event: RestoreEvent) -> None:
    if journal.operation.parameters.get("without_safety_backup"):
        journal.warn(
            say("No safety backup was taken, as asked: the replaced database stays until it is dropped.")
        )
        return
    with journal.time_limit(config.limits().safety_backup, say("the safety backup's time limit")):
        safety, _path = take_backup(journal, origin=Backup.Origin.SAFETY)
    event.change(safety_backup=safety)
    journal.result["safety_backup"] = safety.name


def _put_in_place(journal: Journal, event: RestoreEvent, server: Server, staged: Staged) -> None:
    """Stop the API, swap, start it; swap back when it does not become healthy."""
    api, downtime = config.api(), Downtime()
    was_running = api_lifecycle.stop_for(journal, api, downtime)
    try:
        if was_running:
            api_lifecycle.keep_stopped(journal, api)
        _swap(journal, event, server, staged)
        if was_running:
            downtime.end(_start_or_swap_back(journal, event, server, staged, api))
    except BaseException:
        if was_running:
            downtime.end(api_lifecycle.bring_back(journal, api))
        raise
    finally:
        with suppress(RecordsError):
            patiently(lambda: event.change(downtime_seconds=downtime.seconds))


def _swap(journal: Journal, event: RestoreEvent, server: Server, staged: Staged) -> None:
    replaced = fitting_name(server.database, f"_replaced_{datetime.now(UTC):%Y%m%d_%H%M%S}_{event.pk}")
    kept_until = timezone.now() + config.keep_replaced_for()  # now: nothing may fail once they are swapped
    # The plan is stored first: if this worker dies, housekeeping sees by the names whether it was done.
    patiently(
        lambda: event.change(
            staged_database=staged.server.database, replaced_database=replaced, warnings=staged.warnings
        )
    )
    with journal.stage(stages.SWAP):
        try:
            journal.pass_the_point_of_no_return()
            seconds = swap.swap(
                server,
                live=server.database,
                staged=staged.server.database,
                replaced=replaced,
                application_name=journal.operation.application_name,
                before_commit=journal.insist_on_claim,
            )
        except BaseException:
            _tell_where_it_stands(journal, event, server, staged)
            raise
        _tell_of_the_swap(journal, event, staged)
    journal.left_nothing("database", staged.server.database)
    record_outcome(
        event,
        RestoreEvent.Outcome.RESTORED,
        undone=RestoreEvent.Outcome.UNDONE,
        swap_seconds=round(seconds, 4),
        replaced_kept_until=kept_until,
        revision_after=staged.revision,
        rows_after=staged.rows,
    )


def record_outcome(event: RestoreEvent, outcome: str, *, undone: str, **changes: Any) -> None:
    """What became of a restore, and ``undone`` of the one that it undoes: together, or neither is written."""

    def write() -> None:
        with transaction.atomic():
            event.change(outcome=outcome, **changes)
            if event.undoes is not None:
                event.undoes.change(outcome=undone)

    patiently(write)


def _tell_of_the_swap(journal: Journal, event: RestoreEvent, staged: Staged) -> None:
    staged.keep()
    journal.consequence = say(
        "The database was replaced; what was live before is kept as {name}, and an undo brings it back.",
        name=event.replaced_database,
    )


def _tell_where_it_stands(journal: Journal, event: RestoreEvent, server: Server, staged: Staged) -> None:
    """A swap that was ended in the middle was done or not: the databases' names say so, once it is over."""
    try:
        databases.end_sessions(server, application_prefix=journal.operation.application_name)
        is_done = databases.exists(server, event.replaced_database) and databases.exists(
            server, server.database
        )
    except QradminError:
        journal.consequence = say(
            "Whether the databases were swapped is not known yet: housekeeping looks at their names every"
            " minute, and this restore's page then says so."
        )
        return
    if is_done:
        _tell_of_the_swap(journal, event, staged)
    else:
        with suppress(RecordsError):
            patiently(lambda: event.change(replaced_database=""))


def _start_or_swap_back(
    journal: Journal, event: RestoreEvent, server: Server, staged: Staged, api: Api
) -> HealthReport | None:
    """None when somebody stopped the API by hand meanwhile: that is no verdict on the restored database."""

    def is_wanted() -> bool:
        return api_lifecycle.is_owed(journal.operation)

    report = None
    try:
        if is_wanted():
            report = api_lifecycle.start_validated(journal, api, is_wanted=is_wanted)
    except (ContainerProblem, UnhealthyDatabase) as error:
        if not is_wanted():
            api_lifecycle.tell_stays_stopped(journal)
            return None
        told = say("The API did not become healthy on the restored database: {error}", error=error.message)
        journal.note_end(error, told, "error", log=_last_lines(api))
        _swap_back(journal, event, server, staged, api)
        raise ContainerProblem(
            say("The API did not become healthy on the restored database, so the restore was rolled back."),
            detail=error.detail or error.message,
        ) from error
    if report is None:
        api_lifecycle.tell_stays_stopped(journal)
    return report


def _swap_back(journal: Journal, event: RestoreEvent, server: Server, staged: Staged, api: Api) -> None:
    """The database that was live is live again; the restored one is dropped. The caller starts the API."""
    if event.undoes is None:
        journal.will_leave("database", event.staged_database, is_drill=False)
    swap_back(
        journal,
        event,
        server,
        api,
        application_name=journal.operation.application_name,
        before_commit=journal.insist_on_claim,
    )
    journal.consequence = say("The database that was live before is live again, unchanged.")
    if event.undoes is None:
        staged.is_kept = False


def swap_back(
    teller: Teller,
    event: RestoreEvent,
    server: Server,
    api: Api,
    *,
    application_name: str,
    before_commit: Watch,
) -> None:
    """Stop the API and give both databases their old names; the caller drops the restored one."""
    # Told first: if this worker dies in here, housekeeping finds by the names what is live.
    patiently(lambda: event.change(outcome=RestoreEvent.Outcome.UNCLEAR))
    staged, replaced = event.replaced_database, event.staged_database
    with teller.stage(stages.SWAP_BACK, is_endable=False):
        _stop_quietly(teller, api)
        swap.swap(
            server,
            live=server.database,
            staged=staged,
            replaced=replaced,
            application_name=application_name,
            before_commit=before_commit,
        )
    teller.note(say("Swapped back: the database that was live before is live again."))
    record_outcome(
        event,
        RestoreEvent.Outcome.ROLLED_BACK,
        undone=RestoreEvent.Outcome.RESTORED,
        replaced_database="",
        rows_after={},
    )


def _stop_quietly(teller: Teller, api: Api) -> None:
    try:
        if api.state().running:
            api_lifecycle.stop(api)
    except ContainerProblem as error:
        teller.note(
            say("The API could not be stopped before swapping back: {problem}", problem=error.message),
            level="warning",
        )


def _last_lines(api: Api) -> str:
    try:
        return api.logs()
    except ContainerProblem as error:
        return error.message


@contextmanager
def _settled(event: RestoreEvent) -> Iterator[None]:
    """In the end an event that got nowhere says so, and whether somebody wanted it so."""
    try:
        yield
    except WISHES:
        _settle(event, RestoreEvent.Outcome.CANCELLED)
        raise
    finally:
        _settle(event, RestoreEvent.Outcome.UNTOUCHED)


def _settle(event: RestoreEvent, outcome: str) -> None:
    """One that ended within the swap is left to housekeeping."""
    if event.outcome != RestoreEvent.Outcome.UNDER_WAY:
        return
    if event.replaced_database:
        outcome = RestoreEvent.Outcome.UNCLEAR
    with suppress(RecordsError):  # housekeeping resolves what is still under way
        patiently(lambda: event.change(outcome=outcome))


def _run_wanted_migrations(journal: Journal) -> None:
    if not journal.operation.parameters.get("run_migrations"):
        return
    api = config.api()
    if not api.state().running:
        journal.warn(say("The migrations were not run, because the API is stopped: start it, then run them."))
        return
    api_lifecycle.run_migrations(journal, api)
    checks = check_database(config.managed_database(), config.expectations(), watch=journal.watch)
    validation.tell_checks(journal, checks)
    validation.insist_on_healthy(checks)


def _rows_of(journal: Journal, server: Server) -> dict[str, int]:
    with followed(journal, server) as watch:
        return databases.row_counts(server, watch=watch)


def _revision_of(journal: Journal, server: Server) -> str:
    return manifest.revision_of(server, application_name=journal.operation.application_name) or ""


def _compare(journal: Journal, event: RestoreEvent, server: Server) -> None:
    """Before and after, exactly: the replaced database has stood still since the swap.

    The restore is done: what cannot be counted any more is a warning, not a failure.
    """
    try:
        with journal.stage(stages.COMPARE_BEFORE_AFTER):
            before = server.at(event.replaced_database)
            event.change(rows_before=_rows_of(journal, before), revision_before=_revision_of(journal, before))
    except ClaimLost:
        raise
    except QradminError as error:
        journal.warn(
            say(
                "The rows of {name} were not counted: {problem}",
                name=event.replaced_database,
                problem=error.message,
            )
        )
    with suppress(EnvironmentProblem):  # the API, or the migrations that were asked for, may have changed it
        event.change(revision_after=_revision_of(journal, server))
    rows_before = event.rows_before
    changes = {
        table: [rows_before.get(table, 0), event.rows_after.get(table, 0)]
        for table in sorted({*rows_before, *event.rows_after})
    }
    journal.note(say("Rows before and after"), rows=changes)
    journal.result |= {
        "rows": changes,
        "revision": [event.revision_before, event.revision_after],
        "replaced_database": event.replaced_database,
        "undo_until": event.replaced_kept_until.isoformat() if event.replaced_kept_until else None,
        "downtime_seconds": event.downtime_seconds,
    }


def _undoable_event(journal: Journal) -> RestoreEvent:
    event = RestoreEvent.objects.filter(pk=journal.operation.parameters.get("event")).first()
    if event is None:
        raise Refused(say("This restore is not known."))
    if event.why_not_undoable:
        raise Refused(event.why_not_undoable)
    return event
