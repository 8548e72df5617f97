"""The description beside each copy: it explains a backup's file when the audit trail is lost."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.utils import timezone

from backups_app.errors import BadBackup, EnvironmentProblem
from backups_app.models import Backup
from backups_app.models.backup import CLOCKS_DIFFER
from backups_app.operations.journal import Journal
from backups_app.operations.places import PAGE_SECONDS, holding
from backups_app.sentences import say
from backups_app.systems import vault
from backups_app.systems.postgres.manifest import Manifest
from backups_app.systems.waiting import answer, no_watch

SIDECAR_FORMAT = 1
MOST_ROWS = 2**63 - 1
MOST_WARNINGS = 100
LONGEST_PIN_REASON = 200
# Texts that are taken over from a description, each with the length that its record has room for.
_TEXTS = {
    "created_by": 150,
    "compression": 20,
    "database": 63,
    "server_version": 40,
    "client_version": 40,
    "revision": 64,
}
_PROOF = {
    "seconds": (int, float),
    "tables": (int,),
    "rows": (int,),
    "at": (str,),
    "server": (str,),
    "is_measure": (bool,),
}

log = logging.getLogger(__name__)


def text_of(backup: Backup) -> str:
    """What the description of ``backup`` says.

    Damage stands there when it is the backup's own, and not only that no intact copy is left just now.
    """
    facts: dict[str, Any] = {
        "format": SIDECAR_FORMAT,
        "name": backup.name,
        "origin": backup.origin,
        "created_at": backup.created_at.isoformat(),
        "created_by": backup.created_by,
        "size": backup.size,
        "sha256": backup.sha256,
        "compression": backup.compression,
        "database": backup.database,
        "server_version": backup.server_version,
        "client_version": backup.client_version,
        "revision": backup.revision,
        "is_api_stopped": backup.is_api_stopped,
        "is_pinned": backup.is_pinned,
        "pin_reason": backup.pin_reason,
        "manifest": backup.manifest,
        "proven_at": backup.proven_at and backup.proven_at.isoformat(),
        "proof": backup.proof,
        "warnings": backup.warnings,
        "damage": backup.damage if backup.validated_at is None else "",
    }
    return json.dumps(facts, indent=1, ensure_ascii=False, sort_keys=True)


def told_by(location: vault.Location, name: str) -> dict[str, Any] | None:
    """What the description beside a file says; None where there is none or it is no such description.

    EnvironmentProblem when the location cannot be read.
    """
    text = location.read_text(name)
    try:
        return None if text is None else _parsed(text)
    except (ValueError, RecursionError):
        return None


def facts_beside(location: vault.Location, name: str, found: vault.Stored) -> dict[str, Any] | None:
    """The fields of a backup's record that the description beside this very file tells; None where none is.

    BadBackup, in a sentence, when it belongs to another file or cannot be understood; EnvironmentProblem
    when the location cannot be read.
    """
    try:
        text = location.read_text(name)
        if text is None:
            return None
        told = _parsed(text)
        if (told.get("name"), told.get("size"), told.get("sha256")) != (name, found.size, found.sha256):
            raise BadBackup(say("The description beside {name} belongs to another file.", name=name))
        return _facts_of(told)
    except vault.NoDescription as problem:
        raise BadBackup(problem.message, detail=problem.detail) from problem
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadBackup(
            say("The description beside {name} cannot be understood.", name=name),
            detail=f"{type(error).__name__}: {error}",
        ) from error


@dataclass(frozen=True)
class Since:
    """What a description tells that its backup's record may have forgotten: a pin, and damage."""

    pin_reason: str | None = None
    damage: str = ""


def told_since(location: vault.Location, backup: Backup) -> Since:
    """From the description beside a backup's file; nothing where that is missing or another file's."""
    with suppress(EnvironmentProblem, TypeError, ValueError):
        told = told_by(location, backup.name)
        if told is not None and told.get("sha256") == backup.sha256:
            reason = _text(told, "pin_reason", LONGEST_PIN_REASON)
            return Since(reason if _flag(told, "is_pinned") else None, _text(told, "damage"))
    return Since()


# --- what a description may say: it comes from outside, so nothing of it is taken for granted ---------------


def _parsed(text: str) -> dict[str, Any]:
    """ValueError or RecursionError when it is no description of ours."""
    told = json.loads(text)
    # Half characters, NUL and infinite numbers are no text of ours, and no record could hold them.
    if "\\u0000" in json.dumps(told, ensure_ascii=False, allow_nan=False).encode().decode():
        raise ValueError("a NUL")
    if not isinstance(told, dict) or told.get("format") != SIDECAR_FORMAT:
        raise ValueError("another format")
    return told


def _facts_of(told: dict[str, Any]) -> dict[str, Any]:
    if told["origin"] not in Backup.Origin.values:
        raise ValueError("origin")
    manifest = None if told["manifest"] is None else _manifest(told["manifest"])
    facts = {
        **{key: _text(told, key, length) for key, length in _TEXTS.items()},
        "origin": told["origin"],
        "created_at": _moment(told["created_at"]),
        "is_api_stopped": _flag(told, "is_api_stopped"),
        "is_pinned": _flag(told, "is_pinned"),
        "pin_reason": _text(told, "pin_reason", LONGEST_PIN_REASON),
        "manifest": manifest and manifest.to_json(),
        "rows": manifest and manifest.rows,
        "warnings": _warnings(told),
        "damage": _text(told, "damage"),
    }
    return facts | _proven(told)


def _text(told: dict[str, Any], key: str, most: int = 2000) -> str:
    value = told.get(key) or ""
    if not isinstance(value, str):
        raise TypeError(key)
    return value[:most]


def _flag(told: dict[str, Any], key: str) -> bool:
    value = told.get(key, False)
    if not isinstance(value, bool):
        raise TypeError(key)
    return value


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MOST_ROWS:
        raise ValueError("no number of rows")
    return value


def _moment(text: object) -> datetime:
    if not isinstance(text, str):
        raise TypeError("a time that is no text")
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    if moment.year not in vault.YEARS:
        raise ValueError("a time that no backup is of")
    return moment.astimezone(UTC)


def _manifest(told: object) -> Manifest:
    """Only what `Manifest.to_json` writes."""
    if not isinstance(told, dict) or not isinstance(told["tables"], dict):
        raise TypeError("manifest")
    _moment(told["taken_at"])
    if not isinstance(told["revision"], str | None):
        raise TypeError("revision")
    for state in (*told["tables"].values(), told["large_objects"] or {"rows": 0, "checksum": ""}):
        _count(state["rows"])
        if not isinstance(state["checksum"], str):
            raise TypeError("checksum")
    try:
        manifest = Manifest.from_json(told)
    except BadBackup as error:
        raise ValueError(error.detail) from error
    _count(manifest.rows)
    return manifest


def _warnings(told: dict[str, Any]) -> list[str]:
    warnings = told.get("warnings") or []
    if not isinstance(warnings, list) or not all(isinstance(one, str) for one in warnings):
        raise TypeError("warnings")
    return [one[:2000] for one in warnings[:MOST_WARNINGS]]


def _proven(told: dict[str, Any]) -> dict[str, Any]:
    """A proof of a time that lies ahead is none: nobody could say how old it is."""
    proof = told.get("proof") or {}
    if not isinstance(proof, dict):
        raise TypeError("proof")
    proof = {key: value for key, value in proof.items() if key in _PROOF}
    for key, value in proof.items():
        if type(value) not in _PROOF[key]:  # True is an instance of int, too
            raise TypeError(key)
        if not isinstance(value, str) and not 0 <= value <= MOST_ROWS:
            raise ValueError(key)
    proven_at = _moment(told["proven_at"]) if told.get("proven_at") else None
    is_ahead = proven_at is not None and proven_at > timezone.now() + CLOCKS_DIFFER
    return {"proven_at": None, "proof": {}} if is_ahead else {"proven_at": proven_at, "proof": proof}


# --- writing it -------------------------------------------------------------------------------------------


def write(journal: Journal, backup: Backup, location: vault.Location) -> list[str]:
    """Write it anew; a warning where that cannot be done."""
    try:
        location.write_text(backup.name, text_of(backup))
    except EnvironmentProblem as problem:
        warning = say(
            "The description beside the copy in {location} could not be written: {problem}",
            location=location.alias,
            problem=problem.message,
        )
        journal.warn(warning)
        return [warning]
    return []


def renew(journal: Journal, backup: Backup, location: vault.Location) -> None:
    """Write the description again where it is missing or does not fit its file."""
    try:
        is_fitting = told_by(location, backup.name) == json.loads(text_of(backup))
    except EnvironmentProblem:
        is_fitting = False
    if not is_fitting and not write(journal, backup, location):
        journal.note(
            say("The description beside the copy in {location} was written anew.", location=location.alias)
        )


def write_all(journal: Journal, backup: Backup) -> None:
    """Write what is known now beside each stored copy."""
    for location in holding(backup):
        with suppress(EnvironmentProblem):
            write(journal, backup, location)


def write_promptly(backup: Backup) -> bool:
    """The same from a page, which waits for each location a few seconds only; whether all was written.

    What is not written now is, at the next check of the copies.
    """
    text, is_written = text_of(backup), True
    for location in holding(backup):
        try:
            answer(partial(location.write_text, backup.name, text), no_watch, limit_seconds=PAGE_SECONDS)
        except (EnvironmentProblem, TimeoutError) as problem:
            log.warning("The description of %s in %s: %s", backup.name, location.alias, problem)
            is_written = False
    return is_written
