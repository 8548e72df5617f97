"""Validate a backup's copies, and validate the live database."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from django.utils import timezone

from backups_app import config
from backups_app.errors import BadBackup, QradminError, Refused, UnhealthyDatabase
from backups_app.models import Backup, BackupCopy
from backups_app.operations import copies, exposure, lineage, sidecars
from backups_app.operations.journal import Journal, patiently
from backups_app.operations.movement import bytes_moved
from backups_app.sentences import say
from backups_app.systems.postgres import archive, clients
from backups_app.systems.postgres.connections import Server
from backups_app.systems.postgres.health import Check, check_database
from backups_app.systems.postgres.manifest import Manifest


def validate_backup(journal: Journal) -> None:
    """The operation: hash of every copy, the whole archive of an intact one, and its manifest."""
    backup = present_backup(journal)
    journal.consequence = say("The backup's files were only read.")
    with journal.stage(say("Compare every copy with its record")):
        copies_found = _check_copies(journal, backup)
    try:
        copies.from_intact_copy(journal, backup, lambda path: _read_whole(journal, backup, path))
        with journal.stage(say("Look at the manifest")):
            _look_at_manifest(journal, backup)
    except BadBackup as error:
        copies.record_damage(backup, error)
        sidecars.write_all(journal, backup)
        raise
    was_damaged = bool(backup.damage)
    backup.mark_validated()
    if was_damaged:
        sidecars.write_all(journal, backup)
    journal.result |= {"backup": backup.name, "copies": copies_found}


def _read_whole(journal: Journal, backup: Backup, path: Path) -> None:
    with journal.stage(say("Read the whole archive")):
        reader = clients.newest_restore(config.client_folders())
        archive.read_whole(reader, path, watch=journal.watch, on_bytes=bytes_moved(journal, backup.size))


def validate_database(journal: Journal) -> None:
    """The operation: every check of the live database; UnhealthyDatabase when one fails."""
    journal.consequence = say("The database was only read.")
    # asked now: while the checks go on, the site's own database may be away
    last = patiently(lambda: lineage.last_of_live(timezone.now()))
    with journal.stage(say("Check the live database")):
        checks = checks_of(journal, config.managed_database())
    if last is not None and not failed(checks):
        exposure.measure(journal, last)
    insist_on_healthy(checks)


def checks_of(journal: Journal, server: Server) -> list[Check]:
    """Every check of a database, told in the trail and the result."""
    checks = check_database(server, config.expectations(), watch=journal.watch)
    tell_checks(journal, checks)
    journal.result |= {"checks": [asdict(check) for check in checks], "valid": not failed(checks)}
    return checks


def failed(checks: list[Check]) -> list[Check]:
    return [check for check in checks if check.outcome == "failed"]


def tell_checks(journal: Journal, checks: list[Check]) -> None:
    """Each check as a line of the trail."""
    levels = {"failed": "error", "warning": "warning"}
    for check in checks:
        text = f"{check.title}: {check.message}" + (f" {check.remedy}" if check.remedy else "")
        journal.note(text, level=levels.get(check.outcome, "info"), check=check.name, outcome=check.outcome)


def insist_on_healthy(checks: list[Check]) -> None:
    """UnhealthyDatabase with the failed checks' messages and remedies."""
    bad = failed(checks)
    if bad:
        told = " ".join(f"{check.title}: {check.message} {check.remedy}".strip() for check in bad)
        raise UnhealthyDatabase(say("The database is not valid. {told}", told=told))


def present_backup(journal: Journal) -> Backup:
    """The backup of the operation; Refused when its files were removed meanwhile."""
    backup = journal.operation.backup
    if backup is None:
        raise Refused(say("This operation names no backup."))
    backup.refresh_from_db()
    if not backup.is_present:
        raise Refused(say("The backup {name} has been removed.", name=backup.name))
    return backup


def _check_copies(journal: Journal, backup: Backup) -> dict[str, str]:
    found: dict[str, str] = {}
    for copy in backup.copies.exclude(state__in=[BackupCopy.State.REMOVED, BackupCopy.State.PENDING]):
        location = config.location(copy.location)
        if location is None:
            journal.warn(
                say(
                    "The location {location} is no longer configured: its copy was not looked at.",
                    location=copy.location,
                )
            )
            continue
        unreachable: list[QradminError] = []
        copies.is_intact(journal, copy, location, unreachable)
        found[copy.location] = "unreachable" if unreachable else copy.state
    return found


def _look_at_manifest(journal: Journal, backup: Backup) -> None:
    if backup.manifest is None:
        journal.warn(
            say(
                "{name} has no manifest: its whole archive can be read, but whether its rows are complete"
                " is not known before a test restore. Prove it.",
                name=backup.name,
            )
        )
    elif not Manifest.from_json(backup.manifest).tables:
        raise BadBackup(say("The manifest of {name} names no table.", name=backup.name))
