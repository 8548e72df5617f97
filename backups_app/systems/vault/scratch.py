"""Folders that hold one file for the time of its use, under names of our own making."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import time
from pathlib import Path

from backups_app.sentences import say
from backups_app.systems.vault import streams

_NAME = re.compile(r"qradmin-scratch-[0-9a-f]{16}")


def scratch_path(parent: Path | None) -> Path:
    """A path for a new folder in ``parent``, or in the system's temporary folder; it is not made yet."""
    return (parent or Path(tempfile.gettempdir())) / f"qradmin-scratch-{secrets.token_hex(8)}"


def make_scratch(path: Path) -> None:
    """Make the folder, for this user alone. StorageProblem or NoSpace when it cannot be made."""
    with streams.os_errors(say("The folder {path}", path=path.parent)):
        path.mkdir(mode=0o700)


def remove_scratch(path: Path) -> bool:
    """Remove the folder and what it holds, and say so; whatever is not such a folder stays."""
    if not _is_scratch(path):
        return False
    with streams.os_errors(say("The folder {path}", path=path)):
        shutil.rmtree(path)
    return True


def sweep_scratch(parent: Path | None, older_than_seconds: float) -> list[str]:
    """Remove those of this user that nobody has written to for so long; the names of what went."""
    before = time.time() - older_than_seconds
    place = parent or Path(tempfile.gettempdir())
    with streams.os_errors(say("The folder {path}", path=place)):
        old = [path for path in place.iterdir() if _is_scratch(path) and _last_written(path) <= before]
        for path in old:
            remove_scratch(path)
    return sorted(path.name for path in old)


def _is_scratch(path: Path) -> bool:
    if not _NAME.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
        return False
    return path.stat().st_uid == os.geteuid()


def _last_written(folder: Path) -> float:
    return max(path.lstat().st_mtime for path in (folder, *folder.iterdir()))
