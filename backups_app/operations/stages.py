"""The stages of a backup, a restore, an undo and a drill: their names, and which of them are to come."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from backups_app import config
from backups_app.models import Operation
from backups_app.sentences import say

RECORD_STATE = say("Record the present state")
FIND_PG_RESTORE = say("Look for a fitting pg_restore")
FIND_COPY = say("Find an intact copy")
CREATE_DATABASE = say("Create a fresh database")
RESTORE_INTO_IT = say("Restore into it")
COLLECT_STATISTICS = say("Collect the planner's statistics")
COMPARE_ROWS = say("Compare every row and checksum")
CHECK_RESTORED = say("Check the restored copy as a live database")
CHECK_ROOM = say("Check server, client program and room")
DUMP = say("Dump and count in one snapshot")
READ_ARCHIVE = say("Read the whole archive")
COUNT_REPLACED = say("Count the rows of the replaced database")
CHECK_REPLACED = say("Check the replaced database as a live database")
CHECK_WAY_BACK = say("Check that the API can be started again")
STOP_API = say("Stop the API")
SWAP = say("Swap the databases")
SWAP_BACK = say("Swap back")
CHECK_BEFORE_START = say("Check the database before the API starts")
START_API = say("Start the API and wait until it is healthy")
COMPARE_BEFORE_AFTER = say("Compare before with after")
CLEAN_UP = say("Remove what is no longer needed")

BACKUP = (CHECK_ROOM, DUMP, READ_ARCHIVE)

Kind = Operation.Kind
FORESEEN = (Kind.BACKUP, Kind.PROVE_BACKUP, Kind.RESTORE, Kind.UNDO_RESTORE)


def copy_to(alias: str) -> str:
    return say("Copy to {alias}", alias=alias)


def run(command: Collection[str]) -> str:
    return say("Run {command}", command=" ".join(command))


def ahead(operation: Operation, told: Collection[str]) -> list[str]:
    """The stages that follow the last of those in ``told``; none where that is not `FORESEEN`.

    An API that is started again before the work is done, or a swap back, means that it has failed.
    """
    planned = list(_planned(operation))
    deed = READ_ARCHIVE if operation.kind == Kind.BACKUP else SWAP
    is_coming_back = CHECK_BEFORE_START in told or START_API in told
    if not planned or SWAP_BACK in told or (is_coming_back and deed not in told):
        return []
    reached = max((place for place, name in enumerate(planned) if name in told), default=-1)
    return planned[reached + 1 :]


def _planned(operation: Operation) -> Iterator[str]:
    """Every stage of this operation in its order, as far as it can be known before."""
    asked = operation.parameters
    if operation.kind == Kind.BACKUP:
        stop_api = bool(asked.get("stop_api"))
        if stop_api:
            yield from (CHECK_WAY_BACK, STOP_API)
        yield from BACKUP
        if stop_api:
            yield from (CHECK_BEFORE_START, START_API)
        yield from (copy_to(location.alias) for location in config.location_specs()[1:])
        yield CLEAN_UP
    elif operation.kind == Kind.PROVE_BACKUP:
        yield from _staged_copy()
    elif operation.kind == Kind.RESTORE:
        yield RECORD_STATE
        yield from (*_staged_copy(), CHECK_RESTORED)
        if not asked.get("without_safety_backup"):
            yield from BACKUP
        yield from _put_in_place()
        if asked.get("run_migrations"):
            yield run(config.migrate_command())
        yield COMPARE_BEFORE_AFTER
    elif operation.kind == Kind.UNDO_RESTORE:
        yield RECORD_STATE
        yield from (*BACKUP, COUNT_REPLACED)
        if config.api().is_managed:
            yield CHECK_REPLACED
        yield from (*_put_in_place(), COMPARE_BEFORE_AFTER)


def _staged_copy() -> Iterator[str]:
    yield from (FIND_PG_RESTORE, FIND_COPY, CREATE_DATABASE)
    yield from (RESTORE_INTO_IT, COLLECT_STATISTICS, COMPARE_ROWS)


def _put_in_place() -> Iterator[str]:
    is_managed = config.api().is_managed
    if is_managed:
        yield STOP_API
    yield SWAP
    if is_managed:
        yield from (CHECK_BEFORE_START, START_API)
