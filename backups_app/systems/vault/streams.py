"""Files moved in chunks with their SHA-256: flat memory, watched, errors as sentences."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from backups_app.errors import NoSpace, StorageProblem
from backups_app.sentences import say
from backups_app.systems.vault.location import ConnectionBroken, Stored
from backups_app.systems.waiting import OnBytes, Watch, no_bytes, no_watch

CHUNK = 1024 * 1024

_FULL = {errno.ENOSPC, errno.EDQUOT}
_BROKEN = {
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ENOTCONN,
    errno.EPIPE,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENETRESET,
}
_REASONS = {
    errno.EACCES: say("permission denied: give the service's user access to it"),
    errno.EPERM: say("permission denied: give the service's user access to it"),
    errno.EROFS: say("it is read-only: mount it writable"),
    errno.EFBIG: say("files of this size are not allowed there"),
    errno.ENOTDIR: say("it is not a folder"),
    errno.ENOENT: say("it does not exist"),
    errno.ELOOP: say("it is a symbolic link, which is never followed"),
    errno.EIO: say("the disk reports an input/output error"),
    errno.ESTALE: say("the network mount is stale: mount it again"),
    errno.ENAMETOOLONG: say("the name is too long"),
}


def sha256_of(path: Path, *, watch: Watch = no_watch, on_bytes: OnBytes = no_bytes) -> str:
    """The SHA-256 of a local file in lower-case hex; StorageProblem when it cannot be read."""
    with os_errors(say("The file {path}", path=path)), open_to_read(path) as source:
        return move(source, None, watch=watch, on_bytes=on_bytes).sha256


def move(source: BinaryIO, target: BinaryIO | None, *, watch: Watch, on_bytes: OnBytes) -> Stored:
    """Read ``source`` to its end, write it to ``target`` if there is one, and sum it up."""
    digest = hashlib.sha256()
    size = 0
    while True:
        watch()
        chunk = source.read(CHUNK)
        if not chunk:
            return Stored(size=size, sha256=digest.hexdigest())
        digest.update(chunk)
        if target is not None:
            target.write(chunk)
        size += len(chunk)
        on_bytes(len(chunk))


def copy_to_new_file(reader: BinaryIO, target: Path, *, watch: Watch, on_bytes: OnBytes) -> Stored:
    """Write all of ``reader`` to a new file of mode 0600 and flush it; the file is gone when that fails."""
    writer = create(target)
    try:
        with writer:
            moved = move(reader, writer, watch=watch, on_bytes=on_bytes)
            flush_to_disk(writer)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return moved


def open_to_read(path: Path) -> BinaryIO:
    """Open a regular file without following a symbolic link in its place."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb", buffering=0)


def create(path: Path) -> BinaryIO:
    """Open a new file of mode 0600; FileExistsError when there is one already."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def flush_to_disk(file: BinaryIO) -> None:
    """Return when the bytes lie on the disk."""
    file.flush()
    os.fsync(file.fileno())


def flush_path_to_disk(path: Path) -> None:
    """Return when a file's bytes, or a folder's names, lie on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some network mounts cannot fsync a folder
            raise
    finally:
        os.close(descriptor)


def forget_cached_pages(descriptor: int) -> None:
    """So that reading back asks the disk, not the memory that was just written from."""
    with suppress(OSError):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def os_errors(subject: str) -> Iterator[None]:
    """Turn the system's errors into sentences that begin with ``subject``."""
    try:
        yield
    except OSError as error:
        raise translate(error, subject) from error


def translate(error: OSError, subject: str) -> NoSpace | StorageProblem:
    """One sentence for a system error: NoSpace when the disk or the quota is full, ConnectionBroken when a
    network mount lost its server."""
    detail = str(error)
    if error.errno in _FULL:
        return NoSpace(
            say("{place} is full: free some space or remove old backups.", place=subject), detail=detail
        )
    reason = _REASONS.get(error.errno or 0) or (error.strerror or "unknown error").lower()
    kind = ConnectionBroken if error.errno in _BROKEN else StorageProblem
    return kind(say("{place} cannot be used: {reason}.", place=subject, reason=reason), detail=detail)
