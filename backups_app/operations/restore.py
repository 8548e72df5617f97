"""Restore a backup, and undo a restore: proven beside the live database, then swapped in by rename."""

from __future__ import annotations

from datetime import UTC, datetime

from django.utils import timezone

from backups_app import config
from backups_app.errors import BadBackup, ContainerProblem, QradminError, Refused, UnhealthyDatabase
from backups_app.models import Backup, RestoreEvent
from backups_app.operations import api as api_lifecycle
from backups_app.operations import validation
from backups_app.operations.api import Downtime
from backups_app.operations.backup import take_backup
from backups_app.operations.journal import Journal
from backups_app.operations.staging import Staged, fitting_name, staged_copy
from backups_app.systems.api_container import Api
from backups_app.systems.postgres import databases, preflight, swap
from backups_app.systems.postgres.connections import Server
from backups_app.systems.postgres.health import check_database
from backups_app.systems.postgres.manifest import Manifest, take_of

UNTOUCHED = "The live database was not touched."


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
    try:
        _record_present_state(journal, event, server)
        with staged_copy(journal, backup, server, is_drill=False) as staged:
            _insist_on_sound_copy(journal, staged)
            _take_safety_backup(journal, event)
            _put_in_place(journal, event, server, staged)
    except BadBackup as error:
        backup.mark_damaged(error.message)
        raise
    finally:
        _settle(event)
    _run_wanted_migrations(journal, event)
    _compare(journal, event, server)


def undo_restore(journal: Journal) -> None:
    """The operation: swap the replaced database back in. What was live becomes the replaced one,
    so that an undo can itself be undone."""
    undone = _undoable_event(journal)
    event = RestoreEvent.objects.create(operation=journal.operation, backup=None, undoes=undone)
    journal.consequence = UNTOUCHED
    server = config.managed_database()
    try:
        _record_present_state(journal, event, server)
        _take_safety_backup(journal, event)
        with journal.stage("Count the rows of the replaced database"):
            back = server.at(undone.replaced_database)
            found = take_of(back, application_name=journal.operation.application_name, watch=journal.watch)
        _put_in_place(journal, event, server, Staged(back, found))
        undone.change(outcome=RestoreEvent.Outcome.UNDONE)
    finally:
        _settle(event)
    _compare(journal, event, server)


# --- the steps, in their order -----------------------------------------------------------------------


def _record_present_state(journal: Journal, event: RestoreEvent, server: Server) -> None:
    with journal.stage("Record the present state"):
        problems = preflight.restore_problems(server)
        if problems:
            raise Refused(" ".join(problems))
        event.change(rows_before=databases.row_counts(server, watch=journal.watch))


def _insist_on_sound_copy(journal: Journal, staged: Staged) -> None:
    """The API re-creates the tables of a database that does not pass its checks: none may get there."""
    with journal.stage("Check the restored copy as a live database"):
        checks = check_database(staged.server, config.expectations(), watch=journal.watch)
    validation.tell_checks(journal, checks)
    if journal.operation.parameters.get("run_migrations"):
        checks = [check for check in checks if check.name != "revision"]
    bad = validation.failed(checks)
    if bad:
        told = f"{bad[0].title}: {bad[0].message} {bad[0].remedy}".strip()
        raise UnhealthyDatabase(f"The restored copy is no sound database. {told}")


def _take_safety_backup(journal: Journal, event: RestoreEvent) -> None:
    if journal.operation.parameters.get("without_safety_backup"):
        journal.warn("No safety backup was taken, as asked: the replaced database stays until it is dropped.")
        return
    with journal.time_limit(config.limits().safety_backup, "the safety backup's time limit"):
        safety = take_backup(journal, origin=Backup.Origin.SAFETY)
    event.change(safety_backup=safety)
    journal.result["safety_backup"] = safety.name
    journal.consequence = UNTOUCHED


def _put_in_place(journal: Journal, event: RestoreEvent, server: Server, staged: Staged) -> None:
    """Stop the API, swap, start it; swap back when it does not become healthy."""
    api = config.api()
    downtime = Downtime()
    was_running = api_lifecycle.stop_for(journal, api, downtime)
    try:
        _swap(journal, event, server, staged)
    except BaseException:
        if was_running:
            api_lifecycle.bring_back(journal, api)
        raise
    if was_running:
        _start_or_swap_back(journal, event, server, staged, api)
    downtime.end()
    event.change(downtime_seconds=downtime.seconds)


def _swap(journal: Journal, event: RestoreEvent, server: Server, staged: Staged) -> None:
    replaced = fitting_name(server.database, f"_replaced_{datetime.now(UTC):%Y%m%d_%H%M%S}_{event.pk}")
    # The plan is stored first: if this worker dies, housekeeping sees by the names whether it was done.
    event.change(staged_database=staged.server.database, replaced_database=replaced, warnings=staged.warnings)
    with journal.stage("Swap the databases"):
        journal.pass_the_point_of_no_return()
        try:
            seconds = swap.swap(
                server, live=server.database, staged=staged.server.database, replaced=replaced
            )
        except QradminError:
            event.change(replaced_database="")
            raise
    staged.keep()
    journal.left_nothing("database", staged.server.database)
    journal.consequence = (
        f"The database was replaced; what was live before is kept as {replaced}, and an undo brings it back."
    )
    event.change(
        outcome=RestoreEvent.Outcome.RESTORED,
        swap_seconds=round(seconds, 4),
        replaced_kept_until=timezone.now() + config.keep_replaced_for(),
        revision_after=staged.manifest.revision or "",
        rows_after={name: state.rows for name, state in staged.manifest.tables.items()},
    )


def _start_or_swap_back(
    journal: Journal, event: RestoreEvent, server: Server, staged: Staged, api: Api
) -> None:
    try:
        api_lifecycle.start_validated(journal, api)
    except (ContainerProblem, UnhealthyDatabase) as error:
        journal.note(
            f"The API did not become healthy on the restored database: {error.message}",
            level="error",
            log=_last_lines(api),
        )
        _swap_back(journal, event, server, staged, api)
        raise ContainerProblem(
            "The API did not become healthy on the restored database, so the restore was rolled back.",
            detail=error.detail or error.message,
        ) from error


def _swap_back(journal: Journal, event: RestoreEvent, server: Server, staged: Staged, api: Api) -> None:
    """The database that was live is live again; the restored one is dropped."""
    _stop_quietly(journal, api)
    swap.swap(server, live=server.database, staged=event.replaced_database, replaced=staged.server.database)
    journal.note("Swapped back: the database that was live before is live again.")
    journal.consequence = "The database that was live before is live again, unchanged."
    event.change(outcome=RestoreEvent.Outcome.ROLLED_BACK, replaced_database="", rows_after={})
    if event.undoes_id is None:
        journal.will_leave("database", staged.server.database, is_drill=False)
        staged.is_kept = False
    api_lifecycle.bring_back(journal, api)


def _stop_quietly(journal: Journal, api: Api) -> None:
    try:
        if api.state().running:
            api.stop()
    except ContainerProblem as error:
        journal.warn(f"The API could not be stopped before swapping back: {error.message}")


def _last_lines(api: Api) -> str:
    try:
        return api.logs()
    except ContainerProblem as error:
        return error.message


def _settle(event: RestoreEvent) -> None:
    """An event that got nowhere says so; one that ended within the swap is left to housekeeping."""
    if event.outcome == RestoreEvent.Outcome.UNDER_WAY:
        is_unclear = bool(event.replaced_database)
        event.change(outcome=RestoreEvent.Outcome.UNCLEAR if is_unclear else RestoreEvent.Outcome.UNTOUCHED)


def _run_wanted_migrations(journal: Journal, event: RestoreEvent) -> None:
    if not journal.operation.parameters.get("run_migrations"):
        return
    api_lifecycle.run_migrations(journal, config.api())
    checks = check_database(config.managed_database(), config.expectations(), watch=journal.watch)
    validation.tell_checks(journal, checks)
    event.change(revision_after=_live_revision(config.managed_database(), journal))


def _live_revision(server: Server, journal: Journal) -> str:
    found = take_of(server, application_name=journal.operation.application_name, watch=journal.watch)
    return found.revision or ""


def _compare(journal: Journal, event: RestoreEvent, server: Server) -> None:
    """Before and after, exactly: the replaced database has stood still since the swap."""
    replaced = server.at(event.replaced_database)
    with journal.stage("Compare before with after"):
        before: Manifest = take_of(
            replaced, application_name=journal.operation.application_name, watch=lambda: None
        )
        rows_before = {name: state.rows for name, state in before.tables.items()}
        event.change(rows_before=rows_before, revision_before=before.revision or "")
    changes = {
        table: [rows_before.get(table, 0), event.rows_after.get(table, 0)]
        for table in sorted({*rows_before, *event.rows_after})
    }
    journal.note("Rows before and after", rows=changes)
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
        raise Refused("This restore is not known.")
    if event.why_not_undoable:
        raise Refused(event.why_not_undoable)
    return event
