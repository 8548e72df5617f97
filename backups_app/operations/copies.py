"""The copies of a backup: put into every location, and one intact copy found again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from backups_app import config
from backups_app.errors import (
    TROUBLE_WITH_A_COPY,
    BadBackup,
    EnvironmentProblem,
    QradminError,
    StorageProblem,
)
from backups_app.models import Backup, BackupCopy
from backups_app.operations import sidecars, stages
from backups_app.operations.journal import Journal
from backups_app.operations.movement import bytes_moved
from backups_app.sentences import say
from backups_app.systems import vault

Found = TypeVar("Found")


class NoIntactCopy(BadBackup):
    """Each copy is missing or changed; nothing is said of what the backup holds."""


def record_damage(backup: Backup, error: BadBackup) -> None:
    """Mark the backup as damaged, for good or until an intact copy is found."""
    if isinstance(error, NoIntactCopy):
        backup.mark_copies_lost(error.message)
    else:
        backup.mark_damaged(error.message)


def record(backup: Backup, holding: Collection[str]) -> None:
    """Every location gets its row: those named in ``holding`` have the file, the others wait for theirs.

    In the transaction that writes the backup's own row: one without copies would be of no use to anybody.
    Housekeeping brings what nobody else does.
    """
    for spec in config.location_specs():
        state = BackupCopy.State.STORED if spec.alias in holding else BackupCopy.State.PENDING
        BackupCopy.objects.update_or_create(backup=backup, location=spec.alias, defaults={"state": state})


def distribute(journal: Journal, backup: Backup, file: Path) -> list[str]:
    """Copy ``file`` to every location but the working one; each copy is read back.

    A location that is down gives a warning and a copy in state PENDING that housekeeping tries again.
    Returns the warnings.
    """
    _working, *others = config.locations()
    return [told for location in others for told in store_copy(journal, backup, location, file)]


def store_copy(journal: Journal, backup: Backup, location: vault.Location, file: Path) -> list[str]:
    """One copy, verified where it lies; warnings instead of errors, unless the work has to end."""
    copy, _ = BackupCopy.objects.get_or_create(
        backup=backup, location=location.alias, defaults={"state": BackupCopy.State.PENDING}
    )
    moved = bytes_moved(journal, 2 * backup.size)
    try:
        with journal.stage(stages.copy_to(location.alias)):
            stored = location.store(file, backup.name, watch=journal.watch, on_bytes=moved)
            if stored.sha256 != backup.sha256:
                location.remove(backup.name)
                raise EnvironmentProblem(
                    say(
                        "The copy in {location} differs from the backup: it was removed.",
                        location=location.alias,
                    )
                )
    except vault.NameTaken:
        return _adopt_or_warn(journal, backup, location, copy)
    except TROUBLE_WITH_A_COPY as problem:
        copy.found(BackupCopy.State.PENDING, problem.message)
        warning = say(
            "No copy in {location} yet: {problem}", location=location.alias, problem=problem.message
        )
        journal.warn(warning)
        return [warning]
    copy.found(BackupCopy.State.STORED)
    return sidecars.write(journal, backup, location)


def bring(journal: Journal, copy: BackupCopy, location: vault.Location, file: Path) -> None:
    """Put ``file`` where the copy is missing, damaged or unreadable; its state says whether that worked.

    A damaged or unreadable file stays until its replacement has been read back.
    """
    replacing = {
        BackupCopy.State.CORRUPT: say("Replace the damaged copy in {location}", location=location.alias),
        BackupCopy.State.UNREADABLE: say(
            "Replace the unreadable copy in {location}", location=location.alias
        ),
    }
    stage = replacing.get(BackupCopy.State(copy.state))
    if stage is None:
        store_copy(journal, copy.backup, location, file)
        copy.refresh_from_db()
        return
    backup = copy.backup
    try:
        with journal.stage(stage):
            moved = bytes_moved(journal, (2 if location.is_local else 4) * backup.size)
            location.replace(file, backup.name, watch=journal.watch, on_bytes=moved)
    except TROUBLE_WITH_A_COPY as problem:
        copy.found(copy.state, say("It was not replaced yet: {problem}", problem=problem.message))
        journal.warn(
            say(
                "The copy in {location} was left as it is: {problem}",
                location=location.alias,
                problem=problem.message,
            )
        )
        return
    copy.found(BackupCopy.State.STORED)
    sidecars.write(journal, backup, location)


def from_intact_copy(journal: Journal, backup: Backup, work: Callable[[Path], Found]) -> Found:
    """What ``work`` makes of the path of a copy whose size and SHA-256 equal the record, the nearest first.

    Each copy that is not intact is recorded as such and the next one is tried; so it is, when ``work`` raises
    StorageProblem because its location is lost meanwhile. BadBackup when all are missing or changed
    (NoIntactCopy), EnvironmentProblem when one that might be intact cannot be reached or read to its end.
    """
    lost: dict[str, QradminError] = {}
    while True:
        with ExitStack() as held:
            with journal.stage(stages.FIND_COPY):
                path, alias = _find_intact(journal, backup, held, lost)
            try:
                return work(path)
            except StorageProblem as problem:
                told = say(
                    "The copy in {location} could not be read to its end: another one is looked for.",
                    location=alias,
                )
                journal.warn(told, problem=problem.message)
                lost[alias] = problem


def _find_intact(
    journal: Journal, backup: Backup, held: ExitStack, lost: Mapping[str, QradminError]
) -> tuple[Path, str]:
    """Its path and its location's alias. ``held`` keeps the folder of a copy that was fetched.

    Locations in ``lost`` are passed over: their copies may be intact, but could not be read.
    """
    unreachable = [*lost.values()]
    looked_at: list[BackupCopy] = []
    for location in config.locations():
        copy = backup.copies.filter(location=location.alias).exclude(state=BackupCopy.State.REMOVED).first()
        if copy is None or copy.state == BackupCopy.State.PENDING or location.alias in lost:
            continue
        looked_at.append(copy)
        if location.is_local:
            is_good = is_intact(journal, copy, location, unreachable)
            path = location.local_path(backup.name) if is_good else None
            if path is not None:
                return path, location.alias
        else:
            with ExitStack() as fetched:
                target = fetched.enter_context(_scratch(journal)) / backup.name
                if _fetch(journal, copy, location, target, unreachable):
                    held.push(fetched.pop_all())
                    return target, location.alias
    unreachable += _out_of_sight(backup)
    if unreachable:
        raise unreachable[0]
    raise NoIntactCopy(
        say(
            "No copy of {name} is intact: each is missing, or differs from its record in size or SHA-256.",
            name=backup.name,
        ),
        detail="\n".join(f"{copy.location}: {copy.difference or copy.problem}" for copy in looked_at),
    )


def difference(backup: Backup, found: vault.Stored) -> str:
    """What the record says and what was found, for whoever opens the error."""
    return say(
        "Expected: {size} bytes, SHA-256 {sha256}. Found: {found_size} bytes, SHA-256 {found_sha256}.",
        size=backup.size,
        sha256=backup.sha256,
        found_size=found.size,
        found_sha256=found.sha256,
    )


@contextmanager
def at_hand(journal: Journal, location: vault.Location, name: str) -> Iterator[Path]:
    """The path of a file that may have no record yet; from afar it is fetched for the time of the block."""
    path = location.local_path(name)
    if path is not None:
        yield path
        return
    with _scratch(journal) as folder:
        target = folder / name
        location.fetch(name, target, watch=journal.watch, on_bytes=bytes_moved(journal))
        yield target


def is_intact(
    journal: Journal, copy: BackupCopy, location: vault.Location, unreachable: list[QradminError]
) -> bool:
    """Read the copy where it lies and record what was found."""
    try:
        found = read(journal, copy, location)
    except vault.MissingCopy as problem:
        _mark(journal, copy, BackupCopy.State.MISSING, problem.message)
        return False
    except EnvironmentProblem as problem:
        journal.warn(
            say(
                "The copy in {location} cannot be read now: {problem}",
                location=location.alias,
                problem=problem.message,
            )
        )
        unreachable.append(problem)
        return False
    return judge_copy(journal, copy, found)


def read(journal: Journal, copy: BackupCopy, location: vault.Location) -> vault.Stored:
    """Read the whole copy where it lies; MissingCopy or EnvironmentProblem when that cannot be done."""
    moved = bytes_moved(journal, copy.backup.size)
    return location.digest(copy.backup.name, watch=journal.watch, on_bytes=moved)


def _out_of_sight(backup: Backup) -> list[QradminError]:
    """Copies in locations that are no longer configured may be intact."""
    aliases = [spec.alias for spec in config.location_specs()]
    copies = backup.copies.exclude(location__in=aliases).exclude(
        state__in=[BackupCopy.State.REMOVED, BackupCopy.State.PENDING]
    )
    return [
        StorageProblem(
            say(
                "A copy of {backup} lies in {location}, which is no longer configured: put this "
                "location back into BACKUP_LOCATIONS.",
                backup=backup.name,
                location=copy.location,
            )
        )
        for copy in copies
    ]


def _fetch(
    journal: Journal,
    copy: BackupCopy,
    location: vault.Location,
    target: Path,
    unreachable: list[QradminError],
) -> bool:
    moved = bytes_moved(journal, copy.backup.size)
    try:
        with journal.stage(say("Fetch from {location}", location=location.alias)):
            found = location.fetch(copy.backup.name, target, watch=journal.watch, on_bytes=moved)
    except vault.MissingCopy as problem:
        _mark(journal, copy, BackupCopy.State.MISSING, problem.message)
        return False
    except EnvironmentProblem as problem:
        journal.warn(
            say(
                "The copy in {location} cannot be fetched now: {problem}",
                location=location.alias,
                problem=problem.message,
            )
        )
        unreachable.append(problem)
        return False
    return judge_copy(journal, copy, found)


def is_as_recorded(backup: Backup, found: vault.Stored) -> bool:
    return (found.size, found.sha256) == (backup.size, backup.sha256)


def judge_copy(journal: Journal, copy: BackupCopy, found: vault.Stored) -> bool:
    """Record whether what was found equals the backup's record."""
    backup = copy.backup
    if is_as_recorded(backup, found):
        copy.found(BackupCopy.State.STORED)
        backup.mark_copy_found()
        return True
    copy.difference = difference(backup, found)
    if found.size != backup.size:
        told = say("The copy in {location} differs from its record in its size.", location=copy.location)
    else:
        told = say("The copy in {location} differs from its record in its SHA-256.", location=copy.location)
    _mark(journal, copy, BackupCopy.State.CORRUPT, told)
    return False


def _mark(journal: Journal, copy: BackupCopy, state: str, problem: str) -> None:
    copy.found(state, problem)
    journal.warn(problem, location=copy.location, **({"read": copy.difference} if copy.difference else {}))


def _adopt_or_warn(journal: Journal, backup: Backup, location: vault.Location, copy: BackupCopy) -> list[str]:
    """A file of that name is already there: ours when it is equal, never overwritten when it is not.

    The copy then still waits for its place: a clean-up removes no file that was never ours.
    """
    if is_intact(journal, copy, location, []):
        return sidecars.write(journal, backup, location)
    warning = say(
        "{location} holds another file named {backup}: it was left as it is.",
        location=location.alias,
        backup=backup.name,
    )
    copy.found(BackupCopy.State.PENDING, warning)
    journal.warn(warning)
    return [warning]


@contextmanager
def _scratch(journal: Journal) -> Iterator[Path]:
    """A folder for a fetched copy; housekeeping removes it if this worker dies."""
    path = vault.scratch_path(config.scratch_folder())
    journal.will_leave("folder", str(path))
    try:
        vault.make_scratch(path)
        yield path
    finally:
        vault.remove_scratch(path)
        journal.left_nothing("folder", str(path))
