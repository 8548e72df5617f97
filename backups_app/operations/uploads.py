"""One uploaded file: judged like any other, given a name of our own, and copied to every location."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from django.utils import timezone

from backups_app import config
from backups_app.errors import BadBackup, EnvironmentProblem, Refused
from backups_app.models import Backup, Operation
from backups_app.operations import adoption, copies, places, sidecars
from backups_app.operations.backup import recorded_as_leftover
from backups_app.operations.journal import Journal
from backups_app.operations.movement import bytes_moved
from backups_app.sentences import say
from backups_app.systems import vault
from backups_app.systems.postgres import archive

FORGOTTEN_AFTER_SECONDS = 3600.0
SPOKEN_OF = say("The uploaded file")


def import_upload(journal: Journal) -> None:
    """
    1. Read the whole archive: it has to hold the managed database's tables.
    2. Give it a name of its own: the database's and when the archive was made.
    3. Store it in the working location, record it, and copy it to every other location.

    The uploaded file is gone afterwards, whatever happens; its own name stands only in the trail.
    """
    journal.consequence = say("Nothing was imported.")
    working, *_others = config.locations()
    path = vault.find_upload(config.upload_folder(), str(journal.operation.parameters["upload"]))
    try:
        original = journal.operation.parameters.get("original", "")
        journal.note(say("It was uploaded as “{name}”.", name=original))
        with _spoken_of(path):
            with journal.stage(say("Read the whole archive")):
                digest = vault.sha256_of(path, watch=journal.watch, on_bytes=bytes_moved(journal))
                _insist_on_new(digest)
                judged = adoption.judge(journal, path)
            _store(journal, working, path, judged, digest)
    finally:
        path.unlink(missing_ok=True)


def insist_on_archive(path: Path) -> None:
    """A first look at the file's head: BadBackup, in a sentence, when it is no archive at all."""
    with _spoken_of(path):
        archive.file_header_version(path)


def sweep_forgotten() -> None:
    """Uploads whose operation has ended, or that nobody finished."""
    active = Operation.objects.active().filter(kind=Operation.Kind.IMPORT)
    keep = {str(parameters.get("upload")) for parameters in active.values_list("parameters", flat=True)}
    vault.sweep_uploads(config.upload_folder(), FORGOTTEN_AFTER_SECONDS, keep=keep)


def _insist_on_new(digest: str) -> None:
    same = Backup.objects.present().filter(sha256=digest).first()
    if same is not None:
        raise Refused(say("This very file is here already, as {name}.", name=same.name))


def _store(
    journal: Journal, working: vault.Location, path: Path, judged: adoption.Judged, digest: str
) -> None:
    taken_at = judged.taken_at or timezone.now()
    ours = config.managed_database().database
    name = _free_name(journal, working, ours, taken_at, digest)
    warnings = []
    if judged.facts.database != ours:
        warnings.append(adoption.taken_elsewhere(judged.facts.database))
    fields = judged.fields | {
        "origin": Backup.Origin.IMPORTED,
        "created_at": taken_at,
        "created_by": journal.operation.requested_by_name,
        "validated_at": timezone.now(),
        "warnings": warnings,
    }
    with recorded_as_leftover(journal, working, name):
        with journal.stage(say("Store it as {name}", name=name)):
            found = working.store(path, name, watch=journal.watch, on_bytes=bytes_moved(journal))
        if found.sha256 != digest:
            working.remove(name)
            raise BadBackup(say("The uploaded file changed while it was read."))
        backup = adoption.record(journal, name, found, fields, holding={working.alias})
    journal.consequence = say("The backup {name} was imported and is kept.", name=name)
    adoption.point_to(journal, backup)
    journal.keep_warnings(*warnings, *sidecars.write(journal, backup, working))
    stored = working.local_path(name)
    if stored is not None:
        journal.keep_warnings(*copies.distribute(journal, backup, stored))


def _free_name(
    journal: Journal, working: vault.Location, database: str, moment: datetime, digest: str
) -> str:
    """The name for that second, or for the next second that is free, in every location that answers soon.

    Refused when a name on the way is this very file's, which another worker is importing just now.
    """
    sight = places.look_around(journal.watch, seconds=places.PAGE_SECONDS)
    elsewhere = {file.name for files in sight.files.values() for file in files}
    while True:
        name = vault.make_name(database, moment)
        is_here = working.exists(name)
        if not is_here and name not in elsewhere and not Backup.objects.filter(name=name).exists():
            return name
        _insist_on_new(digest)
        if is_here and _digest(journal, working, name) == digest:
            raise Refused(say("This very file is here already, as {name}.", name=name))
        moment += timedelta(seconds=1)


def _digest(journal: Journal, working: vault.Location, name: str) -> str:
    return working.digest(name, watch=journal.watch, on_bytes=bytes_moved(journal)).sha256


@contextmanager
def _spoken_of(path: Path) -> Iterator[None]:
    """Sentences that would name our temporary file speak of the uploaded one."""
    try:
        yield
    except (BadBackup, EnvironmentProblem) as error:
        raise type(error)(error.message.replace(path.name, SPOKEN_OF), detail=error.detail) from error
