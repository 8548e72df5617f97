"""Reading a large file takes its time: while bytes move that is no standstill, and without them it is."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, BinaryIO, Self

import pytest
from pytest_django.fixtures import Settings

from backups_app.errors import Stalled
from backups_app.models import BackupCopy, Operation
from backups_app.operations import copies
from backups_app.systems.postgres import commands
from backups_app.systems.processes import Command
from backups_app.systems.vault import LocalLocation, streams
from tests.operations.site import Site

LIMIT = 2
PIECES, PAUSE = 6, 0.6
READS = """
import os, sys, time
source = open(sys.argv[2], "rb", buffering=0) if len(sys.argv) > 2 else sys.stdin.buffer.raw
while source.read(int(sys.argv[1])):
    time.sleep({pause})
"""


class Slow:
    """A file that is read in so many pieces, with a pause before each."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._file, self._piece = file, path.stat().st_size // PIECES + 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        time.sleep(PAUSE)
        return self._file.read(min(size, self._piece))


@pytest.fixture
def slow_disk(one_folder: Site, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site that reads each file for longer than an operation may stand still."""
    settings.STALL_TIME_LIMIT = LIMIT
    whole = streams.open_to_read
    monkeypatch.setattr(streams, "open_to_read", lambda path: Slow(path, whole(path)))
    return one_folder


def pg_restore_reads(monkeypatch: pytest.MonkeyPatch, size: int, *, pause: float) -> None:
    """pg_restore reads ``size`` bytes, then pauses, then reads on."""
    program = (sys.executable, "-c", READS.format(pause=pause), str(max(1, size // PIECES)))
    monkeypatch.setattr(commands, "read_all", lambda _client, file: Command((*program, str(file))))
    monkeypatch.setattr(commands, "read_all_fed", lambda _client: Command(program))


def test_a_backup_is_read_for_as_long_as_it_takes(slow_disk: Site) -> None:
    assert slow_disk.backup().state == "validated"


def test_an_upload_is_read_and_stored_for_as_long_as_it_takes(
    one_folder: Site, request: pytest.FixtureRequest
) -> None:
    content = (one_folder.working / one_folder.backup().name).read_bytes() + b" "
    slow_disk: Site = request.getfixturevalue("slow_disk")

    operation = slow_disk.upload(content)

    assert operation.state == "succeeded", operation.error


def test_a_backup_of_the_site_is_copied_for_as_long_as_it_takes(
    slow_disk: Site, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BACKUP_LOCATIONS = f"working={slow_disk.working},second={slow_disk.second}"

    operation = slow_disk.backup_site()

    assert operation.result["locations"] == ["working", "second"], operation.error


def test_pg_restore_reads_along_for_as_long_as_it_takes(
    one_folder: Site, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BACKUP_COMPRESSION = "none"
    one_folder.execute("CREATE TABLE more AS SELECT md5(i::text) FROM generate_series(1, 20000) i")
    size = one_folder.backup().size
    assert size > 500_000, "much more than a pipe holds"
    settings.STALL_TIME_LIMIT = LIMIT
    pg_restore_reads(monkeypatch, size, pause=LIMIT / 5)  # before each piece that the pipe holds

    operation = one_folder.try_backup()

    assert operation.state == "succeeded", operation.error


@pytest.mark.parametrize("way", ["validate", "upload"])
@pytest.mark.parametrize(("pause", "outcome"), [(PAUSE, "succeeded"), (30, "failed")], ids=["slow", "hangs"])
def test_pg_restore_reads_for_as_long_as_bytes_move(
    one_folder: Site,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    pause: float,
    outcome: str,
) -> None:
    backup = one_folder.backup()
    content = (one_folder.working / backup.name).read_bytes() + b" "
    settings.STALL_TIME_LIMIT = LIMIT
    pg_restore_reads(monkeypatch, backup.size, pause=pause)

    operation = one_folder.validate(backup) if way == "validate" else one_folder.upload(content)

    assert operation.state == outcome, operation.error
    if outcome == "failed":
        assert "Nothing moved for 2 seconds in the step “Read the whole archive”" in operation.error


def make_need(way: str, copy: Path) -> None:
    """Bring the copy into the state in which a check does ``way``."""
    if way == "store":
        copy.unlink()
    elif way == "replace":
        copy.write_bytes(b"damaged")


def stand_still(monkeypatch: pytest.MonkeyPatch, way: str, name: str) -> None:
    """In the second location ``way`` does not end for the file of this name."""
    real = getattr(LocalLocation, way)

    def stall(location: LocalLocation, *words: Any, **more: Any) -> Any:
        if location.alias == "second" and name in words:
            raise Stalled("Nothing moved.")
        return real(location, *words, **more)

    monkeypatch.setattr(LocalLocation, way, stall)


@pytest.mark.parametrize("way", ["digest", "store", "replace"])
def test_a_copy_that_stands_still_does_not_end_the_check_of_the_others(
    site: Site, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    first, second = site.backup(), site.backup()
    for backup in (first, second):
        make_need(way, site.second / backup.name)
    stand_still(monkeypatch, way, first.name)

    operation = site.check_copies()

    assert operation.state == "succeeded", operation.error
    assert operation.result["waiting"] == [f"{first.name} in second"]
    assert second.copies.get(location="second").state == BackupCopy.State.STORED
    assert operation.steps.filter(level="warning", what__contains="Nothing moved.").exists()


def test_a_fetch_that_stands_still_does_not_end_the_check_of_the_others(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = site.backup(), site.backup()
    for backup in (first, second):
        (site.second / backup.name).unlink()
    real, stalled = copies._find_intact, list[str]()

    def find(journal: Any, backup: Any, *more: Any) -> tuple[Path, str]:
        if not stalled:
            stalled.append(backup.name)
            raise Stalled("Nothing moved.")
        return real(journal, backup, *more)

    monkeypatch.setattr(copies, "_find_intact", find)

    operation = site.check_copies()

    assert operation.state == "succeeded", operation.error
    assert operation.result["waiting"] == [f"{stalled[0]} in second"]
    assert len(operation.result["repaired"]) == 1
    assert Operation.objects.get(pk=operation.pk).steps.filter(what__contains="Nothing moved.").exists()


@pytest.mark.parametrize("way", ["digest", "store", "replace"])
def test_a_copy_of_the_site_s_own_backup_that_stands_still_is_a_warning(
    site: Site, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    lying = site.second / str(site.backup_site().result["file"])
    make_need(way, lying)
    stand_still(monkeypatch, way, lying.name)

    operation = site.check_copies()

    assert operation.state == "succeeded", operation.error
    assert "Nothing moved." in str(operation.result["site_warnings"])


def test_a_location_that_stands_still_does_not_end_the_backup_of_the_site(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stall(*_words: Any, **_more: Any) -> Any:
        raise Stalled("Nothing moved.")

    monkeypatch.setattr(LocalLocation, "store", stall)

    operation = site.backup_site()

    assert (operation.state, operation.result["locations"]) == ("succeeded", ["working"]), operation.error
    assert "Nothing moved." in str(operation.result["warnings"])


def test_a_copy_of_the_site_s_own_backup_is_brought_for_as_long_as_it_takes(
    slow_disk: Site, settings: Settings
) -> None:
    settings.BACKUP_LOCATIONS = f"working={slow_disk.working},second={slow_disk.second}"
    lying = slow_disk.second / str(slow_disk.backup_site().result["file"])
    lying.unlink()

    operation = slow_disk.check_copies()

    assert operation.state == "succeeded", operation.error
    assert lying.exists()
