"""An archive read whole while pg_dump still writes it: each byte is read once, as soon as it is there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import IO

from backups_app.errors import StorageProblem
from backups_app.sentences import say
from backups_app.systems import processes
from backups_app.systems.postgres import archive, commands
from backups_app.systems.postgres.clients import Client
from backups_app.systems.processes import Running
from backups_app.systems.waiting import OnBytes, Watch, no_bytes

CHUNK = 64 * 1024  # what a pipe holds: each is told as soon as it has gone in
WAIT_SECONDS = 0.02


class ReadingAlong:
    """pg_restore at work on the archive ``file``, fed with what has been written so far."""

    def __init__(self, client: Client, file: Path, reading: Running, feeder: _Feeder) -> None:
        self._client, self._file, self._reading, self._feeder = client, file, reading, feeder

    def finish(self, watch: Watch, *, on_bytes: OnBytes = no_bytes) -> None:
        """The archive is complete: read what is left of it, and its table of contents once more.

        pg_dump writes the table of contents first and again at the end, when it knows where the rows lie.
        ``on_bytes`` is told of all that was fed, what went before included.
        Raises what `archive.read_whole` raises.
        """
        self._feeder.is_complete.set()
        told = 0
        while self._reading.poll() is None:
            watch()
            if (fed := self._feeder.fed) > told:
                on_bytes(fed - told)
                told = fed
            time.sleep(WAIT_SECONDS / 2)
        self._feeder.join()
        on_bytes(self._feeder.fed - told)
        if self._feeder.problem is not None:
            raise StorageProblem(
                say(
                    "The file {name} cannot be read: {reason}.",
                    name=self._file,
                    reason=self._feeder.problem.strerror,
                )
            ) from self._feeder.problem
        archive.judge_reading(self._reading.finish(), self._client, self._file)
        archive.inspect(self._client, self._file, watch=watch)


@contextmanager
def reading_along(client: Client, file: Path) -> Iterator[ReadingAlong]:
    """Read ``file``, which pg_dump is about to write, until ``finish()`` has told how it went."""
    with processes.start(commands.read_all_fed(client), is_fed=True) as reading:
        feeder = _Feeder(file, reading.stdin)
        feeder.start()
        try:
            yield ReadingAlong(client, file, reading, feeder)
        finally:
            reading.stop()  # a feeder that waits for the pipe to take more goes on once nobody reads it
            feeder.is_abandoned.set()
            feeder.join()


class _Feeder(Thread):
    """Pours a file that grows into a pipe until it is complete, or the pipe is no longer read."""

    def __init__(self, file: Path, pipe: IO[bytes]) -> None:
        super().__init__(daemon=True, name="reading-along")
        self._file, self._pipe = file, pipe
        self.is_complete = Event()
        self.is_abandoned = Event()
        self.problem: OSError | None = None
        self.fed = 0

    def run(self) -> None:
        try:
            with self._file.open("rb", buffering=0) as source:
                self._pour(source)
        except BrokenPipeError:
            pass  # the reader has ended: its exit status says why
        except OSError as error:
            self.problem = error
        finally:
            with suppress(OSError):
                self._pipe.close()

    def _pour(self, source: IO[bytes]) -> None:
        while not self.is_abandoned.is_set():
            was_complete = self.is_complete.is_set()
            if chunk := source.read(CHUNK):
                _write_all(self._pipe, chunk)
                self.fed += len(chunk)
            elif was_complete:
                return
            else:
                self.is_complete.wait(WAIT_SECONDS)


def _write_all(pipe: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[pipe.write(rest) :]
