"""What a machine may lack: tests that need it are skipped with a reason, or fail where all must run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def need(is_there: bool, reason: str) -> None:
    """Skip the test when something is missing; fail it when QRADMIN_REQUIRE_ALL=1."""
    if is_there:
        return
    if os.environ.get("QRADMIN_REQUIRE_ALL") == "1":
        pytest.fail(f"required, but missing: {reason}")
    pytest.skip(reason)


@contextmanager
def small_disk(folder: Path, *, size: str = "2m") -> Iterator[Path]:
    """A file system of its own in ``folder``, of ``size``; needs root."""
    need(os.geteuid() == 0, "only root may mount a small disk")
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
    )
    need(mounted.returncode == 0, f"no disk could be mounted: {mounted.stderr}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only: for root, whom modes do not stop, it has to be the root of a mount."""
    if os.geteuid() == 0:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield
        return
    folder.chmod(0o500)
    try:
        yield
    finally:
        folder.chmod(0o700)
