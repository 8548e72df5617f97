"""Reading an archive while it is still written: to its end, noticing all damage, leaving nobody behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backups_app.errors import BadBackup, Cancelled, EnvironmentProblem, StorageProblem
from backups_app.systems import processes
from backups_app.systems.postgres import clients, commands, reading_along
from backups_app.systems.postgres.connections import Server
from backups_app.systems.processes import Running
from backups_app.systems.waiting import no_watch
from deploy.demo import embedded
from tests.conftest import on_all_majors
from tests.systems.test_archive import dump, restorer
from tests.systems.test_processes import wait_until_gone


@pytest.fixture
def whole(managed: Server, pg_major: int, tmp_path: Path) -> bytes:
    """An archive of the sample."""
    return dump(managed, pg_major, tmp_path).read_bytes()


@pytest.fixture
def growing(tmp_path: Path) -> Path:
    """The empty file that pg_dump is about to write."""
    path = tmp_path / ".qrdb_20250525_143022.sql.part"
    path.touch()
    return path


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[Running]:
    """The programs that were started; the last one reads along, others may have told their versions first."""
    started: list[Running] = []

    def start(*words: object, **options: object) -> Running:
        started.append(original(*words, **options))
        return started[-1]

    original: Callable[..., Running] = processes.start
    monkeypatch.setattr(reading_along.processes, "start", start)
    return started


@contextmanager
def written_slowly(path: Path, content: bytes, pieces: int) -> Iterator[None]:
    def write() -> None:
        size = -(-len(content) // pieces)
        with path.open("ab", buffering=0) as file:
            for start in range(0, len(content), size):
                file.write(content[start : start + size])
                time.sleep(0.02)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def feeders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "reading-along"]


@on_all_majors
def test_an_archive_is_read_while_it_grows(whole: bytes, growing: Path, pg_major: int) -> None:
    moved: list[int] = []

    with reading_along.reading_along(restorer(pg_major), growing) as reading:
        with written_slowly(growing, whole, pieces=10):
            pass
        reading.finish(no_watch, on_bytes=moved.append)

    assert sum(moved) == len(whole)
    assert feeders() == []


@on_all_majors
def test_a_dump_is_read_while_pg_dump_writes_it(managed: Server, growing: Path, pg_major: int) -> None:
    command = commands.dump(
        managed,
        dumper(pg_major),
        file=growing,
        snapshot=None,
        compression="none",
        application_name="test",
    )
    with reading_along.reading_along(restorer(pg_major), growing) as reading:
        assert processes.run(command).returncode == 0
        reading.finish(no_watch)


def test_most_of_it_is_read_before_it_is_complete(
    whole: bytes, growing: Path, pg_major: int, readers: list[Running]
) -> None:
    with reading_along.reading_along(restorer(pg_major), growing) as reading:
        growing.write_bytes(whole)
        deadline = time.monotonic() + 10
        while bytes_read(readers[-1]) < len(whole) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert bytes_read(readers[-1]) >= len(whole)
        assert readers[-1].poll() in {None, 0}
        reading.finish(no_watch)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_an_archive_that_stays_short_is_damaged(
    whole: bytes, growing: Path, pg_major: int, share: float
) -> None:
    with reading_along.reading_along(restorer(pg_major), growing) as reading:
        growing.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(BadBackup):
            reading.finish(no_watch)


def test_rows_that_do_not_decompress_are_damage(whole: bytes, growing: Path, pg_major: int) -> None:
    middle = len(whole) // 2
    with reading_along.reading_along(restorer(pg_major), growing) as reading:
        growing.write_bytes(whole[:middle] + bytes(2000) + whole[middle + 2000 :])
        with pytest.raises(BadBackup, match="damaged"):
            reading.finish(no_watch)


def test_a_table_of_contents_that_was_written_badly_at_the_end_is_damage(
    whole: bytes, growing: Path, pg_major: int
) -> None:
    with reading_along.reading_along(restorer(pg_major), growing) as reading:
        growing.write_bytes(whole)
        deadline = time.monotonic() + 10
        while not is_read_up(growing) and time.monotonic() < deadline:
            time.sleep(0.02)
        with growing.open("r+b") as file:
            file.seek(60)
            file.write(b"\xff" * 400)
        with pytest.raises(BadBackup, match="damaged"):
            reading.finish(no_watch)


def test_a_reader_that_is_killed_says_nothing_about_the_archive(
    whole: bytes, growing: Path, pg_major: int, readers: list[Running]
) -> None:
    with reading_along.reading_along(restorer(pg_major), growing) as reading:
        os.kill(readers[-1].pid, signal.SIGKILL)
        growing.write_bytes(whole)
        with pytest.raises(EnvironmentProblem, match="ended by signal 9"):
            reading.finish(no_watch)


def test_a_file_that_cannot_be_read_is_the_storage(tmp_path: Path, pg_major: int) -> None:
    missing = tmp_path / "missing.part"
    with (
        reading_along.reading_along(restorer(pg_major), missing) as reading,
        pytest.raises(StorageProblem, match="cannot be read: No such file"),
    ):
        reading.finish(no_watch)


def test_a_watch_that_raises_ends_the_reader(
    whole: bytes, growing: Path, pg_major: int, readers: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancel() -> None:
        raise Cancelled("It was cancelled.")

    monkeypatch.setattr(reading_along, "WAIT_SECONDS", 0.5)
    with pytest.raises(Cancelled), reading_along.reading_along(restorer(pg_major), growing) as reading:
        reading.finish(cancel)

    assert wait_until_gone(readers[-1].pid)
    assert feeders() == []


def test_a_dump_that_fails_leaves_no_reader(
    whole: bytes, growing: Path, pg_major: int, readers: list[Running]
) -> None:
    with (
        pytest.raises(StorageProblem),
        reading_along.reading_along(restorer(pg_major), growing),
        written_slowly(growing, whole[: len(whole) // 2], pieces=3),
    ):
        raise StorageProblem("The disk is full.")

    assert wait_until_gone(readers[-1].pid)
    assert feeders() == []


def test_a_pipe_that_nobody_empties_does_not_hold_up_the_end(
    growing: Path, pg_major: int, readers: list[Running]
) -> None:
    growing.write_bytes(bytes(8 * 1024 * 1024))
    with reading_along.reading_along(restorer(pg_major), growing):
        os.kill(readers[-1].pid, signal.SIGSTOP)
        time.sleep(0.2)

    assert wait_until_gone(readers[-1].pid)
    assert feeders() == []


def bytes_read(reader: Running) -> int:
    """What the program has taken from its pipe so far; all there is when it has ended."""
    try:
        lines = Path(f"/proc/{reader.pid}/io").read_text().splitlines()
    except OSError:
        return 1 << 40
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])


def is_read_up(path: Path) -> bool:
    """Whether everything of a file has been read by those who hold it open in this process."""
    for link in Path("/proc/self/fd").iterdir():
        try:
            if link.readlink() == path:
                facts = Path(f"/proc/self/fdinfo/{link.name}").read_text().splitlines()
                return int(facts[0].split()[1]) == path.stat().st_size
        except OSError:
            continue
    return False


def dumper(major: int) -> clients.Client:
    folder = embedded.find_bin(major)
    assert folder is not None
    return clients.for_dump(major, [folder])
