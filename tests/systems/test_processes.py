"""Programs of the outside world: ended in every case, read in every amount, with their secrets masked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backups_app.errors import Cancelled, MissingClient
from backups_app.systems.processes import Command, run, start

PYTHON = sys.executable
IGNORES_TERM = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    " open(sys.argv[1], 'w').close(); time.sleep(60)"
)


def is_alive(pid: int) -> bool:
    """Whether a process of that id runs, and is not only waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid: int, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


def wait_for_file(path: Path, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not (path.exists() and path.stat().st_size >= 0) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists()


def test_the_status_output_and_errors_of_a_program_come_back() -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"

    finished = run(Command((PYTHON, "-c", code)), stdout_limit=100)

    assert (finished.returncode, finished.stdout, finished.stderr) == (3, b"out\n", "err")
    assert finished.seconds > 0


def test_a_missing_program_is_named() -> None:
    with pytest.raises(MissingClient, match="no-such-program is not on this machine"):
        run(Command(("no-such-program", "--version")))


def test_secrets_of_the_environment_are_masked_in_what_a_program_says() -> None:
    code = "import os, sys; print('refused:', os.environ['PGPASSWORD'], file=sys.stderr)"

    finished = run(Command((PYTHON, "-c", code), {"PGPASSWORD": "top-secret-1"}))

    assert finished.stderr == "refused: ***"


def test_a_command_shows_no_secret_when_it_is_printed() -> None:
    command = Command(("pg_dump",), {"PGPASSWORD": "top-secret-1"})

    assert "top-secret-1" not in repr(command)


def test_a_program_gets_nothing_of_our_environment_but_what_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_KEY", "of-the-site")
    code = "import os; print(sorted(os.environ))"

    finished = run(Command((PYTHON, "-c", code), {"PGHOST": "somewhere"}), stdout_limit=10_000)

    assert b"SECRET_KEY" not in finished.stdout
    assert b"PGHOST" in finished.stdout


def test_megabytes_of_errors_neither_block_nor_fill_the_memory() -> None:
    code = "import sys; sys.stderr.write('x' * 8_000_000 + 'the end')"

    finished = run(Command((PYTHON, "-c", code)))

    assert len(finished.stderr) == 64 * 1024
    assert finished.stderr.endswith("the end")


def test_output_is_kept_up_to_its_limit() -> None:
    finished = run(Command((PYTHON, "-c", "print('y' * 1_000_000)")), stdout_limit=1000)

    assert finished.stdout == b"y" * 1000


def test_a_watch_that_raises_ends_the_program_within_seconds() -> None:
    began = time.monotonic()

    def watch() -> None:
        if time.monotonic() - began > 0.3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled), start(Command(("sleep", "60"))) as running:  # noqa: PT012
        pid = running.pid
        while running.poll() is None:
            watch()
            time.sleep(0.02)

    assert wait_until_gone(pid)
    assert time.monotonic() - began < 30


def test_run_asks_the_watch_and_ends_the_program_when_it_raises(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    code = f"import os, time; open({str(marker)!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    def watch() -> None:
        if marker.exists() and marker.read_text():
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        run(Command((PYTHON, "-c", code)), watch=watch)

    assert wait_until_gone(int(marker.read_text()))


def test_a_program_that_ignores_term_is_killed(tmp_path: Path) -> None:
    marker = tmp_path / "ready"
    with start(Command((PYTHON, "-c", IGNORES_TERM, str(marker)))) as running:
        wait_for_file(marker)

        running.stop()

        assert running.poll() == -signal.SIGKILL


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_leaving_the_block_in_any_way_ends_the_program_and_its_children(
    error: type[BaseException], tmp_path: Path
) -> None:
    marker = tmp_path / "child"
    code = (
        "import subprocess, time;"
        f"open({str(marker)!r}, 'w').write(str(subprocess.Popen(['sleep', '60']).pid)); time.sleep(60)"
    )

    with pytest.raises(error), start(Command((PYTHON, "-c", code))) as running:  # noqa: PT012
        pid = running.pid
        while not (marker.exists() and marker.read_text()):
            time.sleep(0.02)
        raise error

    assert wait_until_gone(pid)
    assert wait_until_gone(int(marker.read_text()))


def test_a_killed_worker_leaves_no_program_behind(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    script = (
        "import pathlib, time\n"
        "from backups_app.systems.processes import Command, start\n"
        "with start(Command(('sleep', '60'))) as running:\n"
        f"    pathlib.Path({str(marker)!r}).write_text(str(running.pid))\n"
        "    time.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([PYTHON, "-c", script], cwd=root) as worker:
        while not (marker.exists() and marker.read_text()):
            time.sleep(0.02)
        time.sleep(0.2)  # setpriv has to have become the program

        worker.kill()

    assert wait_until_gone(int(marker.read_text()))


def test_the_program_runs_in_a_session_of_its_own() -> None:
    with start(Command(("sleep", "60"))) as running:
        assert os.getsid(running.pid) == running.pid


def test_what_a_program_reads_is_told_while_it_works(tmp_path: Path) -> None:
    file, moved = tmp_path / "file", list[int]()
    file.write_bytes(bytes(3_000_000))
    code = "import sys, time; open(sys.argv[1], 'rb', 0).read(); time.sleep(0.5)"

    run(Command((PYTHON, "-c", code, str(file))), on_bytes=moved.append)

    assert min(moved) > 0
    assert 3_000_000 <= sum(moved) < 6_000_000


def test_a_program_that_hangs_reads_nothing() -> None:
    began, told = time.monotonic(), list[float]()

    def watch() -> None:
        if time.monotonic() - max([began, *told]) > 2:
            raise Cancelled("It hangs.")

    command = Command((PYTHON, "-c", "import time; time.sleep(60)"))
    with pytest.raises(Cancelled):
        run(command, watch=watch, on_bytes=lambda _moved: told.append(time.monotonic()))

    assert time.monotonic() - began < 30
