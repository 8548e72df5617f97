"""Import: files in the locations that no record knows are judged and adopted; the catalogue is rebuilt."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from backups_app import config
from backups_app.errors import BadBackup, EnvironmentProblem, QradminError, Refused, Stalled, StorageProblem
from backups_app.models import Backup, BackupCopy
from backups_app.models.backup import CLOCKS_DIFFER
from backups_app.operations import adoption, copies, sidecars, uploads
from backups_app.operations.journal import Journal
from backups_app.operations.places import Places, look_around
from backups_app.sentences import say
from backups_app.systems import vault
from backups_app.systems.postgres import clients
from backups_app.systems.waiting import answer

STALLED_SECONDS = 60.0


@dataclass(frozen=True)
class Candidate:
    """A file of the naming pattern that no present backup has; ``places`` are aliases."""

    name: str
    size: int
    places: tuple[str, ...]


@dataclass
class Look:
    """What lies in the locations now; ``troubles`` are those that did not answer, in sentences."""

    candidates: list[Candidate]
    troubles: list[str]


@dataclass
class _Lying:
    """One file as it lies in the locations: what each copy is, and which description fits its copy."""

    found: dict[str, vault.Stored] = field(default_factory=dict)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    misfits: list[str] = field(default_factory=list)

    @property
    def order(self) -> list[str]:
        """Aliases, those first whose copy is what its description says."""
        return sorted(self.found, key=lambda alias: alias not in self.told)


def import_backups(journal: Journal) -> None:
    """The operation: an uploaded file, or every unknown file in the locations.

    1. See which locations answer, and which files of theirs no record knows.
    2. Read each where it lies, and the description beside it.
    3. Read the whole archive: it has to be one of the managed database.
    4. Record it with its copies; locations without one get theirs by the next check of the copies.

    Whatever is not adopted is left as it is; ``dry_run`` stops before step 4.
    """
    journal.consequence = say("No file was changed or removed.")
    if journal.operation.parameters.get("upload"):
        uploads.import_upload(journal)
        return
    is_dry = bool(journal.operation.parameters.get("dry_run"))
    clients.newest_restore(config.client_folders())
    places = Places(journal)
    adopted: list[str] = []
    refused: list[dict[str, str]] = []
    unread: list[str] = []
    refused += _no_files(journal, places)
    for candidate in unknown_files(places.files):
        try:
            with journal.stage(say("Look at {name}", name=candidate.name)):
                _adopt(journal, candidate, places, is_dry=is_dry)
            adopted.append(candidate.name)
        except (BadBackup, Refused) as error:
            refused.append({"name": candidate.name, "why": error.message})
            journal.warn(say("Left alone: {reason}", reason=error.message))
        except (EnvironmentProblem, Stalled) as problem:
            journal.moved()  # the next file has its own time to stand still
            unread.append(candidate.name)
            journal.warn(
                say("{name} could not be judged now: {reason}", name=candidate.name, reason=problem.message)
            )
    journal.result |= {
        "dry_run": is_dry,
        "adopted": [] if is_dry else adopted,
        "adoptable": adopted if is_dry else [],
        "refused": refused,
        "unread": unread,
        "unreachable": sorted(places.down),
    }
    _tell_end(journal, len(adopted), len(refused), len(unread), is_dry=is_dry)


def _no_files(journal: Journal, places: Places) -> list[dict[str, str]]:
    """What bears a backup's name but is no file, so that nobody wonders why it is not looked at."""
    told = []
    for location in places.up:
        for name in location.odd_names() if isinstance(location, vault.LocalLocation) else ():
            why = say(
                "{name} in {location} is a symbolic link, or no file at all: it is never followed.",
                name=name,
                location=location.alias,
            )
            told.append({"name": name, "why": why})
            journal.warn(say("Left alone: {reason}", reason=why))
    return told


def _tell_end(journal: Journal, adopted: int, refused: int, unread: int, *, is_dry: bool) -> None:
    if is_dry:
        told = say(
            "{adopted} can be adopted, {refused} left alone, {unread} not readable now.",
            adopted=adopted,
            refused=refused,
            unread=unread,
        )
    else:
        told = say(
            "{adopted} adopted, {refused} left alone, {unread} not readable now.",
            adopted=adopted,
            refused=refused,
            unread=unread,
        )
    journal.note(told)


def look() -> Look:
    """The unknown files, for a page: each location is asked for a few seconds at most."""
    try:
        sight = look_around()
    except QradminError as error:
        return Look([], [error.message])
    return Look(unknown_files(sight.files), sight.troubles)


def unknown_files(files: Mapping[str, list[vault.StoredFile]]) -> list[Candidate]:
    """Files that no present backup has, oldest name first; ``files``: alias -> what lies there.

    None is of a date that no backup can have.
    """
    known = set(Backup.objects.present().values_list("name", flat=True))
    places: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    for alias, stored in files.items():
        for file in stored:
            if file.name not in known and vault.is_name(file.name):
                places.setdefault(file.name, []).append(alias)
                sizes.setdefault(file.name, file.size)
    order = sorted(places, key=lambda name: (vault.parse_name(name).moment, name))
    return [Candidate(name, sizes[name], tuple(places[name])) for name in order]


def _adopt(journal: Journal, candidate: Candidate, places: Places, *, is_dry: bool) -> None:
    name, began = candidate.name, timezone.now()
    lying = _read(journal, candidate, places)
    chosen, judged = _judge_best(journal, name, lying, places)
    adoption.insist_on_our_database(name, judged)
    found = lying.found[chosen]
    removed = Backup.objects.filter(name=name).first()
    if removed is not None and (removed.size, removed.sha256) != (found.size, found.sha256):
        raise Refused(
            say("{name} is not the backup of this name that was removed: rename one of them.", name=name)
        )
    if is_dry:
        journal.note(say("{name} can be adopted.", name=name), sha256=found.sha256)
        return
    holding = {alias for alias, other in lying.found.items() if other == found}
    if removed is not None:
        backup = _bring_back(removed, holding, read_since=began)
    else:
        fields = _fields(name, lying, chosen, judged)
        backup = adoption.record(journal, name, found, fields, holding=holding)
    _record_copies(journal, backup, lying, places)
    if backup.manifest:
        journal.note(say("{name} was adopted.", name=name))
    else:
        journal.note(say("{name} was adopted without a manifest.", name=name))
    for warning in backup.warnings:
        journal.warn(warning)


def _bring_back(removed: Backup, holding: Collection[str], *, read_since: datetime) -> Backup:
    """A backup that was removed and whose file was put back is what it was.

    StorageProblem when a clean-up has taken hold of a copy since the reading began.
    """
    with transaction.atomic():
        backup = Backup.objects.select_for_update().get(pk=removed.pk)
        if backup.is_present:
            raise Refused(say("{name} has become known meanwhile.", name=backup.name))
        going = backup.copies.removed_since(read_since)
        if going.filter(location__in=[spec.alias for spec in config.location_specs()]).exists():
            raise StorageProblem(
                say("A clean-up is removing it: what is left is looked at by the next import.")
            )
        backup.mark_found_again()
        copies.record(backup, holding)
    return backup


def _read(journal: Journal, candidate: Candidate, places: Places) -> _Lying:
    lying = _Lying()
    trouble: QradminError | None = None
    for location in places.up:
        if location.alias not in candidate.places:
            continue
        try:
            found = _read_whole(journal, location, candidate)
            lying.found[location.alias] = found
            told = sidecars.facts_beside(location, candidate.name, found)
            if told is not None:
                lying.told[location.alias] = told
        except EnvironmentProblem as problem:
            # Without what its description says it would be taken for less than it is, and that overwritten.
            lying.found.pop(location.alias, None)
            trouble = problem
            journal.warn(problem.message, location=location.alias)
            places.ask_again(location.alias)
        except BadBackup as misfit:
            lying.misfits.append(misfit.message)
            journal.warn(say("In {location}: {problem}", location=location.alias, problem=misfit.message))
    if not lying.found:
        away = [places.down[alias] for alias in candidate.places if alias in places.down]
        gone = away[0] if away else say("{name} is no longer there.", name=candidate.name)
        raise trouble or StorageProblem(gone)
    return lying


def _read_whole(journal: Journal, location: vault.Location, candidate: Candidate) -> vault.Stored:
    """Size and SHA-256. ConnectionBroken when no byte comes for too long: the reading is then left behind."""
    done, moved_at, is_left = 0, time.monotonic(), False

    def count(moved: int) -> None:
        nonlocal done, moved_at
        done, moved_at = done + moved, time.monotonic()

    def watch() -> None:
        journal.watch()
        journal.progress(done, candidate.size, "bytes")
        if time.monotonic() - moved_at > STALLED_SECONDS:
            raise vault.ConnectionBroken(
                say(
                    "{location} has given no byte of {name} for {seconds} seconds.",
                    location=location.describe(),
                    name=candidate.name,
                    seconds=f"{STALLED_SECONDS:g}",
                )
            )

    def leave() -> None:
        if is_left:
            raise vault.ConnectionBroken(say("The reading was given up."))

    try:
        return answer(lambda: location.digest(candidate.name, watch=leave, on_bytes=count), watch)
    finally:
        is_left = True


def _judge_best(journal: Journal, name: str, lying: _Lying, places: Places) -> tuple[str, adoption.Judged]:
    """The first copy that is a whole archive, and what it is; the error of the first one when none is."""
    errors: list[QradminError] = []
    tried: set[vault.Stored] = set()
    locations = {location.alias: location for location in places}
    for alias in lying.order:
        if lying.found[alias] in tried:
            continue
        tried.add(lying.found[alias])
        try:
            with copies.at_hand(journal, locations[alias], name) as path:
                return alias, adoption.judge(journal, path)
        except (BadBackup, EnvironmentProblem) as error:
            errors.append(error)
    raise errors[0]


def _fields(name: str, lying: _Lying, chosen: str, judged: adoption.Judged) -> dict[str, Any]:
    """From the description where one fits this very file, else from the archive and the name."""
    now = timezone.now()
    same = [alias for alias in lying.told if lying.found[alias] == lying.found[chosen]]
    if same:
        fields = dict(lying.told[same[0]])
        fields["validated_at"] = None if fields["damage"] else now
        fields["proven_at"] = None if fields["damage"] else fields["proven_at"]
    else:
        fields = judged.fields | {
            "origin": Backup.Origin.IMPORTED,
            "created_at": vault.parse_name(name).moment,
            "validated_at": None if lying.misfits else now,
            "warnings": [
                " ".join([problem, say("It may be damaged: prove it before you rely on it.")])
                for problem in lying.misfits[:1]
            ],
        }
    return fields | {"warnings": [*fields["warnings"], *_oddities(fields, now)]}


def _oddities(fields: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """What is odd about a backup that is adopted, and is not yet said."""
    ours = config.managed_database().database
    if fields["database"] and fields["database"] != ours:
        yield adoption.taken_elsewhere(fields["database"])
    if fields["created_at"] > now + CLOCKS_DIFFER:
        told = say(
            "It bears a time in the future, {time} UTC: until then it does not count as the newest.",
            time=f"{fields['created_at'].astimezone(UTC):%Y-%m-%d %H:%M}",
        )
        if told not in fields["warnings"]:
            yield told


def _record_copies(journal: Journal, backup: Backup, lying: _Lying, places: Places) -> None:
    """Every location gets a row; those that hold no such file wait for theirs."""
    for location in places:
        copy, _ = BackupCopy.objects.get_or_create(
            backup=backup, location=location.alias, defaults={"state": BackupCopy.State.PENDING}
        )
        found = lying.found.get(location.alias)
        if found is None:
            copy.found(BackupCopy.State.PENDING)
            BackupCopy.objects.filter(pk=copy.pk).update(checked_at=None)
        elif (found.size, found.sha256) != (backup.size, backup.sha256) and not _is_ours(location, backup):
            told = say(
                "{location} holds another file named {backup}: it was left as it is.",
                location=location.alias,
                backup=backup.name,
            )
            copy.found(BackupCopy.State.PENDING, told)
            journal.warn(told)
        elif copies.judge_copy(journal, copy, found) and location.alias not in lying.told:
            sidecars.write(journal, backup, location)


def _is_ours(location: vault.Location, backup: Backup) -> bool:
    """Whether the description beside a file that differs says that this backup should lie there."""
    try:
        told = sidecars.told_by(location, backup.name)
    except (BadBackup, EnvironmentProblem):
        return False
    return told is not None and told.get("sha256") == backup.sha256
