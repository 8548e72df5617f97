"""The description beside each copy: it explains a backup's file when the audit trail is lost."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from backups_app import config
from backups_app.errors import BadBackup, EnvironmentProblem
from backups_app.models import Backup
from backups_app.operations.journal import Journal
from backups_app.systems import vault
from backups_app.systems.postgres.manifest import Manifest

SIDECAR_FORMAT = 1
MOST_ROWS = 2**63 - 1
# Texts that are taken over from a description, each with the length that its record has room for.
_TEXTS = {
    "created_by": 150,
    "compression": 20,
    "database": 63,
    "server_version": 40,
    "client_version": 40,
    "revision": 64,
}


def text_of(backup: Backup) -> str:
    """What the description of ``backup`` says."""
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
        "manifest": backup.manifest,
        "proven_at": backup.proven_at and backup.proven_at.isoformat(),
        "proof": backup.proof,
    }
    return json.dumps(facts, indent=1, ensure_ascii=False, sort_keys=True)


def told_by(location: vault.Location, name: str) -> dict[str, Any] | None:
    """What the description beside a file says; None where there is none or it is no such description.

    EnvironmentProblem when the location cannot be read.
    """
    text = location.read_text(name)
    if text is None:
        return None
    try:
        told = json.loads(text)
        # Half characters, NUL and infinite numbers are no text of ours, and no record could hold them.
        if "\\u0000" in json.dumps(told, ensure_ascii=False, allow_nan=False).encode().decode():
            return None
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) and told.get("format") == SIDECAR_FORMAT else None


def facts_of(told: dict[str, Any], name: str, found: vault.Stored) -> dict[str, Any]:
    """The fields of a backup's record that a description tells of this very file.

    BadBackup, in a sentence, when the description belongs to another file or cannot be understood.
    """
    if (told.get("name"), told.get("size"), told.get("sha256")) != (name, found.size, found.sha256):
        raise BadBackup(f"The description beside {name} belongs to another file.")
    try:
        manifest = told["manifest"]
        rows = None if manifest is None else Manifest.from_json(manifest).rows
        if told["origin"] not in Backup.Origin.values or not 0 <= (rows or 0) <= MOST_ROWS:
            raise ValueError("origin or rows")
        return {
            **{key: str(told.get(key) or "")[:length] for key, length in _TEXTS.items()},
            "origin": told["origin"],
            "created_at": _moment(told["created_at"]),
            "is_api_stopped": told.get("is_api_stopped") is True,
            "manifest": manifest,
            "rows": rows,
            "proven_at": _moment(told["proven_at"]) if told.get("proven_at") else None,
            "proof": dict(told.get("proof") or {}),
        }
    except (KeyError, TypeError, ValueError, OverflowError, BadBackup) as error:
        raise BadBackup(
            f"The description beside {name} cannot be understood.", detail=f"{type(error).__name__}: {error}"
        ) from error


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment.astimezone(UTC)


def write(journal: Journal, backup: Backup, location: vault.Location) -> list[str]:
    """Write it anew; a warning where that cannot be done."""
    try:
        location.write_text(backup.name, text_of(backup))
    except EnvironmentProblem as problem:
        warning = (
            f"The description beside the copy in {location.alias} could not be written: {problem.message}"
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
        journal.note(f"The description beside the copy in {location.alias} was written anew.")


def write_all(journal: Journal, backup: Backup) -> None:
    """Write what is known now beside each stored copy."""
    aliases = set(backup.copies.intact().values_list("location", flat=True))
    for location in config.locations():
        if location.alias in aliases:
            with suppress(EnvironmentProblem):
                write(journal, backup, location)
