"""Judge a file that no record knows, and make a backup of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from backups_app import config
from backups_app.errors import BadBackup, Refused
from backups_app.models import Backup, Operation
from backups_app.operations import copies
from backups_app.operations.journal import Journal
from backups_app.operations.movement import bytes_moved
from backups_app.sentences import say
from backups_app.systems import vault
from backups_app.systems.postgres import archive, clients
from backups_app.systems.postgres.archive import ArchiveFacts


@dataclass(frozen=True)
class Judged:
    """A file that can be read to its end and holds the expected tables; ``revision`` as it holds it."""

    facts: ArchiveFacts
    revision: str

    @property
    def fields(self) -> dict[str, Any]:
        """What the archive itself tells of a backup's record."""
        return {
            "database": self.facts.database[:63],
            "server_version": self.facts.server_version[:40],
            "client_version": self.facts.client_version[:40],
            "compression": self.facts.compression[:20],
            "revision": self.revision[:64],
        }

    @property
    def taken_at(self) -> datetime | None:
        """When the archive was begun, by the clock of the machine that made it; never in the future."""
        try:
            told = datetime.strptime(self.facts.created[:19], "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007
        except ValueError:
            return None
        return min(timezone.make_aware(told), timezone.now()) if told.year in vault.YEARS else None


def judge(journal: Journal, path: Path) -> Judged:
    """Read all of the file. BadBackup when it is no whole archive of such a database."""
    reader = clients.newest_restore(config.client_folders())
    moved = bytes_moved(journal)
    archive.read_whole(reader, path, watch=journal.watch, on_bytes=moved)
    facts = archive.inspect(reader, path, watch=journal.watch)
    held = {table.partition(".")[2].strip('"') for table in facts.tables}
    missing = [table for table in config.expectations().tables if table not in held]
    if missing:
        raise BadBackup(
            say(
                "{name} holds no rows of the table {table}: it is a backup of something else.",
                name=path.name,
                table=missing[0],
            )
        )
    revision = archive.alembic_revision(reader, path, watch=journal.watch, on_bytes=moved)
    return Judged(facts, revision or "")


def insist_on_our_database(name: str, judged: Judged) -> None:
    """Refused when neither the file's name nor the archive itself says that it is the managed database's.

    Several systems may keep their files in one place; another one's must not become ours unasked.
    """
    ours = config.managed_database().database
    theirs = judged.facts.database
    if vault.parse_name(name).prefix != vault.prefix_for(ours) and theirs != ours:
        raise Refused(
            say(
                "{name} is a backup of the database {theirs}, not of {ours}: upload it if it is wanted here.",
                name=name,
                theirs=theirs,
                ours=ours,
            )
        )


def taken_elsewhere(theirs: str) -> str:
    """The warning for a backup of another database than the managed one."""
    ours = config.managed_database().database
    return say("It was taken from the database {theirs}, not from {ours}.", theirs=theirs, ours=ours)


def record(
    journal: Journal, name: str, found: vault.Stored, fields: Mapping[str, Any], *, holding: Collection[str]
) -> Backup:
    """The record of an adopted file, which lies in the locations ``holding``.

    Refused when one of that name was made meanwhile.
    """
    try:
        with transaction.atomic():
            backup = Backup.objects.create(
                name=name,
                size=found.size,
                sha256=found.sha256,
                operation=journal.operation,
                imported_at=timezone.now(),
                **fields,
            )
            copies.record(backup, holding)
    except IntegrityError as error:
        raise Refused(say("{name} has become known meanwhile.", name=name)) from error
    return backup


def point_to(journal: Journal, backup: Backup) -> None:
    """The operation is about this backup."""
    Operation.objects.filter(pk=journal.operation.pk).update(backup=backup)
    journal.result["backup"] = backup.name
