"""What is wrong with a file or its description, whatever kind of location it lies in."""

from __future__ import annotations

from backups_app.errors import StorageProblem
from backups_app.sentences import say
from backups_app.systems.vault.location import NoDescription, Stored
from backups_app.systems.vault.names import SIDECAR_SUFFIX

MAX_SIDECAR_BYTES = 4 * 1024 * 1024


def unequal_copy(subject: str, name: str, expected: Stored, found: Stored) -> StorageProblem:
    """The error for a copy that reads back differently."""
    return StorageProblem(
        say(
            "{subject} does not give back what was written for {name}: the copy was removed; check the disk.",
            subject=subject,
            name=name,
        ),
        detail=f"written: {expected.size} bytes, {expected.sha256}; "
        f"read back: {found.size} bytes, {found.sha256}",
    )


def decoded_sidecar(data: bytes, name: str) -> str:
    """The text of a sidecar; NoDescription when it is not text, or far too large."""
    if len(data) > MAX_SIDECAR_BYTES:
        raise NoDescription(
            say(
                "The file {name} is too large to be a backup's description.",
                name=name + SIDECAR_SUFFIX,
            )
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise NoDescription(
            say("The file {name} is not text.", name=name + SIDECAR_SUFFIX),
            detail=str(error),
        ) from error
