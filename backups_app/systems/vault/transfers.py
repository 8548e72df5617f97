"""What moves to and from an object store: parts of an upload, sums of what was read, watched answers."""

from __future__ import annotations

import hashlib
from typing import Any, BinaryIO, cast

from backups_app.systems.vault.location import Stored
from backups_app.systems.waiting import OnBytes, Watch, answer

MEBIBYTE = 1024 * 1024
SMALLEST_PART = 8 * MEBIBYTE
MOST_PARTS = 9_000  # the protocol allows 10,000


def part_size(size: int) -> int:
    """Bytes of each part of an upload of ``size`` bytes: whole mebibytes, few enough parts."""
    mebibytes = -(-size // (MOST_PARTS * MEBIBYTE))
    return max(SMALLEST_PART, mebibytes * MEBIBYTE)


class Summed:
    """A source that sums up what is read from it."""

    def __init__(self, reader: BinaryIO, on_bytes: OnBytes) -> None:
        self._reader = reader
        self._digest = hashlib.sha256()
        self._size = 0
        self.moved = on_bytes

    def read(self, size: int) -> bytes:
        data = self._reader.read(size)
        self._digest.update(data)
        self._size += len(data)
        return data

    @property
    def stored(self) -> Stored:
        return Stored(size=self._size, sha256=self._digest.hexdigest())


class Incoming:
    """The body of an answer, read while the watch is asked, its errors as sentences."""

    def __init__(self, body: Any, watch: Watch, errors: Any) -> None:
        self._body = body
        self._watch = watch
        self._errors = errors

    def read(self, size: int) -> bytes:
        with self._errors():
            return cast("bytes", answer(lambda: self._body.read(size), self._watch))
