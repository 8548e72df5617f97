"""Whole processes measured from outside: wall time, CPU, memory of the process and of its children apart."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

SAMPLE_SECONDS = 0.05
REAPED_SECONDS = 0.3  # in which the server counts its ended processes' time as its own


class CommandFailedError(Exception):
    """A measured command ended with an error."""


@dataclass(frozen=True)
class Figures:
    """One run. Seconds and bytes; ``children_memory`` is the largest single child's peak."""

    wall: float
    cpu: float
    own_memory: int
    children_memory: int
    written: int
    server_cpu: float


def run(argv: Sequence[str], environment: Mapping[str, str], folder: Path, server_pid: int) -> Figures:
    """Run a command to its end; CommandFailedError with its last words when it fails.

    ``cpu`` counts the command and its children, ``server_cpu`` what the database server used meanwhile.
    """
    server_before = _cpu_of_server(server_pid)
    with (folder / "output.log").open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            list(argv), env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        peaks = _Peaks(process.pid)
        peaks.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        peaks.ended.set()
        peaks.join()
    if process.returncode != 0:
        words = (folder / "output.log").read_text(errors="replace")[-800:]
        raise CommandFailedError(f"{Path(argv[0]).name} failed with status {process.returncode}: {words}")
    time.sleep(REAPED_SECONDS)
    return Figures(
        wall=wall,
        cpu=usage.ru_utime + usage.ru_stime,
        own_memory=peaks.own,
        children_memory=peaks.children,
        written=peaks.written,
        server_cpu=_cpu_of_server(server_pid) - server_before,
    )


def middle(values: Sequence[float]) -> float:
    return float(median(values))


class _Peaks(threading.Thread):
    """Watches the peak memory of a process and of each of its descendants."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.own, self.children, self.written = pid, 0, 0, 0
        self.ended = threading.Event()
        self._written: dict[int, int] = {}

    def run(self) -> None:
        while not self.ended.wait(SAMPLE_SECONDS):
            self.own = max(self.own, _peak(self.pid))
            self._written[self.pid] = max(self._written.get(self.pid, 0), _bytes_written(self.pid))
            for child in _descendants(self.pid):
                self.children = max(self.children, _peak(child))
                self._written[child] = max(self._written.get(child, 0), _bytes_written(child))
        self.written = sum(self._written.values())


def _descendants(pid: int) -> list[int]:
    """The children of every thread, and theirs."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in path.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *_descendants(child)]
    return found


def _peak(pid: int) -> int:
    """VmHWM in bytes; 0 when the process has gone."""
    return _field(Path(f"/proc/{pid}/status"), "VmHWM:") * 1024


def _bytes_written(pid: int) -> int:
    """What went to files; pipes and /dev/null do not count."""
    return _field(Path(f"/proc/{pid}/io"), "write_bytes:")


def _cpu_of_server(pid: int) -> float:
    """Seconds of the server's processes, those that have ended included."""
    ticks = sum(_stat(pid)[11:15])
    for child in _descendants(pid):
        ticks += sum(_stat(child)[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[int]:
    """The numbers of /proc/PID/stat behind the state; zeros when the process has gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return [0] * 15
    return [0, *(int(word) for word in words[1:15])]


def _field(path: Path, name: str) -> int:
    try:
        for line in path.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
