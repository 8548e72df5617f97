"""Check every copy where it lies, and repair what is missing or damaged from an intact copy."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Exists, OuterRef, QuerySet

from backups_app import config
from backups_app.errors import BadBackup, EnvironmentProblem, QradminError
from backups_app.models import Backup, BackupCopy, Operation
from backups_app.operations import copies, sidecars
from backups_app.operations.journal import Journal
from backups_app.operations.places import Places
from backups_app.systems import vault

SHORTEST_PAUSE = timedelta(minutes=5)
LONGEST_PAUSE = timedelta(hours=6)

State = BackupCopy.State


@dataclass
class Findings:
    """What one check has found and done; ``repaired`` and ``waiting`` as "name in location"."""

    intact: int = 0
    repaired: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def check_copies(journal: Journal) -> None:
    """The operation: every copy of every present backup, or with ``only_pending`` those that wait.

    1. See which locations answer; one that does not is a warning.
    2. Read each copy where it lies, and mark what is missing or damaged.
    3. Bring what is missing, damaged or waiting from an intact copy. A damaged file is replaced only
       when the replacement has been read back beside it.

    BadBackup when a backup has no intact copy left.
    """
    journal.consequence = "Intact copies were only read."
    only_pending = bool(journal.operation.parameters.get("only_pending"))
    places = Places(journal)
    findings = Findings()
    for backup in _wanted(only_pending=only_pending):
        with journal.stage(f"Check the copies of {backup.name}"):
            _check(journal, backup, places, findings, only_pending=only_pending)
    _tell(journal, places, findings)


def is_retry_due(now: datetime) -> bool:
    """Whether some waiting copy was last tried long enough ago.

    The pause doubles: it is as long as the copy has waited so far, between five minutes and six hours.
    """
    known = [spec.alias for spec in config.location_specs()]
    waiting = BackupCopy.objects.filter(state=State.PENDING, backup__removed_at=None, location__in=known)
    waiting = waiting.exclude(backup__operation__state__in=Operation.ACTIVE)
    tried = waiting.values_list("backup__created_at", "checked_at")
    return any(checked is None or now - checked >= _pause(checked - made) for made, checked in tried)


def _wanted(*, only_pending: bool) -> QuerySet[Backup]:
    """Present backups that nobody is still making."""
    present = Backup.objects.present().exclude(operation__state__in=Operation.ACTIVE).defer("proof")
    if not only_pending:
        return present
    pending = BackupCopy.objects.filter(backup=OuterRef("pk"), state=State.PENDING)
    return present.filter(Exists(pending))


def _check(
    journal: Journal, backup: Backup, places: Places, findings: Findings, *, only_pending: bool
) -> None:
    lacking: list[tuple[BackupCopy, vault.Location]] = []
    for location in places:
        copy = _row(backup, location.alias)
        if copy.state == State.REMOVED or (only_pending and copy.state != State.PENDING):
            continue
        if location.alias not in places.down:
            was_stored = copy.state == State.STORED
            if _is_found_intact(journal, copy, location, places):
                findings.intact += 1
                sidecars.renew(journal, backup, location)
                continue
            if location.alias not in places.down:
                if copy.state != State.CORRUPT or _is_ours(journal, copy, location, was_stored=was_stored):
                    lacking.append((copy, location))
                continue
        _wait(copy, places.down[location.alias], findings)
    if lacking and _is_still_present(backup):
        _repair(journal, backup, lacking, places, findings)


def _row(backup: Backup, alias: str) -> BackupCopy:
    """The record of the copy; a location that was added later gets one that waits for its file."""
    copy, _ = BackupCopy.objects.get_or_create(
        backup=backup, location=alias, defaults={"state": State.PENDING}
    )
    return copy


def _wait(copy: BackupCopy, why: str, findings: Findings) -> None:
    if copy.state == State.PENDING:
        copy.found(State.PENDING, why)
        findings.waiting.append(str(copy))


def _is_found_intact(journal: Journal, copy: BackupCopy, location: vault.Location, places: Places) -> bool:
    """Read it where it lies; a waiting copy may have got there after all."""
    unreachable: list[QradminError] = []
    try:
        if copy.state == State.PENDING and not location.exists(copy.backup.name):
            return False
        if copies.is_intact(journal, copy, location, unreachable):
            return True
    except EnvironmentProblem as problem:
        unreachable.append(problem)
    if unreachable:
        places.ask_again(location.alias)
    return False


def _is_ours(journal: Journal, copy: BackupCopy, location: vault.Location, *, was_stored: bool) -> bool:
    """Whether a file that differs is our damaged one: somebody else's file is never replaced."""
    try:
        told = sidecars.told_by(location, copy.backup.name)
    except EnvironmentProblem as error:
        journal.warn(error.message)
        return False
    if was_stored if told is None else told.get("sha256") == copy.backup.sha256:
        return True
    problem = f"{location.alias} holds another file named {copy.backup.name}: it was left as it is."
    copy.found(State.PENDING, problem)  # a clean-up removes no file that is not ours
    journal.warn(problem)
    return False


def _is_still_present(backup: Backup) -> bool:
    """A clean-up may have removed it meanwhile: then nothing is brought back."""
    return Backup.objects.present().filter(pk=backup.pk).exists()


def _repair(
    journal: Journal,
    backup: Backup,
    lacking: list[tuple[BackupCopy, vault.Location]],
    places: Places,
    findings: Findings,
) -> None:
    try:
        with copies.intact_copy(journal, backup) as path:
            for copy, location in lacking:
                copies.bring(journal, copy, location, path)
                if copy.state == State.STORED:
                    findings.repaired.append(str(copy))
                    journal.note(f"{location.alias} holds an intact copy of {backup.name} again.")
                else:
                    findings.waiting.append(str(copy))
                    places.ask_again(location.alias)
    except BadBackup as error:
        backup.mark_damaged(error.message)
        findings.lost.append(backup.name)
        journal.note(error.message, level="error")
        _leave(lacking, error.message)
    except EnvironmentProblem as problem:
        findings.waiting += [str(copy) for copy, _ in lacking]
        _leave(lacking, problem.message)
        journal.warn(f"{backup.name} cannot be repaired now: {problem.message}")


def _leave(lacking: list[tuple[BackupCopy, vault.Location]], why: str) -> None:
    """Those that wait go on waiting, with a longer pause."""
    for copy, _location in lacking:
        if copy.state == State.PENDING:
            copy.found(State.PENDING, why)


def _tell(journal: Journal, places: Places, findings: Findings) -> None:
    _tell_of_unknown_locations(journal, places)
    journal.result |= {
        "intact": findings.intact,
        "repaired": findings.repaired,
        "waiting": findings.waiting,
        "lost": findings.lost,
        "unreachable": sorted(places.down),
    }
    journal.note(
        f"{findings.intact} copies are intact, {len(findings.repaired)} were brought or repaired,"
        f" {len(findings.waiting)} have to wait."
    )
    if findings.lost:
        raise BadBackup(
            f"No intact copy is left of {', '.join(findings.lost)}: put a good file back into a location,"
            " or take a new backup."
        )


def _tell_of_unknown_locations(journal: Journal, places: Places) -> None:
    known = [location.alias for location in places]
    copies_elsewhere = BackupCopy.objects.intact().filter(backup__removed_at=None).exclude(location__in=known)
    for alias in sorted(set(copies_elsewhere.values_list("location", flat=True))):
        journal.warn(f"The location {alias} is no longer configured: its copies were not looked at.")


def _pause(waited: timedelta) -> timedelta:
    return min(max(waited, SHORTEST_PAUSE), LONGEST_PAUSE)
