"""A damaged file gives way only to a replacement that has been read back beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from backups_app.errors import Cancelled, StorageProblem
from backups_app.systems.vault import LocalLocation, Location, Stored
from backups_app.systems.vault import streams as streams_module
from backups_app.systems.vault.objects import ObjectLocation
from backups_app.systems.vault.transfers import MEBIBYTE
from tests.object_store import KEY, held, relayed, unfinished

NAME = "qrdb_20250525_143022.sql"
SIZE = 9 * MEBIBYTE + 3  # more than one part


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture(params=["folder", "bucket"])
def location(request: pytest.FixtureRequest, tmp_path: Path, store_url: str, bucket: Any) -> Location:
    """One location of each sort, which holds a damaged file."""
    if request.param == "folder":
        folder = tmp_path / "folder"
        folder.mkdir(mode=0o700)
        (folder / NAME).write_bytes(b"damaged")
        return LocalLocation(alias="near", folder=folder)
    bucket.put_object(Bucket="backups", Key=f"qr/{NAME}", Body=b"damaged")
    return far(store_url)


def far(url: str) -> ObjectLocation:
    return ObjectLocation(
        alias="far",
        bucket="backups",
        prefix="qr",
        endpoint_url=url,
        region="us-east-1",
        credentials=KEY,
        read_timeout=5.0,
    )


def test_the_damaged_file_is_replaced_and_nothing_else_is_left(
    location: Location, source: Path, bucket: Any
) -> None:
    moved: list[int] = []

    written = location.replace(source, NAME, on_bytes=moved.append)

    assert written.size == SIZE
    assert sum(moved) == (2 if location.is_local else 4) * SIZE
    assert location.digest(NAME) == written
    assert held(bucket) in ([], [f"qr/{NAME}"])
    assert unfinished(bucket) == []
    assert location.sweep_temporary(0) == []
    if isinstance(location, LocalLocation):
        assert [(path.name, path.stat().st_mode & 0o777) for path in location.folder.iterdir()] == [
            (NAME, 0o600)
        ]


def test_a_replacement_that_was_cancelled_leaves_the_damaged_file(location: Location, source: Path) -> None:
    moved: list[int] = []

    def watch() -> None:
        if sum(moved) > SIZE + MEBIBYTE:
            raise Cancelled("Cancelled while it was read back.")

    with pytest.raises(Cancelled):
        location.replace(source, NAME, watch=watch, on_bytes=moved.append)

    assert location.digest(NAME).size == len(b"damaged")
    assert location.sweep_temporary(0) == []


def test_a_replacement_that_reads_back_differently_leaves_the_damaged_file(
    location: Location, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = streams_module.move

    def lossy(reader: Any, writer: Any, **options: Any) -> Stored:
        found = real(reader, writer, **options)
        return found if writer else Stored(found.size, "0" * 64)

    monkeypatch.setattr(streams_module, "move", lossy)

    with pytest.raises(StorageProblem, match="does not give back what was written"):
        location.replace(source, NAME)

    assert location.digest(NAME).size == len(b"damaged")


def test_a_connection_cut_in_the_middle_leaves_the_damaged_object(
    store_url: str, bucket: Any, source: Path
) -> None:
    bucket.put_object(Bucket="backups", Key=f"qr/{NAME}", Body=b"damaged")
    with relayed(store_url) as relay:
        relay.cut_upload_after = MEBIBYTE

        with pytest.raises(StorageProblem, match=r"cannot be used|broke off"):
            far(relay.url).replace(source, NAME)

    assert far(store_url).digest(NAME).size == len(b"damaged")
    far(store_url).sweep_temporary(0)
    assert held(bucket) == [f"qr/{NAME}"]


def test_what_a_killed_replacement_left_is_swept_and_foreign_objects_are_not(
    store_url: str, bucket: Any
) -> None:
    for key in (f"qr/.{NAME}.0123abcd.part", "qr/.notes.part", f"qr/{NAME}", "qr/.hidden"):
        bucket.put_object(Bucket="backups", Key=key, Body=b"x")

    assert far(store_url).sweep_temporary(0) == [f".{NAME}.0123abcd.part"]
    assert held(bucket) == ["qr/.hidden", "qr/.notes.part", f"qr/{NAME}"]
