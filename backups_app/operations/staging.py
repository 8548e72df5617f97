"""A backup restored into a fresh database beside the live one, proven there, and dropped unless kept."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

from backups_app import config
from backups_app.errors import BadBackup, MissingClient, QradminError, ServerUnavailable
from backups_app.models import Backup
from backups_app.operations import copies, stages
from backups_app.operations.journal import Journal
from backups_app.operations.movement import followed
from backups_app.sentences import say
from backups_app.systems.postgres import activity, archive, clients, commands, databases, manifest
from backups_app.systems.postgres.connections import Server, error_line, program_problem
from backups_app.systems.postgres.likeness import create_like
from backups_app.systems.postgres.manifest import Manifest
from backups_app.systems.processes import Finished, run

SMALL_ARCHIVE_BYTES = 4 * 1024 * 1024
MAX_NAME_BYTES = 63
TROUBLE_WITH_THE_SERVER = ("connection", "out of memory", "out of shared memory", "deadlock", "disk full")


@dataclass
class Staged:
    """A restored copy; ``keep()`` when it became something else and must not be dropped.

    ``rows`` are those of each table, by the names of a manifest; ``is_measure`` when the backup had none, so
    that they could be compared with nothing and are its manifest from now on.
    """

    server: Server
    rows: dict[str, int]
    revision: str
    warnings: list[str] = field(default_factory=list)
    is_measure: bool = False
    is_kept: bool = False

    def keep(self) -> None:
        self.is_kept = True


@contextmanager
def staged_copy(
    journal: Journal, backup: Backup, server: Server, *, is_drill: bool, purpose: str = "staging"
) -> Iterator[Staged]:
    """Restore ``backup`` into a fresh database like ``server``'s own and compare every row and checksum.

    BadBackup when the backup is at fault; EnvironmentProblem when the server, its privileges, its room
    or the client program are. The database is dropped in both cases, and after the block unless kept.
    """
    with journal.stage(stages.FIND_PG_RESTORE):
        major = databases.facts(server).major
        restorer = clients.for_restore(major, config.client_folders())
    staged = copies.from_intact_copy(
        journal,
        backup,
        lambda path: _stage(journal, backup, server, restorer, path, is_drill=is_drill, purpose=purpose),
    )
    try:
        yield staged
    finally:
        if not staged.is_kept:
            _drop(journal, server, staged.server.database)


def _stage(
    journal: Journal,
    backup: Backup,
    server: Server,
    restorer: clients.Client,
    path: Path,
    *,
    is_drill: bool,
    purpose: str,
) -> Staged:
    """The database made from the archive at ``path``; it is dropped when that does not work."""
    _insist_on_readable(journal, restorer, path)
    name = staging_name(server.database, journal.operation.pk, purpose)
    target = server.at(name)
    journal.will_leave("database", name, is_drill=is_drill)
    is_measure = backup.manifest is None
    try:
        with journal.stage(stages.CREATE_DATABASE):
            warnings = create_like(server, name, live=server.database)
        for warning in warnings:
            journal.warn(warning)
        with journal.stage(stages.RESTORE_INTO_IT):
            _restore(journal, backup, target, restorer, path, with_owner=not is_drill)
        with journal.stage(stages.COLLECT_STATISTICS), followed(journal, target) as watch:
            databases.analyze(target, watch=watch)
        with journal.stage(stages.COMPARE_ROWS):
            found = _proven(journal, backup, target)
    except BaseException:
        _drop(journal, server, name)
        raise
    rows = {name: state.rows for name, state in found.tables.items()}
    return Staged(target, rows, found.revision or "", warnings, is_measure=is_measure)


def staging_name(live: str, operation: int, purpose: str) -> str:
    """``LIVE_staging_OPERATION_RANDOM``, or with another purpose, short enough for PostgreSQL."""
    return fitting_name(live, f"_{purpose}_{operation}_{secrets.token_hex(3)}")


def fitting_name(live: str, suffix: str) -> str:
    """``live`` with ``suffix``, ``live`` cut where both would be too long for a database's name."""
    room = MAX_NAME_BYTES - len(suffix.encode())
    return live.encode()[:room].decode(errors="ignore") + suffix


def manifest_of(journal: Journal, server: Server, *, like: Manifest | None = None) -> Manifest:
    """The rows and checksums of ``server``'s database now, to be compared with those of ``like``."""
    name = journal.operation.application_name
    with followed(journal, server) as watch:
        return manifest.take_of(server, application_name=name, like=like, watch=watch)


def _insist_on_readable(journal: Journal, restorer: clients.Client, path: Path) -> None:
    """Only the server's own version of pg_restore can restore into it, whatever others are installed."""
    try:
        archive.inspect(restorer, path, watch=journal.watch)
    except MissingClient as error:
        newest = clients.newest_restore(config.client_folders())
        if newest.major <= restorer.major:
            raise
        archive.inspect(newest, path, watch=journal.watch)
        raise MissingClient(
            say(
                "{name} was made by a newer pg_dump than PostgreSQL {major} can be restored with:"
                " restore it on a server of the version that made it.",
                name=path.name,
                major=restorer.major,
            ),
            detail=error.detail,
        ) from error


def _restore(
    journal: Journal,
    backup: Backup,
    target: Server,
    restorer: clients.Client,
    path: Path,
    *,
    with_owner: bool,
) -> None:
    """Owners and privileges only where the database's own roles are: another server need not have them."""
    name = journal.operation.application_name
    jobs = 1 if backup.size < SMALL_ARCHIVE_BYTES else max(2, min(4, os.cpu_count() or 2))
    command = commands.restore(
        target, restorer, file=path, jobs=jobs, application_name=name, with_owner=with_owner
    )
    tally = activity.CopyTally()

    def report(monitor: psycopg.Connection[TupleRow]) -> None:
        journal.progress(tally.rows(monitor), backup.rows, "rows")

    with followed(journal, target, report) as watch:
        finished = run(command, watch=watch)
    if finished.returncode != 0:
        raise _restore_error(finished, target, path)


def _restore_error(finished: Finished, target: Server, path: Path) -> QradminError:
    """Whose fault it was: the surroundings' when PostgreSQL or the program says so, else the backup's."""
    problem = archive.reading_problem(finished.stderr, path) or program_problem(finished.stderr, target)
    if problem is not None:
        return problem
    what = error_line(finished.stderr) or say(
        "pg_restore ended with status {status}", status=finished.returncode
    )
    if finished.returncode < 0 or any(word in what.lower() for word in TROUBLE_WITH_THE_SERVER):
        told = say("The test bench failed, not the backup: {what}", what=what)
        return ServerUnavailable(told, detail=finished.stderr)
    told = say("{name} cannot be restored: {what}", name=path.name, what=what)
    return BadBackup(told, detail=finished.stderr)


def _proven(journal: Journal, backup: Backup, target: Server) -> Manifest:
    expected = None if backup.manifest is None else Manifest.from_json(backup.manifest)
    found = manifest_of(journal, target, like=expected)
    if expected is None:
        journal.note(say("This backup had no manifest: the restored rows are its manifest from now on."))
        backup.manifest, backup.rows, backup.revision = found.to_json(), found.rows, found.revision or ""
        backup.save(update_fields=["manifest", "rows", "revision"])
        return found
    differences = manifest.compare(expected, found)
    if differences:
        raise BadBackup(
            say(
                "The restored rows of {name} are not those of its manifest: {difference}.",
                name=backup.name,
                difference=differences[0],
            ),
            detail="\n".join(differences),
        )
    return found


def _drop(journal: Journal, server: Server, name: str) -> None:
    """Drop it now, or leave it to housekeeping with a word in the trail."""
    try:
        databases.drop(server, name)
    except QradminError as error:
        journal.warn(
            say(
                "The database {name} could not be dropped and is dropped later: {reason}",
                name=name,
                reason=error.message,
            )
        )
    else:
        journal.left_nothing("database", name)
