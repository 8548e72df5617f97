"""Run one program: watched while it works, ended without orphans, its secrets masked."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from backups_app.errors import MissingClient
from backups_app.sentences import say
from backups_app.systems.secrecy import hidden
from backups_app.systems.waiting import OnBytes, Watch, no_bytes, no_watch

__all__ = ["Command", "Finished", "Running", "Watch", "no_watch", "run", "start"]

STDERR_LIMIT = 64 * 1024
GRACE_SECONDS = 2.0
INHERITED = ("PATH", "HOME", "TZ", "TMPDIR")
SECRET_WORDS = ("PASSWORD", "SECRET", "KEY", "TOKEN")


@dataclass(frozen=True)
class Command:
    """A program with its arguments. Secrets travel in ``env`` alone, never in ``argv``."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    def masked(self, text: str) -> str:
        """``text`` with every secret of this command's environment replaced."""
        is_secret = {key: any(word in key.upper() for word in SECRET_WORDS) for key in self.env}
        names = [value for key, value in self.env.items() if not is_secret[key]]
        return hidden(text, [value for key, value in self.env.items() if is_secret[key]], names)


@dataclass(frozen=True)
class Finished:
    """How a program ended. ``stderr``: its last 64 KiB, masked; ``stdout``: as much as was asked for."""

    returncode: int
    stderr: str
    stdout: bytes
    seconds: float
    peak_memory_bytes: int


class Running:
    """A program at work; leaving the ``with`` block in any way ends it and all its children.

    A program that ``is_fed`` reads what the caller writes into ``stdin``, and ends when that is closed.
    """

    def __init__(self, command: Command, *, stdout_limit: int = 0, is_fed: bool = False) -> None:
        self.command = command
        self._stdout_limit = stdout_limit
        self._began = time.monotonic()
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._stdout: IO[bytes] | None = tempfile.TemporaryFile() if stdout_limit else None  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [*_dies_with_parent(), *command.argv],
                env=_environment(command),
                stdin=subprocess.PIPE if is_fed else subprocess.DEVNULL,
                stdout=self._stdout or subprocess.DEVNULL,
                stderr=self._stderr,
                start_new_session=True,
                close_fds=True,
                bufsize=0,
            )
        except BaseException:
            self._close_files()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stdin(self) -> IO[bytes]:
        if self._process.stdin is None:
            raise ValueError("This program is not fed.")
        return self._process.stdin

    def poll(self) -> int | None:
        """The exit status, or None while it works."""
        return self._process.poll()

    def bytes_read(self) -> int:
        """What it has read from files and pipes so far; 0 after its end, and where no /proc tells."""
        with suppress(OSError):
            for line in Path(f"/proc/{self.pid}/io").read_text().splitlines():
                if line.startswith("rchar:"):
                    return int(line.split()[1])
        return 0

    def stop(self) -> None:
        """TERM to the whole process group, two seconds, then KILL. Harmless when it has ended."""
        self._signal_group(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_SECONDS)
        self._signal_group(signal.SIGKILL)
        self._process.wait()

    def finish(self) -> Finished:
        """Wait for the end and tell how it went."""
        returncode = self._process.wait()
        return Finished(
            returncode=returncode,
            stderr=self.command.masked(_tail(self._stderr, STDERR_LIMIT).decode(errors="replace")).strip(),
            stdout=_head(self._stdout, self._stdout_limit) if self._stdout else b"",
            seconds=time.monotonic() - self._began,
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self.poll() is None:
                self.stop()
            else:
                self._signal_group(signal.SIGKILL)  # children that outlived it
        finally:
            self._close_files()

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _close_files(self) -> None:
        self._stderr.close()
        if self._stdout:
            self._stdout.close()


def start(command: Command, *, stdout_limit: int = 0, is_fed: bool = False) -> Running:
    """Start a program. MissingClient when there is no such program.

    Call it from the process's main thread: a child's parent-death signal follows the thread that
    started it. ``stdout_limit``: bytes of standard output to keep; 0 throws it away. ``is_fed``: the
    caller writes its standard input.
    """
    program = command.argv[0]
    if shutil.which(program) is None:
        raise MissingClient(say("The program {program} is not on this machine.", program=program))
    return Running(command, stdout_limit=stdout_limit, is_fed=is_fed)


def run(
    command: Command,
    *,
    watch: Watch = no_watch,
    interval: float = 0.02,
    stdout_limit: int = 0,
    on_bytes: OnBytes = no_bytes,
) -> Finished:
    """Run a program to its end, asking ``watch`` all the while; ``on_bytes`` is told of what it reads.

    What ``watch`` raises ends the program and goes on to the caller. A non-zero exit status is no
    error here: the caller reads ``returncode``. MissingClient when there is no such program.
    """
    with start(command, stdout_limit=stdout_limit) as running:
        told = 0
        while running.poll() is None:
            watch()
            if (read := running.bytes_read()) > told:
                on_bytes(read - told)
                told = read
            time.sleep(interval)
        return running.finish()


def _dies_with_parent() -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM", "--") if setpriv else ()


def _environment(command: Command) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {**inherited, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **command.env}


def _tail(file: IO[bytes], limit: int) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - limit))
    return file.read(limit)


def _head(file: IO[bytes], limit: int) -> bytes:
    file.seek(0)
    return file.read(limit)
