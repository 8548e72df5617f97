"""A folder takes backup files whole or not at all, and gives them back as they were."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from backups_app.errors import Cancelled, NoSpace, NotConfigured, Refused, StorageProblem
from backups_app.systems.vault import (
    ConnectionBroken,
    LocalLocation,
    MissingCopy,
    NameTaken,
    Stored,
    sha256_of,
    streams,
    working_file,
)
from backups_app.systems.vault import local as local_module
from backups_app.systems.vault.objects import ObjectLocation
from tests.real_world import read_only, small_disk

NAME = "qrdb_20250525_143022.sql"
OTHER = "qrdb_20250526_143022_before_restore.sql"
ATTACKS = ["../x.sql", "/etc/passwd", "a/" + NAME, NAME + "\0", NAME + "\n", "..", ".", "", NAME + ".json"]


@pytest.fixture
def location(tmp_path: Path) -> LocalLocation:
    place = LocalLocation(alias="local", folder=tmp_path / "vault")
    place.folder.mkdir(mode=0o700)
    return place


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(3 * streams.CHUNK + 17))
    return path


def held(location: LocalLocation) -> list[str]:
    return sorted(path.name for path in location.folder.iterdir())


def expected(path: Path) -> Stored:
    data = path.read_bytes()
    return Stored(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def cancel_after(calls: int) -> Callable[[], None]:
    left = iter(range(calls))

    def watch() -> None:
        if next(left, None) is None:
            raise Cancelled("Cancelled.")

    return watch


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_stored_and_fetched_as_it_was(
    location: LocalLocation, source: Path, tmp_path: Path
) -> None:
    moved: list[int] = []

    stored = location.store(source, NAME, on_bytes=moved.append)
    fetched = location.fetch(NAME, tmp_path / "target")

    assert stored == fetched == location.digest(NAME) == expected(source)
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    assert sum(moved) == 2 * stored.size
    assert held(location) == [NAME]
    assert location.local_path(NAME) == location.folder / NAME
    assert sha256_of(location.folder / NAME) == stored.sha256


def test_folder_and_files_are_for_the_service_alone(
    location: LocalLocation, source: Path, tmp_path: Path
) -> None:
    before = os.umask(0)
    try:
        location.store(source, NAME)
        location.write_text(NAME, "{}")
        location.fetch(NAME, tmp_path / "target")
        with working_file(location, OTHER) as working:
            assert mode(working.path) == 0o600
            working.commit()
    finally:
        os.umask(before)

    assert mode(location.folder) == 0o700
    paths = [*location.folder.iterdir(), tmp_path / "target"]
    assert [mode(path) for path in paths] == [0o600] * 4


def test_a_stored_file_is_never_overwritten(location: LocalLocation, source: Path) -> None:
    (location.folder / NAME).write_bytes(b"the first")

    with pytest.raises(NameTaken):
        location.store(source, NAME)
    with pytest.raises(NameTaken), working_file(location, NAME):
        pass

    assert (location.folder / NAME).read_bytes() == b"the first"
    assert held(location) == [NAME]


def test_a_name_taken_in_the_meantime_is_not_overwritten(location: LocalLocation, source: Path) -> None:
    def someone_else(_moved: int) -> None:
        (location.folder / NAME).write_bytes(b"the first")

    with pytest.raises(NameTaken):
        location.store(source, NAME, on_bytes=someone_else)
    assert (location.folder / NAME).read_bytes() == b"the first"
    (location.folder / NAME).unlink()
    with working_file(location, NAME) as working:
        someone_else(1)
        with pytest.raises(NameTaken):
            working.commit()

    assert (location.folder / NAME).read_bytes() == b"the first"
    assert held(location) == [NAME]


def test_a_mount_without_hard_links_takes_files_too(
    location: LocalLocation, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*args: object, **kwargs: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(local_module.os, "link", no_links)

    assert location.store(source, NAME) == expected(source) == location.digest(NAME)
    with working_file(location, OTHER) as working:
        (location.folder / OTHER).write_bytes(b"the first")
        with pytest.raises(NameTaken):
            working.commit()
    assert (location.folder / OTHER).read_bytes() == b"the first"
    assert held(location) == [NAME, OTHER]


def test_one_name_has_one_working_file_at_a_time(location: LocalLocation) -> None:
    with working_file(location, NAME) as first:
        first.path.write_bytes(b"dump")
        with pytest.raises(NameTaken), working_file(location, NAME):
            pass
        assert first.commit() == location.folder / NAME

    assert (location.folder / NAME).read_bytes() == b"dump"
    assert held(location) == [NAME]


def test_a_working_file_that_is_not_committed_leaves_nothing(location: LocalLocation) -> None:
    def interrupted() -> None:
        with working_file(location, NAME) as working:
            working.path.write_bytes(b"half")
            raise KeyboardInterrupt

    with working_file(location, NAME) as working:
        working.path.write_bytes(b"half")
    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert held(location) == []


def test_a_working_file_needs_a_folder(tmp_path: Path) -> None:
    bucket = ObjectLocation(alias="far", bucket="b")

    with pytest.raises(NotConfigured, match="list a folder first"), working_file(bucket, NAME):
        pass


def test_a_copy_that_reads_back_differently_is_not_kept(
    location: LocalLocation, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = streams.create

    def lossy(path: Path) -> object:
        class Disk:
            def __init__(self) -> None:
                self.file = create(path)

            def __getattr__(self, name: str) -> object:
                return getattr(self.file, name)

            def __enter__(self) -> Self:
                return self

            def __exit__(self, *error: object) -> None:
                self.file.close()

            def write(self, data: bytes) -> int:
                return self.file.write(b"\0" + data[1:])

        return Disk()

    monkeypatch.setattr(streams, "create", lossy)

    with pytest.raises(StorageProblem, match="does not give back what was written"):
        location.store(source, NAME)
    assert held(location) == []


def test_what_is_read_back_comes_from_the_disk(
    location: LocalLocation, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory holds what was written, whatever the disk made of it."""
    done: list[str] = []
    flush, read = streams.flush_to_disk, streams.open_to_read
    monkeypatch.setattr(streams, "flush_to_disk", lambda file: (done.append("flush"), flush(file)))
    monkeypatch.setattr(os, "posix_fadvise", lambda *_: done.append("forget"))
    monkeypatch.setattr(streams, "open_to_read", lambda path: (done.append("read"), read(path))[1])

    location.store(source, NAME)
    location.digest(NAME)

    assert done == ["read", "flush", "forget", "read", "read", "forget"]


def test_cancelled_work_leaves_no_half_file(location: LocalLocation, source: Path, tmp_path: Path) -> None:
    for calls in range(9):
        with pytest.raises(Cancelled):
            location.store(source, NAME, watch=cancel_after(calls))
        assert held(location) == []

    location.store(source, NAME)
    with pytest.raises(Cancelled):
        location.fetch(NAME, tmp_path / "target", watch=cancel_after(2))
    with pytest.raises(Cancelled):
        location.digest(NAME, watch=cancel_after(2))
    with pytest.raises(Cancelled):
        sha256_of(source, watch=cancel_after(2))
    assert not (tmp_path / "target").exists()


def test_a_killed_copy_leaves_only_a_temporary_file_that_the_sweep_removes(
    location: LocalLocation, tmp_path: Path
) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(40 * streams.CHUNK)
    program = (
        "import sys, time; from pathlib import Path;"
        "from backups_app.systems.vault import LocalLocation;"
        "place = LocalLocation(alias='local', folder=Path(sys.argv[1]));"
        "place.store(Path(sys.argv[2]), sys.argv[3], on_bytes=lambda moved: time.sleep(0.05))"
    )
    child = subprocess.Popen([sys.executable, "-c", program, location.folder, big, NAME])
    try:
        deadline = time.monotonic() + 30
        while not held(location) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()

    (left,) = held(location)
    assert location.names() == []
    assert location.sweep_temporary(3600) == []
    assert location.sweep_temporary(0) == [left]
    assert held(location) == []


def test_foreign_files_are_neither_listed_nor_removed(location: LocalLocation, source: Path) -> None:
    foreign = ["notes.txt", "qrdb.sql", NAME + ".bak", ".hidden", "other.part", ".film.part", "x_2025.sql"]
    for name in foreign:
        (location.folder / name).write_bytes(b"foreign")
    (location.folder / OTHER).mkdir()
    location.store(source, NAME)
    location.write_text(NAME, "{}")

    assert [stored.name for stored in location.names()] == [NAME]
    assert location.sweep_temporary(0) == []
    for name in foreign:
        with pytest.raises(Refused):
            location.remove(name)
    assert location.remove(NAME) is True
    assert held(location) == sorted([*foreign, OTHER])


def test_names_tell_size_and_time_in_order(location: LocalLocation, source: Path) -> None:
    location.store(source, OTHER)
    location.store(source, NAME)

    first, second = location.names()

    assert (first.name, second.name) == (NAME, OTHER)
    assert first.size == source.stat().st_size
    assert abs(first.modified.timestamp() - time.time()) < 60


def test_a_symbolic_link_in_the_place_of_a_backup_is_never_followed(
    location: LocalLocation, source: Path, tmp_path: Path
) -> None:
    (location.folder / NAME).symlink_to(source)
    (location.folder / (OTHER + ".json")).symlink_to(source)

    assert location.names() == []
    assert location.local_path(NAME) is None
    with pytest.raises(MissingCopy):
        location.fetch(NAME, tmp_path / "target")
    with pytest.raises(StorageProblem, match="symbolic link"):
        location.read_text(OTHER)
    with pytest.raises(NameTaken):
        location.store(source, NAME)
    assert location.remove(NAME) is True
    assert source.exists()


def test_a_pipe_in_the_place_of_a_source_is_not_waited_for(location: LocalLocation, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(StorageProblem):
        location.store(tmp_path / "pipe", NAME)


@pytest.mark.parametrize("name", ATTACKS)
def test_no_method_takes_a_name_outside_the_pattern(
    location: LocalLocation, source: Path, tmp_path: Path, name: str
) -> None:
    def work_on(name: str) -> None:
        with working_file(location, name):
            pass

    calls = [
        lambda: location.store(source, name),
        lambda: location.fetch(name, tmp_path / "target"),
        lambda: location.digest(name),
        lambda: location.remove(name),
        lambda: location.exists(name),
        lambda: location.local_path(name),
        lambda: location.write_text(name, "x"),
        lambda: location.read_text(name),
        lambda: work_on(name),
    ]
    for call in calls:
        with pytest.raises(Refused):
            call()
    assert held(location) == []


def test_a_missing_file_has_its_own_error_and_counts_as_removed(
    location: LocalLocation, tmp_path: Path
) -> None:
    with pytest.raises(MissingCopy):
        location.digest(NAME)
    with pytest.raises(MissingCopy):
        location.fetch(NAME, tmp_path / "target")
    assert location.remove(NAME) is False
    assert location.read_text(NAME) is None
    assert location.exists(NAME) is False
    assert not (tmp_path / "target").exists()


def test_a_sidecar_is_replaced_whole_and_goes_with_its_file(location: LocalLocation, source: Path) -> None:
    location.store(source, NAME)
    location.write_text(NAME, "first")
    location.write_text(NAME, "ünïcode 漢字")

    assert location.read_text(NAME) == "ünïcode 漢字"
    assert location.remove(NAME) is True
    assert held(location) == []


def test_a_sidecar_that_is_not_text_is_a_problem_of_the_location(location: LocalLocation) -> None:
    (location.folder / (NAME + ".json")).write_bytes(b"\xff\xfe")

    with pytest.raises(StorageProblem, match="not text"):
        location.read_text(NAME)


def test_a_missing_folder_is_said_by_every_call(tmp_path: Path, source: Path) -> None:
    nowhere = LocalLocation(alias="nas", folder=tmp_path / "unmounted")
    calls = [
        nowhere.check,
        nowhere.free_bytes,
        nowhere.names,
        lambda: nowhere.store(source, NAME),
        lambda: nowhere.digest(NAME),
        lambda: nowhere.remove(NAME),
        lambda: nowhere.read_text(NAME),
        lambda: nowhere.write_text(NAME, "x"),
        lambda: nowhere.sweep_temporary(0),
    ]

    for call in calls:
        with pytest.raises(StorageProblem, match=r"storage location nas .* does not exist") as error:
            call()
        assert not isinstance(error.value, MissingCopy)
    assert not nowhere.folder.exists()


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    with pytest.raises(StorageProblem, match="is not a folder"):
        LocalLocation(alias="nas", folder=tmp_path / "file").check()


def test_a_check_leaves_nothing_behind(location: LocalLocation) -> None:
    location.check()

    assert held(location) == []
    assert location.free_bytes() > 0


@pytest.mark.real
def test_a_full_disk_is_said_and_nothing_is_left_on_it(tmp_path: Path, source: Path) -> None:
    with small_disk(tmp_path / "small") as folder:
        full = LocalLocation(alias="small", folder=folder)

        with pytest.raises(NoSpace, match=r"storage location small .* is full"):
            full.store(source, NAME)
        with pytest.raises(NoSpace):
            full.write_text(NAME, "x" * source.stat().st_size)
        assert held(full) == []


@pytest.mark.real
def test_a_full_target_of_a_fetch_is_said_and_nothing_is_left(
    location: LocalLocation, tmp_path: Path, source: Path
) -> None:
    location.store(source, NAME)
    with small_disk(tmp_path / "small") as folder:
        with pytest.raises(NoSpace, match="is full"):
            location.fetch(NAME, folder / "target")
        assert list(folder.iterdir()) == []


@pytest.mark.real
def test_a_read_only_folder_is_said(tmp_path: Path, source: Path) -> None:
    with small_disk(tmp_path / "small", size="20m") as folder:
        place = LocalLocation(alias="ro", folder=folder)
        place.store(source, NAME)
        with read_only(folder):
            for call in (
                place.check,
                lambda: place.store(source, OTHER),
                lambda: place.remove(NAME),
                lambda: place.write_text(NAME, "x"),
            ):
                with pytest.raises(StorageProblem, match=r"read-only|permission denied"):
                    call()
            assert place.digest(NAME) == expected(source)


def test_memory_stays_flat_while_a_large_file_is_copied(location: LocalLocation, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(200 * streams.CHUNK)
    program = (
        "import resource, sys; from pathlib import Path;"
        "from backups_app.systems.vault import LocalLocation;"
        "place = LocalLocation(alias='local', folder=Path(sys.argv[1]));"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "place.store(Path(sys.argv[2]), sys.argv[3]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )

    printed = subprocess.run(
        [sys.executable, "-c", program, location.folder, big, NAME], capture_output=True, check=True
    ).stdout

    assert int(printed) < 20 * 1024  # KiB


@pytest.mark.parametrize(
    ("number", "is_broken"), [(errno.ESTALE, True), (errno.EHOSTDOWN, True), (errno.EIO, False)]
)
def test_a_mount_that_lost_its_server_is_told_apart_from_a_file_that_cannot_be_read(
    number: int, is_broken: bool
) -> None:
    error = streams.translate(OSError(number, os.strerror(number)), "The storage location nas")

    assert isinstance(error, ConnectionBroken) is is_broken
