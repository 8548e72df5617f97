"""Create a backup: one snapshot, dumped and counted at once, read whole, then named and copied."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from psycopg.rows import TupleRow

from backups_app import config
from backups_app.errors import BadBackup, NoSpace, ProgramFailed, QradminError, StorageProblem
from backups_app.models import Backup, Operation
from backups_app.operations import copies, retention, sidecars, stages
from backups_app.operations.api import api_stayed_stopped, api_stopped
from backups_app.operations.journal import AWAY, Journal, patiently
from backups_app.operations.movement import bytes_moved, followed
from backups_app.sentences import say
from backups_app.systems import processes, vault
from backups_app.systems.api_container import Api
from backups_app.systems.postgres import activity, clients, commands, databases, manifest
from backups_app.systems.postgres.connections import Server, error_line, program_problem
from backups_app.systems.postgres.databases import DatabaseFacts
from backups_app.systems.postgres.interruptible import interruptible
from backups_app.systems.postgres.manifest import Manifest
from backups_app.systems.postgres.reading_along import ReadingAlong, reading_along
from backups_app.systems.processes import Finished, Running
from backups_app.systems.waiting import Watch

EMPTY_DATABASE_BYTES = 1024 * 1024
ALARM_LASTS = timedelta(days=7)


def create_backup(journal: Journal) -> None:
    """The operation: a backup, with the API stopped for it when the operation's parameters say so."""
    is_scheduled = journal.operation.source == Operation.Source.SCHEDULE
    origin = Backup.Origin.SCHEDULED if is_scheduled else Backup.Origin.MANUAL
    if journal.operation.parameters.get("stop_api"):
        with api_stopped(journal):
            backup, path = take_backup(journal, origin=origin, stopped=config.api())
    else:
        backup, path = take_backup(journal, origin=origin)
    journal.keep_warnings(*copies.distribute(journal, backup, path))
    retention.prune_after_backup(journal)


def take_backup(journal: Journal, *, origin: str, stopped: Api | None = None) -> tuple[Backup, Path]:
    """A backup in the working location and where its file lies there, before it is copied anywhere else;
    ``stopped`` is the API that does not run meanwhile.

    1. Check server, client program and room.
    2. Dump and count in one snapshot, into a temporary name, and read what is written already.
    3. Read the archive to its end and sum its SHA-256.
    4. Flush, give the name, and write the record.
    5. Write a description beside it. The other locations get their copies later (`copies.distribute`), so
       that none that is slow or silent holds up what waits for the backup.

    Until step 4 there is no file of that name; a failure leaves none.
    """
    began = time.monotonic()
    server = config.managed_database()
    working, *_others = config.locations()
    with journal.stage(stages.CHECK_ROOM):
        live = databases.facts(server)
        dumper = clients.for_dump(live.major, config.client_folders())
        reader = clients.restore_beside(dumper, config.client_folders())
        working.check()
        _insist_on_room(working, live)
    name = _free_name(working, server.database, is_safety=origin == Backup.Origin.SAFETY)
    with (
        recorded_as_leftover(journal, working, name),
        vault.working_file(working, name) as file,
        reading_along(reader, file.path) as reading,
    ):
        with journal.stage(stages.DUMP):
            compression = _compression(dumper)
            taken = _dump(journal, server, dumper, file.path, compression)
        with journal.stage(stages.READ_ARCHIVE):
            digest = _read_whole(journal, reading, file.path)
        backup = Backup(
            name=name,
            origin=origin,
            created_at=datetime.fromisoformat(taken.taken_at),
            created_by=journal.operation.requested_by_name,
            operation=journal.operation,
            seconds=round(time.monotonic() - began, 3),
            size=file.path.stat().st_size,
            sha256=digest,
            compression=compression,
            database=server.database,
            server_version=live.version,
            client_version=dumper.version,
            revision=taken.revision or "",
            manifest=taken.to_json(),
            rows=taken.rows,
            is_api_stopped=stopped is not None and api_stayed_stopped(journal, stopped),
            validated_at=timezone.now(),
            warnings=_content_warnings(taken, server.database),
        )
        journal.confirm()
        path = _name_and_record(file, backup, working)
    if origin == Backup.Origin.SAFETY:
        kept = say("The safety backup {name} was made and is kept.", name=name)
        journal.consequence = f"{journal.consequence} {kept}"
    else:
        journal.consequence = say("The backup {name} was made and is kept.", name=name)
        journal.result |= {"backup": name, "rows": backup.rows, "size": backup.size}
        Operation.objects.filter(pk=journal.operation.pk).update(backup=backup)
    for warning in backup.warnings:
        journal.warn(warning)
    journal.keep_warnings(*backup.warnings, *sidecars.write(journal, backup, working))
    return backup, path


@contextmanager
def recorded_as_leftover(journal: Journal, working: vault.Location, name: str) -> Iterator[None]:
    """Until the block ends, housekeeping removes the file if this worker dies."""
    journal.will_leave("file", name, location=working.alias)
    try:
        yield
    except vault.NameTaken:
        journal.left_nothing("file", name)  # what lies there is somebody else's
        raise
    except BaseException:
        with suppress(QradminError):
            if not working.exists(name):
                journal.left_nothing("file", name)
        raise
    journal.left_nothing("file", name)


def _dump(
    journal: Journal,
    server: Server,
    dumper: clients.Client,
    file: Path,
    compression: str,
) -> Manifest:
    """Dump into ``file`` while the same snapshot is counted; the manifest of exactly what was dumped."""
    name = journal.operation.application_name
    with manifest.snapshot(server, application_name=name, watch=journal.watch) as view:
        command = commands.dump(
            server, dumper, file=file, snapshot=view.id, compression=compression, application_name=name
        )
        tally = activity.CopyTally()
        expected: list[int] = []

        def report(monitor: psycopg.Connection[TupleRow]) -> None:
            if not expected:
                expected.append(activity.expected_rows(monitor))
            rows = tally.rows(monitor)
            journal.progress(rows, expected[0] or None, "rows")

        with followed(journal, server, report) as look, processes.start(command) as dumping:
            watch = _watched(dumping, server, look)
            taken = interruptible(view.connection, lambda: manifest.take(view.connection), watch=watch)
            while dumping.poll() is None:
                watch()
                time.sleep(0.02)
            _insist_on_success(dumping.finish(), server, "pg_dump")
    return taken


def _watched(dumping: Running, server: Server, look: Watch) -> Watch:
    """``look``, and the end of the counting when the dump beside it has failed."""

    def watch() -> None:
        look()
        if dumping.poll():
            _insist_on_success(dumping.finish(), server, "pg_dump")

    return watch


def _insist_on_success(finished: Finished, server: Server, program: str) -> None:
    if finished.returncode == 0:
        return
    problem = program_problem(finished.stderr, server)
    if problem is None:
        what = error_line(finished.stderr) or say("status {status}", status=finished.returncode)
        told = say("{program} failed: {what}", program=program, what=what)
        problem = ProgramFailed(told, detail=finished.stderr)
    raise problem


def _read_whole(journal: Journal, reading: ReadingAlong, file: Path) -> str:
    """The end of the reading that began with the dump, and the SHA-256 of the file in hex.

    An archive that was written a moment ago and cannot be read is the disk's fault.
    """
    moved = bytes_moved(journal, 2 * file.stat().st_size)
    try:
        reading.finish(journal.watch, on_bytes=moved)
    except BadBackup as error:
        raise StorageProblem(
            say("The archive that was just written cannot be read back: check the working location's disk."),
            detail=error.detail or error.message,
        ) from error
    return vault.sha256_of(file, watch=journal.watch, on_bytes=moved)


def _name_and_record(file: vault.WorkingFile, backup: Backup, working: vault.Location) -> Path:
    """The file gets its name and the rows of the backup and its copies are written: all or nothing.

    Nothing is removed here when that goes wrong: whose a file of this name is then stands in the records
    alone, which may not answer just now. What is nobody's is removed as a leftover.
    """
    try:
        with transaction.atomic():
            _insert(backup)
            copies.record(backup, {working.alias})
            path = file.commit()
    except AWAY:  # the row may have been written although nobody said so
        if not patiently(lambda: Backup.objects.filter(pk=backup.pk, operation=backup.operation).exists()):
            raise
    return path


def _insert(backup: Backup) -> None:
    """Write the row. NameTaken when there is one of that name by now."""
    try:
        backup.save(force_insert=True)
    except IntegrityError as error:
        told = say("There is another backup named {name} meanwhile: it was left as it is.", name=backup.name)
        raise vault.NameTaken(told) from error


def _free_name(working: vault.Location, database: str, *, is_safety: bool) -> str:
    """A name that no backup has or ever had; within one second, the next second is waited for.

    The other locations are not asked, for the API may be stopped meanwhile: a copy overwrites nothing there.
    """
    while True:
        name = vault.make_name(database, datetime.now(UTC), safety=is_safety)
        if not Backup.objects.filter(name=name).exists() and not working.exists(name):
            return name
        time.sleep(0.1)


def _insist_on_room(working: vault.Location, live: DatabaseFacts) -> None:
    """Room for as much as the last backup took, with a fifth more; before the first, half the database."""
    last = Backup.objects.filter(database=live.name).order_by("-created_at").first()
    needed = int(last.size * 1.2) if last else max(0, live.size_bytes // 2 - EMPTY_DATABASE_BYTES * 4)
    free = working.free_bytes()
    if free is not None and free < needed:
        raise NoSpace(
            say(
                "{alias} has {free} MB free, a backup needs {needed} MB: make room.",
                alias=working.alias,
                free=f"{free / 1e6:.1f}",
                needed=f"{needed / 1e6:.1f}",
            )
        )


def _compression(dumper: clients.Client) -> str:
    chosen = config.compression()
    return clients.best_compression(dumper) if chosen == "best" else chosen


def _content_warnings(taken: Manifest, database: str) -> list[str]:
    """Tables that lost more than the set share of their rows since the last backup of this database."""
    last = _compared_with(database)
    if last is None or not last.manifest:
        return []
    try:
        before = Manifest.from_json(last.manifest)
    except BadBackup:
        return []
    share = config.content_alarm_share()
    rows = {table: taken.tables[table].rows if table in taken.tables else 0 for table in before.tables}
    return [
        say(
            "{table} has {rows} rows, {before} in the backup before ({name}): check whether so much was meant"
            " to go, and pin this backup if it was.",
            table=table,
            rows=rows[table],
            before=state.rows,
            name=last.name,
        )
        for table, state in before.tables.items()
        if rows[table] < state.rows * (1 - share)
    ]


def _compared_with(database: str) -> Backup | None:
    """The newest backup that is in order and gave no alarm itself, or whose alarm somebody answered by a pin.

    So an alarm comes again with each backup for a week, and is not silent from the second one on. Then the
    newest one is the measure. A removed backup's record serves as well.
    """
    now = timezone.now()
    good = Backup.objects.filter(
        database=database, manifest__isnull=False, validated_at__isnull=False, damage=""
    )
    earlier = good.taken_by(now).order_by("-created_at", "-pk")
    recent = earlier.filter(created_at__gte=now - ALARM_LASTS)
    return recent.filter(Q(warnings=[]) | Q(is_pinned=True)).first() or earlier.first()
