"""The newest backup of the site's own database, read in every location and brought where it is lacking."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from backups_app import config
from backups_app.errors import TROUBLE_WITH_A_COPY, EnvironmentProblem
from backups_app.models import Operation
from backups_app.operations import copies, site_backup
from backups_app.operations.journal import Journal
from backups_app.operations.movement import bytes_moved
from backups_app.operations.places import Places
from backups_app.operations.site_backup import Made
from backups_app.sentences import say
from backups_app.systems import vault


@dataclass
class _Seen:
    """Where it is intact, and where it is lacking, each with whether a damaged one of ours lies there."""

    journal: Journal
    intact: list[vault.Location] = field(default_factory=list)
    lacking: list[tuple[vault.Location, bool]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def warn(self, told: str) -> None:
        self.warnings.append(told)
        self.journal.warn(told)


def check_site_copies(journal: Journal, places: Places) -> None:
    """Part of the check of the copies: every location that answers is to hold it, equal to its record.

    1. Read it where it lies, a second time before it is called damaged.
    2. Bring it from an intact copy where it is missing, and replace it where it is damaged and the
       description beside it says that it is ours.

    Trouble is a warning, and stands in the result as ``site_warnings``.
    """
    newest = _newest()
    if newest is None:
        return
    made, stored_in = newest
    with journal.stage(say("Check the copies of {backup}", backup=made.name)):
        warnings = _check(journal, made, stored_in, places)
    journal.result |= {"site_backup": made.name, "site_warnings": warnings}


def _newest() -> tuple[Made, list[str]] | None:
    """The last one by its record, and the locations that it was stored in."""
    done = Operation.objects.filter(kind=Operation.Kind.BACKUP_SITE, state=Operation.State.SUCCEEDED)
    last = done.order_by("-pk").first()
    told = last.result if last else {}
    name = str(told.get("file", ""))
    if not vault.SITE_NAMES.fits(name) or not told.get("sha256"):
        return None
    stored = vault.Stored(told["size"], told["sha256"])
    return Made(name, stored, vault.moment_in(name)), list(told.get("locations", []))


def _check(journal: Journal, made: Made, stored_in: list[str], places: Places) -> list[str]:
    seen = _Seen(journal)
    for location in config.locations(vault.SITE_NAMES):
        if location.alias not in places.down:
            _look_at(made, location, seen, places)
        elif location.alias not in stored_in:
            seen.warn(_no_copy(location, places.down[location.alias]))
    newest = _newest()
    if newest is None or newest[0].name != made.name:  # a newer one was made meanwhile, and this one may go
        return []
    if seen.lacking and not seen.intact:
        seen.warn(
            say(
                "No location that answers holds an intact copy of {backup}: back up this site again.",
                backup=made.name,
            )
        )
    elif seen.lacking:
        _repair(made, seen)
    return seen.warnings


def _look_at(made: Made, location: vault.Location, seen: _Seen, places: Places) -> None:
    """Read it where it lies; somebody else's file of that name is left alone."""
    try:
        if _is_intact(seen.journal, made, location):
            seen.intact.append(location)
        elif _told_hash(location, made.name) == made.stored.sha256:
            seen.lacking.append((location, True))
        else:
            seen.warn(
                say(
                    "{location} holds another file named {backup}: it was left as it is.",
                    location=location.alias,
                    backup=made.name,
                )
            )
    except vault.MissingCopy:
        seen.lacking.append((location, False))
    except TROUBLE_WITH_A_COPY as problem:
        seen.warn(
            say(
                "The copy in {location} cannot be read now: {problem}",
                location=location.alias,
                problem=problem.message,
            )
        )
        places.ask_again(location.alias)


def _is_intact(journal: Journal, made: Made, location: vault.Location) -> bool:
    """Whether it equals its record, with a description beside it; MissingCopy where there is none."""
    if _read(journal, made, location) != made.stored:
        journal.warn(
            say(
                "The copy in {location} differs from its record: it is read once more.",
                location=location.alias,
            )
        )
        if _read(journal, made, location) != made.stored:
            return False
    if _told_hash(location, made.name) != made.stored.sha256:
        location.write_text(made.name, made.sidecar)
        journal.note(
            say("The description beside the copy in {location} was written anew.", location=location.alias)
        )
    return True


def _read(journal: Journal, made: Made, location: vault.Location) -> vault.Stored:
    return location.digest(made.name, watch=journal.watch, on_bytes=bytes_moved(journal))


def _repair(made: Made, seen: _Seen) -> None:
    """Bring what is lacking from a copy that was read just now; what cannot be done is a warning."""
    try:
        with copies.at_hand(seen.journal, seen.intact[0], made.name) as path:
            for location, is_there in seen.lacking:
                try:
                    _bring(seen.journal, made, path, location, is_there=is_there)
                except TROUBLE_WITH_A_COPY as problem:
                    seen.warn(_no_copy(location, problem.message))
    except TROUBLE_WITH_A_COPY as problem:
        for location, _ in seen.lacking:
            seen.warn(_no_copy(location, problem.message))


def _bring(journal: Journal, made: Made, path: Path, location: vault.Location, *, is_there: bool) -> None:
    digest = vault.sha256_of(path, watch=journal.watch, on_bytes=bytes_moved(journal))
    if digest != made.stored.sha256:
        raise EnvironmentProblem(say("The intact copy has changed since it was read."))
    if is_there:
        with journal.stage(say("Replace the damaged copy in {location}", location=location.alias)):
            location.replace(path, made.name, watch=journal.watch, on_bytes=bytes_moved(journal))
            location.write_text(made.name, made.sidecar)
    else:
        site_backup.store_copy(journal, made, path, location)
    journal.note(
        say("{location} holds an intact copy of {backup} again.", location=location.alias, backup=made.name)
    )


def _told_hash(location: vault.Location, name: str) -> str:
    """What the description beside a file says of it; empty where there is none."""
    try:
        told = json.loads(location.read_text(name) or "{}")
    except (vault.NoDescription, ValueError, RecursionError):
        return ""
    return str(told.get("sha256", "")) if isinstance(told, dict) else ""


def _no_copy(location: vault.Location, problem: str) -> str:
    return say("No copy in {location}: {problem}", location=location.alias, problem=problem)
