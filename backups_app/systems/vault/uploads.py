"""Files that were handed in and are not yet judged: beside the backups, under names of our own making."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from backups_app.errors import NotConfigured, Refused, StorageProblem
from backups_app.systems.vault import streams
from backups_app.systems.vault.local import LocalLocation
from backups_app.systems.vault.location import Location

_UPLOAD_PATTERN = re.compile(r"\.qradmin-upload-[0-9a-f]{32}")


def new_upload(location: Location) -> tuple[Path, BinaryIO]:
    """A new file of mode 0600 in the working location, and where it lies."""
    folder = _folder(location)
    path = folder / f".qradmin-upload-{secrets.token_hex(16)}"
    with streams.os_errors(f"The storage location {location.describe()}"):
        return path, streams.create(path)


def find_upload(location: Location, name: str) -> Path:
    """The file of that name; Refused for any other name, StorageProblem when it is gone."""
    if not _UPLOAD_PATTERN.fullmatch(name):
        raise Refused("This is not the name of an uploaded file.")
    path = _folder(location) / name
    if not path.is_file() or path.is_symlink():
        raise StorageProblem("The uploaded file is gone: upload it again.")
    return path


def sweep_uploads(location: Location, older_than_seconds: float, *, keep: Collection[str]) -> list[str]:
    """Remove uploads that nobody has written to for so long, but not those in ``keep``."""
    if not isinstance(location, LocalLocation):
        return []
    before = time.time() - older_than_seconds
    gone = []
    with streams.os_errors(f"The storage location {location.describe()}"):
        for path in location.folder.iterdir():
            if _UPLOAD_PATTERN.fullmatch(path.name) and path.name not in keep:
                with suppress(FileNotFoundError):
                    if path.lstat().st_mtime <= before:
                        path.unlink()
                        gone.append(path.name)
    return gone


def _folder(location: Location) -> Path:
    if not isinstance(location, LocalLocation):
        raise NotConfigured(
            f"The first storage location, {location.describe()}, is not a folder of this machine: "
            "list a folder first."
        )
    return location.folder
