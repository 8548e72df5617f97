"""Back up the site's own database, which keeps the audit trail, into the same locations."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from backups_app import config
from backups_app.errors import TROUBLE_WITH_A_COPY, BadBackup, EnvironmentProblem, ProgramFailed
from backups_app.models import Operation
from backups_app.operations import stages
from backups_app.operations.journal import Journal
from backups_app.operations.movement import bytes_moved, followed
from backups_app.sentences import say
from backups_app.systems import processes, site_file, vault
from backups_app.systems.postgres import archive, clients, commands, databases
from backups_app.systems.postgres.connections import Server, program_problem

SIDECAR_FORMAT = 1


@dataclass(frozen=True)
class Made:
    """A backup of the site's database, as it was read back."""

    name: str
    stored: vault.Stored
    taken_at: datetime

    @property
    def sidecar(self) -> str:
        facts = {
            "format": SIDECAR_FORMAT,
            "what": "the site's own database: see docs/site-recovery.md",
            "name": self.name,
            "taken_at": self.taken_at.isoformat(),
            "size": self.stored.size,
            "sha256": self.stored.sha256,
            **config.site_identity(),
        }
        return json.dumps(facts, indent=1)


def backup_site(journal: Journal) -> None:
    """
    1. Copy the site's database into a temporary file: SQLite by its online backup, PostgreSQL by pg_dump.
    2. Read all of the copy, and give it its name.
    3. Copy it to every other location; one that is down is a warning.
    4. Remove the oldest where more lie than are kept.

    These files have names of their own: no import and no clean-up of backups ever sees them. What another
    site keeps in the same place is left alone.
    """
    working, *others = config.locations(vault.SITE_NAMES)
    with journal.stage(say("Check the working location")):
        working.check()
    made, path = _make(journal, working)
    journal.consequence = say("The backup {name} was made and is kept.", name=made.name)
    journal.result |= {"file": made.name, "size": made.stored.size, "sha256": made.stored.sha256}
    journal.result["site"] = config.site_identity()
    stored, warnings = [working], []
    for location in others:
        try:
            store_copy(journal, made, path, location)
            stored.append(location)
        except TROUBLE_WITH_A_COPY as problem:
            warnings.append(
                say("No copy in {location}: {problem}", location=location.alias, problem=problem.message)
            )
            journal.warn(warnings[-1])
    removed = [name for location in stored for name in _remove_oldest(journal, location, made.name)]
    journal.result |= {
        "locations": [location.alias for location in stored],
        "removed": removed,
        "warnings": warnings,
    }


def _make(journal: Journal, working: vault.Location) -> tuple[Made, Path]:
    source = config.site_database()
    taken_at, name = _free_name(working, "dump" if isinstance(source, Server) else "sqlite3")
    with vault.working_file(working, name) as file:
        with journal.stage(say("Copy the site's own database")):
            if isinstance(source, Server):
                _dump(journal, source, file.path)
            else:
                site_file.copy(source, file.path)
        with journal.stage(say("Read all of the copy")):
            _insist_on_whole(journal, source, file.path)
            digest = vault.sha256_of(file.path, watch=journal.watch, on_bytes=bytes_moved(journal))
        stored = vault.Stored(file.path.stat().st_size, digest)
        made, path = Made(name, stored, taken_at), file.commit()
    working.write_text(name, made.sidecar)
    return made, path


def store_copy(journal: Journal, made: Made, path: Path, location: vault.Location) -> None:
    """One more copy, read back; EnvironmentProblem when it differs, or a file of that name is there."""
    with journal.stage(stages.copy_to(location.alias)):
        moved = bytes_moved(journal, 2 * made.stored.size)
        found = location.store(path, made.name, watch=journal.watch, on_bytes=moved)
        if found != made.stored:
            location.remove(made.name)
            raise EnvironmentProblem(
                say("The copy in {location} differs: it was removed.", location=location.alias)
            )
        location.write_text(made.name, made.sidecar)


def _remove_oldest(journal: Journal, location: vault.Location, new: str) -> Iterator[str]:
    """The oldest beyond those that are kept, in a location that holds the ``new`` one.

    That stays even when the clock was set back and the others' names look newer.
    """
    try:
        names = sorted({file.name for file in location.names()} - {new}, key=_moment_of)
        others = [name for name in names if _is_ours(location, name)]
        if len(others) < len(names):
            journal.note(
                say(
                    "{location} holds backups of another site's own database, too: they are left alone.",
                    location=location.alias,
                )
            )
        for name in others[: max(0, len(others) + 1 - config.site_backup_keep())]:
            location.remove(name)
            journal.note(
                say(
                    "Removed {name} from {location}: newer ones are kept.", name=name, location=location.alias
                )
            )
            yield f"{name} in {location.alias}"
    except EnvironmentProblem as problem:
        journal.warn(
            say(
                "Old backups of this site stay in {location}: {problem}",
                location=location.alias,
                problem=problem.message,
            )
        )


def _is_ours(location: vault.Location, name: str) -> bool:
    """Whether the description beside a file names this site, or none, as those of earlier releases."""
    try:
        told = json.loads(location.read_text(name) or "{}")
    except vault.ConnectionBroken:
        raise
    except (EnvironmentProblem, ValueError, RecursionError):
        return False
    ours = config.site_identity()
    return isinstance(told, dict) and all(told.get(key, value) == value for key, value in ours.items())


def _moment_of(name: str) -> str:
    """The time in a name, which sorts as text."""
    return name.removeprefix("qradmin_site_")


def _free_name(working: vault.Location, suffix: str) -> tuple[datetime, str]:
    while True:
        now = datetime.now(UTC)
        name = vault.make_site_name(now, suffix)
        if not working.exists(name):
            return now, name
        time.sleep(0.1)


def _dump(journal: Journal, server: Server, file: Path) -> None:
    dumper = clients.for_dump(databases.facts(server).major, config.client_folders())
    command = commands.dump(
        server,
        dumper,
        file=file,
        snapshot=None,
        compression=clients.best_compression(dumper),
        application_name=journal.operation.application_name,
    )
    with followed(journal, server) as watch:
        finished = processes.run(command, watch=watch)
    if finished.returncode != 0:
        raise program_problem(finished.stderr, server) or ProgramFailed(
            say("pg_dump of the site's own database failed."), detail=finished.stderr
        )


def _insist_on_whole(journal: Journal, source: Server | Path, file: Path) -> None:
    table = Operation._meta.db_table  # noqa: SLF001 - Django's documented way to a model's table
    if isinstance(source, Path):
        site_file.insist_on_whole(file, table=table)
        return
    reader = clients.newest_restore(config.client_folders())
    archive.read_whole(reader, file, watch=journal.watch, on_bytes=bytes_moved(journal))
    if f"public.{table}" not in archive.inspect(reader, file, watch=journal.watch).tables:
        raise BadBackup(say("The copy of the site's own database does not hold the audit trail."))
