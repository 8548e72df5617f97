"""Run a command whose temporary files lie in memory: ``python -m tests.in_memory COMMAND...``.

Making a database copies hundreds of files; on a disk that is a good part of the tests' time. Where
memory is scarce, or TMPDIR is set, the command's files lie where they always do.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
NEEDED_BYTES = 6 << 30  # a run takes about 1.5 GB at a time, and its programs as much again
NAME = f"qradmin-tests-{os.getuid()}-"


def is_roomy(folder: Path = SHARED_MEMORY, memory: Path = Path("/proc/meminfo")) -> bool:
    """Whether ``folder`` takes what a run of all tests writes, and the machine's memory holds it."""
    with suppress(OSError, StopIteration):
        lines = memory.read_text().splitlines()
        available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) << 10
        return os.access(folder, os.W_OK) and min(available, shutil.disk_usage(folder).free) >= NEEDED_BYTES
    return False


def sweep(folder: Path) -> None:
    """Remove what killed runs of this user left in memory."""
    for left in folder.glob(f"{NAME}*"):
        if not Path(f"/proc/{left.name.removeprefix(NAME).partition('-')[0]}").exists():
            shutil.rmtree(left, ignore_errors=True)


def run(argv: list[str], folder: Path) -> int:
    """The command's exit status; what it left in ``folder`` is removed."""
    sweep(folder)
    with tempfile.TemporaryDirectory(prefix=f"{NAME}{os.getpid()}-", dir=folder) as place:
        Path(place).chmod(0o711)  # when the tests run as root, the servers in it run as others
        # Ctrl-C reaches the command by itself; this process waits for its end, to tidy up.
        signal.signal(signal.SIGINT, lambda *_: None)
        process = subprocess.Popen(argv, env=os.environ | {"TMPDIR": place})
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        return process.wait()


if __name__ == "__main__":
    if "TMPDIR" in os.environ or not is_roomy():
        os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - that is this module
    sys.exit(run(sys.argv[1:], SHARED_MEMORY))
