"""A folder that answers no more, as on a mount whose server is gone, holds nobody up for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

import pytest

from backups_app.errors import Cancelled
from backups_app.systems.vault import ConnectionBroken, LocalLocation, bounded, parse_locations, streams
from tests.patience import wait_until

NAME = "qrdb_20250525_143022.sql"
SENTENCE = r"^The storage location nas \(.*\) does not answer: see whether its network mount hangs\.$"


@pytest.fixture
def nas(tmp_path: Path) -> LocalLocation:
    folder = tmp_path / "nas"
    folder.mkdir()
    (folder / NAME).write_bytes(b"x" * 10)
    return LocalLocation(alias="nas", folder=folder, patience=0.3)


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., threading.Event]]:
    """A function: whatever of that name is called waits until the event that it returns is set."""
    made: list[threading.Event] = []

    def hang(owner: Any, name: str) -> threading.Event:
        ends, whole = threading.Event(), getattr(owner, name)
        made.append(ends)

        def waits(*args: Any, **options: Any) -> Any:
            assert ends.wait(30)
            return whole(*args, **options)

        monkeypatch.setattr(owner, name, waits)
        return ends

    yield hang
    for ends in made:
        ends.set()


CALLS: dict[str, tuple[str, Callable[[LocalLocation], object]]] = {
    "check": ("create", lambda nas: nas.check()),
    "exists": ("stat_of", lambda nas: nas.exists(NAME)),
    "remove": ("flush_path_to_disk", lambda nas: nas.remove(NAME)),
    "write_text": ("create", lambda nas: nas.write_text(NAME, "{}")),
    "read_text": ("open_to_read", lambda nas: nas.read_text(NAME)),
    "digest": ("open_to_read", lambda nas: nas.digest(NAME)),
    "fetch": ("open_to_read", lambda nas: nas.fetch(NAME, nas.folder.parent / "target")),
    "store": ("create", lambda nas: nas.store(nas.folder / NAME, NAME.replace("2025", "2024"))),
    "replace": ("create", lambda nas: nas.replace(nas.folder / NAME, NAME)),
}


@pytest.mark.parametrize("call", CALLS)
def test_no_call_waits_for_a_silent_folder(
    nas: LocalLocation, hang: Any, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    what, ask = CALLS[call]
    for name in ("READ_SECONDS", "WRITE_SECONDS"):
        monkeypatch.setattr(bounded, name, 0.3)
    answers_again = hang(Path, "lstat") if what == "stat_of" else hang(streams, what)
    began = time.monotonic()

    with pytest.raises(ConnectionBroken, match=SENTENCE):
        ask(nas)
    asked_again = time.monotonic()
    with pytest.raises(ConnectionBroken, match=SENTENCE):
        nas.free_bytes()

    assert asked_again - began < 10
    assert time.monotonic() - asked_again < 0.2, "while one call hangs nobody waits for another"
    answers_again.set()
    wait_until(lambda: not bounded._left_behind or all(one.done() for one in bounded._left_behind.values()))
    assert nas.free_bytes() > 0


def test_reading_that_stops_in_the_middle_ends_in_time(
    nas: LocalLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "READ_SECONDS", 0.3)
    monkeypatch.setattr(streams, "CHUNK", 4)
    whole, ends, moved = streams.open_to_read, threading.Event(), list[int]()

    class Stuck:
        def __init__(self, file: BinaryIO) -> None:
            self._file, self._left = file, 2

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_error: object) -> None:
            self._file.close()

        def read(self, size: int) -> bytes:
            self._left -= 1
            if self._left < 0:
                ends.wait(30)
            return self._file.read(size)

    monkeypatch.setattr(streams, "open_to_read", lambda path: Stuck(whole(path)))

    with pytest.raises(ConnectionBroken, match=SENTENCE):
        nas.digest(NAME, on_bytes=moved.append)

    assert moved == [4, 4]
    ends.set()


def test_a_cancel_is_heard_while_a_folder_is_silent(nas: LocalLocation, hang: Any) -> None:
    hang(streams, "open_to_read")
    began = time.monotonic()

    def watch() -> None:
        if time.monotonic() - began > 0.2:
            raise Cancelled("Cancelled.")

    with pytest.raises(Cancelled):
        nas.digest(NAME, watch=watch)

    assert time.monotonic() - began < bounded.FAREWELL_SECONDS + 5


def test_a_silent_folder_does_not_keep_the_locations_from_being_known(
    nas: LocalLocation, hang: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backups_app.systems.vault.configured.LOOK_SECONDS", 0.3)
    hang(Path, "stat")
    began = time.monotonic()

    found = parse_locations(f"nas={nas.folder},offsite={nas.folder.parent}/other")

    assert [spec.alias for spec in found] == ["nas", "offsite"]
    assert time.monotonic() - began < 10


def test_whether_a_file_is_wanted_is_asked_where_the_records_are_open(nas: LocalLocation) -> None:
    """A connection to the site's database belongs to one thread."""
    (nas.folder / f".{NAME}.0123abcd.part").write_bytes(b"half")
    asked_in: list[threading.Thread] = []

    def is_wanted(_name: str) -> bool:
        asked_in.append(threading.current_thread())
        return True

    assert nas.sweep_temporary(-5, is_wanted=is_wanted) == [f".{NAME}.0123abcd.part"]
    assert asked_in == [threading.current_thread()]
