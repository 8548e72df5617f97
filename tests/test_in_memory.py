"""The tests' own temporary files lie in memory where there is plenty, and nothing of them stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import in_memory
from tests.conftest import ROOT

RUN = "import sys; from pathlib import Path; from tests import in_memory; "
SHOWS_ITS_FOLDER = "import tempfile; print(tempfile.mkdtemp()); raise SystemExit(7)"


def test_a_command_has_its_files_there_and_nothing_stays(tmp_path: Path) -> None:
    called = f"sys.exit(in_memory.run([sys.executable, '-c', {SHOWS_ITS_FOLDER!r}], Path({str(tmp_path)!r})))"

    done = subprocess.run(
        [sys.executable, "-c", RUN + called], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 7, done.stderr
    assert done.stdout.startswith(f"{tmp_path}/{in_memory.NAME}")
    assert not list(tmp_path.iterdir())


def test_only_what_ended_runs_left_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    left, used, other = (
        tmp_path / name
        for name in (f"{in_memory.NAME}{ended.pid}-a", f"{in_memory.NAME}{os.getpid()}-b", "foreign")
    )
    for folder in (left, used, other):
        (folder / "inner").mkdir(parents=True)

    in_memory.sweep(tmp_path)

    assert not left.exists()
    assert used.exists()
    assert other.exists()


@pytest.mark.parametrize(("kilobytes", "is_roomy"), [(512, False), (2048, True)])
def test_where_memory_is_scarce_they_lie_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kilobytes: int, is_roomy: bool
) -> None:
    told = tmp_path / "meminfo"
    told.write_text(f"MemTotal: 99999999 kB\nMemAvailable: {kilobytes} kB\n")
    monkeypatch.setattr(in_memory, "NEEDED_BYTES", 1 << 20)

    assert in_memory.is_roomy(tmp_path, told) is is_roomy
    assert not in_memory.is_roomy(tmp_path / "missing", told)
    assert not in_memory.is_roomy(tmp_path, tmp_path / "missing")
