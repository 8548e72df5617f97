"""Files that were handed in and are not yet judged, under names of our own making."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Collection
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import BinaryIO

from backups_app.errors import Refused, StorageProblem
from backups_app.sentences import say
from backups_app.systems.vault import streams

_UPLOAD_PATTERN = re.compile(r"\.qradmin-upload-[0-9a-f]{32}")


def new_upload(folder: Path) -> tuple[Path, BinaryIO]:
    """A new file of mode 0600 in the folder for uploads, and where it lies."""
    path = folder / f".qradmin-upload-{secrets.token_hex(16)}"
    with _errors(folder):
        return path, streams.create(path)


def find_upload(folder: Path, name: str) -> Path:
    """The file of that name; Refused for any other name, StorageProblem when it is gone."""
    if not _UPLOAD_PATTERN.fullmatch(name):
        raise Refused(say("This is not the name of an uploaded file."))
    path = folder / name
    if not path.is_file() or path.is_symlink():
        raise StorageProblem(say("The uploaded file is gone: upload it again."))
    return path


def sweep_uploads(folder: Path, older_than_seconds: float, *, keep: Collection[str]) -> list[str]:
    """Remove uploads that nobody has written to for so long, but not those in ``keep``."""
    before = time.time() - older_than_seconds
    gone = []
    with _errors(folder):
        for path in folder.iterdir():
            if _UPLOAD_PATTERN.fullmatch(path.name) and path.name not in keep:
                with suppress(FileNotFoundError):
                    if path.lstat().st_mtime <= before:
                        path.unlink()
                        gone.append(path.name)
    return gone


def _errors(folder: Path) -> AbstractContextManager[None]:
    return streams.os_errors(say("The folder for uploads {path}", path=folder))
