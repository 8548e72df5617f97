"""Check every copy where it lies, and repair what is missing or damaged from an intact copy."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from pathlib import Path

from django.db.models import Exists, OuterRef, QuerySet

from backups_app import config
from backups_app.errors import TROUBLE_WITH_A_COPY, BadBackup, EnvironmentProblem, Stalled
from backups_app.models import Backup, BackupCopy, Operation
from backups_app.operations import copies, sidecars, site_copies
from backups_app.operations.journal import Journal
from backups_app.operations.places import Places
from backups_app.sentences import say
from backups_app.systems import vault

SHORTEST_PAUSE = timedelta(minutes=5)
LONGEST_PAUSE = timedelta(hours=6)

State = BackupCopy.State


class Found(Enum):
    """What came of looking at one copy."""

    INTACT = auto()
    LACKING = auto()  # to be brought, or replaced by an intact one
    UNSURE = auto()  # the way there broke off: left as it is until the next check
    NOT_OURS = auto()  # somebody else's file of that name
    OUT_OF_REACH = auto()  # its location does not answer


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
    2. Read each copy where it lies, a second time before it is called damaged or unreadable.
    3. Bring what is missing, damaged, unreadable or waiting from an intact copy. A file that is there is
       replaced only when the replacement has been read back beside it.
    4. Without ``only_pending`` the same with the newest backup of the site's own database.

    BadBackup when a backup has no intact copy left.
    """
    journal.consequence = say("Intact copies were only read.")
    only_pending = bool(journal.operation.parameters.get("only_pending"))
    places = Places(journal)
    findings = Findings()
    for backup in _wanted(only_pending=only_pending):
        with journal.stage(say("Check the copies of {backup}", backup=backup.name)):
            _check(journal, backup, places, findings, only_pending=only_pending)
    if not only_pending:
        site_copies.check_site_copies(journal, places)
    _tell(journal, places, findings)


def is_retry_due(now: datetime) -> bool:
    """Whether some waiting copy was last tried long enough ago.

    The pause doubles: it is as long as the copy has waited so far, between five minutes and six hours.
    """
    known = [spec.alias for spec in config.location_specs()]
    waiting = BackupCopy.objects.filter(state=State.PENDING, backup__removed_at=None, location__in=known)
    waiting = waiting.exclude(backup__operation__state__in=Operation.ACTIVE)
    tried = waiting.values_list("backup__created_at", "checked_at")
    # The time of a try lies ahead when the clock was set back since then.
    return any(
        checked is None or abs(now - checked) >= _pause(checked - made if checked <= now else timedelta())
        for made, checked in tried
    )


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
        found = _look_at(journal, copy, location, places)
        if found is Found.INTACT:
            findings.intact += 1
            sidecars.renew(journal, backup, location)
        elif found is Found.LACKING:
            lacking.append((copy, location))
        elif found is Found.UNSURE:
            findings.waiting.append(str(copy))
        elif found is Found.OUT_OF_REACH:
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


def _look_at(journal: Journal, copy: BackupCopy, location: vault.Location, places: Places) -> Found:
    """Read it where it lies and record what it is; a waiting copy may have got there after all."""
    if location.alias in places.down:
        return Found.OUT_OF_REACH
    known = copy.state
    try:
        if known == State.PENDING and not location.exists(copy.backup.name):
            return Found.LACKING
        found = _read_with_care(journal, copy, location, places)
    except vault.MissingCopy as problem:
        copy.found(State.MISSING, problem.message)
        journal.warn(problem.message, location=location.alias)
        return Found.LACKING
    except TROUBLE_WITH_A_COPY as problem:
        journal.moved()  # what comes next has its own time to stand still
        places.ask_again(location.alias)
        if location.alias in places.down:
            return Found.OUT_OF_REACH
        if _is_too_early_to_replace(journal, copy, location, problem):
            return Found.UNSURE
    else:
        if copies.judge_copy(journal, copy, found):
            return Found.INTACT
    was_ours = known in {State.STORED, State.CORRUPT, State.UNREADABLE}
    is_there = copy.state in {State.CORRUPT, State.UNREADABLE}
    if is_there and not _is_ours(journal, copy, location, was_ours=was_ours):
        return Found.NOT_OURS
    return Found.LACKING


def _read_with_care(
    journal: Journal, copy: BackupCopy, location: vault.Location, places: Places
) -> vault.Stored:
    """Read it, once more when the first reading says that it is not intact: a fault may be over by then."""
    try:
        found = copies.read(journal, copy, location)
        if copy.state in {State.CORRUPT, State.PENDING} or copies.is_as_recorded(copy.backup, found):
            return found
        again = say(
            "The copy in {location} differs from its record: it is read once more.", location=location.alias
        )
    except vault.MissingCopy:
        raise
    except EnvironmentProblem as problem:
        again = say(
            "The copy in {location} cannot be read now: {problem}",
            location=location.alias,
            problem=problem.message,
        )
        places.ask_again(location.alias)
        if location.alias in places.down:
            raise
    journal.warn(again)
    return copies.read(journal, copy, location)


def _is_too_early_to_replace(
    journal: Journal, copy: BackupCopy, location: vault.Location, problem: EnvironmentProblem | Stalled
) -> bool:
    """Neither reading came to its end. That is no damage, and may be the fault of the way there.

    What the location refuses while it answers otherwise is replaced where an intact copy can be had. What
    only a broken connection kept from being read is so when the next check cannot read it either.
    """
    if isinstance(problem, Stalled):
        journal.warn(
            say(
                "The copy in {location} cannot be read now: {problem}",
                location=location.alias,
                problem=problem.message,
            )
        )
        return True
    was_unreadable = copy.state == State.UNREADABLE
    if not was_unreadable and copy.state != State.STORED:
        return False
    copy.found(State.UNREADABLE, problem.message)
    journal.warn(
        say(
            "The copy in {location} cannot be read at the second try either: {problem}",
            location=location.alias,
            problem=problem.message,
        )
    )
    return isinstance(problem, vault.ConnectionBroken) and not was_unreadable


def _is_ours(journal: Journal, copy: BackupCopy, location: vault.Location, *, was_ours: bool) -> bool:
    """Whether a file that differs, or cannot be read, is ours: somebody else's is never replaced."""
    try:
        told = sidecars.told_by(location, copy.backup.name)
    except EnvironmentProblem as error:
        journal.warn(error.message)
        return False
    if was_ours if told is None else told.get("sha256") == copy.backup.sha256:
        return True
    problem = say(
        "{location} holds another file named {backup}: it was left as it is.",
        location=location.alias,
        backup=copy.backup.name,
    )
    copy.found(State.PENDING, problem)  # a clean-up removes no file that is not ours
    journal.warn(problem)
    return False


def _is_still_present(backup: Backup) -> bool:
    """A clean-up may have removed it meanwhile: then nothing is brought back."""
    return Backup.objects.present().filter(pk=backup.pk).exists()


def _bring_all(
    journal: Journal,
    path: Path,
    lacking: list[tuple[BackupCopy, vault.Location]],
    places: Places,
    findings: Findings,
) -> None:
    """From the intact file at ``path``; what does not work is noted as waiting."""
    for copy, location in lacking:
        copy.refresh_from_db()  # the search for an intact one may have found this one to be so
        if copy.state == State.STORED:
            findings.intact += 1
            continue
        copies.bring(journal, copy, location, path)
        if copy.state == State.STORED:
            findings.repaired.append(str(copy))
            journal.note(
                say(
                    "{location} holds an intact copy of {backup} again.",
                    location=location.alias,
                    backup=copy.backup.name,
                )
            )
        else:
            findings.waiting.append(str(copy))
            places.ask_again(location.alias)


def _repair(
    journal: Journal,
    backup: Backup,
    lacking: list[tuple[BackupCopy, vault.Location]],
    places: Places,
    findings: Findings,
) -> None:
    try:
        copies.from_intact_copy(
            journal, backup, lambda path: _bring_all(journal, path, lacking, places, findings)
        )
    except BadBackup as error:
        copies.record_damage(backup, error)
        findings.lost.append(backup.name)
        journal.note(error.message, level="error")
        _leave(lacking, error.message)
    except TROUBLE_WITH_A_COPY as problem:
        findings.waiting += [str(copy) for copy, _ in lacking]
        _leave(lacking, problem.message)
        journal.warn(
            say("{backup} cannot be repaired now: {problem}", backup=backup.name, problem=problem.message)
        )


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
        say(
            "{intact} copies are intact, {repaired} were brought or repaired, {waiting} have to wait.",
            intact=findings.intact,
            repaired=len(findings.repaired),
            waiting=len(findings.waiting),
        )
    )
    if findings.lost:
        raise BadBackup(
            say(
                "No intact copy is left of {backups}: put a good file back into a location,"
                " or take a new backup.",
                backups=", ".join(findings.lost),
            )
        )


def _tell_of_unknown_locations(journal: Journal, places: Places) -> None:
    known = [location.alias for location in places]
    copies_elsewhere = BackupCopy.objects.intact().filter(backup__removed_at=None).exclude(location__in=known)
    for alias in sorted(set(copies_elsewhere.values_list("location", flat=True))):
        journal.warn(
            say(
                "The location {location} is no longer configured: its copies were not looked at.",
                location=alias,
            )
        )


def _pause(waited: timedelta) -> timedelta:
    return min(max(waited, SHORTEST_PAUSE), LONGEST_PAUSE)
