"""What a program in a container writes, or the container's log says: the last of it, without passwords."""

from __future__ import annotations

import re
import time

from backups_app.systems import docker_engine

OUTPUT_LIMIT = 64 * 1024  # characters of a program's output or of the log that are kept: the last ones


class Output:
    """What a program writes: its process id in the first line, then the last 64 KiB of the rest."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self._head = b""
        self._tail = b""

    def take(self, source: int, data: bytes) -> None:
        """Both outputs arrive in any order: the process id is looked for on standard output alone."""
        rest = self._after_pid(data) if source == docker_engine.STDOUT else data
        self._tail = (self._tail + rest)[-OUTPUT_LIMIT:]

    def _after_pid(self, chunk: bytes) -> bytes:
        if self.pid is not None:
            return chunk
        self._head += chunk
        first, newline, rest = self._head.partition(b"\n")
        if newline and first.strip().isdigit():
            self.pid = int(first)
            return rest
        return b""

    def awaited_pid(self) -> int:
        """The process id, waited for a little; TimeoutError when it never came."""
        for _ in range(20):
            if self.pid is not None:
                return self.pid
            time.sleep(0.1)
        raise TimeoutError("the program never said its process id")

    @property
    def text(self) -> str:
        unread = b"" if self.pid is not None else self._head
        return without_passwords((unread + self._tail).decode(errors="replace"))


def without_passwords(text: str) -> str:
    """The text with the password of every URL in it masked."""
    return re.sub(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s@]+@", r"\1:***@", text, flags=re.IGNORECASE)
