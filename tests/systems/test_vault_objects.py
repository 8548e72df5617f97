"""A bucket of an object store, over real HTTP, takes backup files whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from backups_app.errors import Cancelled, NoSpace, Refused, StorageProblem
from backups_app.systems.vault import (
    ConnectionBroken,
    Credentials,
    MissingCopy,
    NameTaken,
    Stored,
    StoredFile,
)
from backups_app.systems.vault.objects import ObjectLocation
from backups_app.systems.vault.transfers import MEBIBYTE, SMALLEST_PART, part_size
from tests.object_store import KEY, authentication, held, relayed, unfinished

NAME = "qrdb_20250525_143022.sql"
OTHER = "qrdb_20250526_143022_before_restore.sql"


@pytest.fixture
def client(bucket: object) -> object:
    return bucket


@pytest.fixture
def location(store_url: str, client: object) -> ObjectLocation:
    return at(store_url)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(100_000))
    return path


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big"
    path.write_bytes(os.urandom(20 * MEBIBYTE + 17))
    return path


def at(url: str, **options: object) -> ObjectLocation:
    settings = {"prefix": "qr/prod", "region": "us-east-1", "credentials": KEY, "read_timeout": 5.0}
    return ObjectLocation(alias="far", bucket="backups", endpoint_url=url, **(settings | options))


def expected(path: Path) -> Stored:
    data = path.read_bytes()
    return Stored(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def cancel_when(reached: Callable[[], bool]) -> Callable[[], None]:
    def watch() -> None:
        if reached():
            raise Cancelled("Cancelled.")

    return watch


def test_a_file_is_stored_and_fetched_as_it_was(
    location: ObjectLocation, client: object, big: Path, source: Path, tmp_path: Path
) -> None:
    moved: list[int] = []

    stored = location.store(big, NAME, on_bytes=moved.append, watch=lambda: None)
    small = location.store(source, OTHER)
    fetched = location.fetch(NAME, tmp_path / "target", watch=lambda: None)

    assert stored == fetched == location.digest(NAME) == expected(big)
    assert small == location.digest(OTHER) == expected(source)
    assert (tmp_path / "target").read_bytes() == big.read_bytes()
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o600
    assert sum(moved) == 2 * stored.size
    assert held(client) == [f"qr/prod/{NAME}", f"qr/prod/{OTHER}"]
    assert unfinished(client) == []


def test_an_empty_file_and_a_file_of_exactly_one_part_are_stored(
    location: ObjectLocation, tmp_path: Path
) -> None:
    for size, name in ((0, NAME), (SMALLEST_PART, OTHER)):
        (tmp_path / name).write_bytes(b"x" * size)
        assert location.store(tmp_path / name, name) == expected(tmp_path / name)


def test_parts_are_large_enough_for_the_largest_object() -> None:
    five_tebibytes = 5 * 1024**4

    assert part_size(9 * MEBIBYTE) == 8 * MEBIBYTE
    assert five_tebibytes / part_size(five_tebibytes) <= 10_000
    assert part_size(five_tebibytes) % MEBIBYTE == 0


def test_a_stored_file_is_never_overwritten(location: ObjectLocation, client: object, source: Path) -> None:
    client.put_object(Bucket="backups", Key=f"qr/prod/{NAME}", Body=b"the first")

    with pytest.raises(NameTaken):
        location.store(source, NAME)

    assert location.digest(NAME).size == len(b"the first")


@pytest.mark.parametrize("kind", ["small", "big"])
def test_a_name_taken_during_the_upload_is_not_overwritten(
    location: ObjectLocation, client: object, source: Path, big: Path, kind: str
) -> None:
    exists = iter([True])

    def someone_else() -> None:
        if next(exists, False):
            client.put_object(Bucket="backups", Key=f"qr/prod/{NAME}", Body=b"the first")

    with pytest.raises(NameTaken):
        location.store({"small": source, "big": big}[kind], NAME, watch=someone_else)

    assert location.digest(NAME).size == len(b"the first")
    assert unfinished(client) == []


def test_an_upload_whose_first_answer_was_lost_counts_as_ours(
    location: ObjectLocation, client: object, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = ObjectLocation._upload

    def after_the_lost_attempt(*words: Any, **more: Any) -> Any:
        client.put_object(Bucket="backups", Key=f"qr/prod/{NAME}", Body=source.read_bytes())
        return upload(*words, **more)

    monkeypatch.setattr(ObjectLocation, "_upload", after_the_lost_attempt)

    assert location.store(source, NAME) == expected(source)


def test_a_copy_that_reads_back_differently_is_deleted(
    location: ObjectLocation, client: object, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(_moved: int) -> None:
        client.put_object(Bucket="backups", Key=f"qr/prod/{NAME}", Body=b"changed")

    with pytest.raises(StorageProblem, match="does not give back what was written"):
        location.store(source, NAME, on_bytes=changed)

    assert held(client) == []


def test_only_backup_files_are_listed_in_order_over_many_pages(
    location: ObjectLocation, client: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "7")
    names = [f"qrdb_20250525_1000{number}.sql" for number in range(10, 40)]
    for name in reversed(names):
        client.put_object(Bucket="backups", Key=f"qr/prod/{name}", Body=b"12345")
    for foreign in ("notes.txt", f"deeper/{NAME}", f"{NAME}.json", f"x{NAME}.bak"):
        client.put_object(Bucket="backups", Key=f"qr/prod/{foreign}", Body=b"x")
    client.put_object(Bucket="backups", Key=NAME, Body=b"x")

    found = location.names()

    assert [stored.name for stored in found] == names
    assert isinstance(found[0], StoredFile)
    assert found[0].size == 5
    assert abs(found[0].modified.timestamp() - time.time()) < 60


def test_a_bucket_can_be_used_without_a_prefix(store_url: str, client: object, source: Path) -> None:
    whole = at(store_url, prefix="")

    whole.store(source, NAME)

    assert held(client) == [NAME]
    assert [stored.name for stored in whole.names()] == [NAME]


def test_a_missing_file_has_its_own_error_and_counts_as_removed(
    location: ObjectLocation, tmp_path: Path
) -> None:
    with pytest.raises(MissingCopy):
        location.digest(NAME)
    with pytest.raises(MissingCopy):
        location.fetch(NAME, tmp_path / "target")
    assert location.remove(NAME) is False
    assert location.read_text(NAME) is None
    assert location.exists(NAME) is False
    assert location.local_path(NAME) is None
    assert not (tmp_path / "target").exists()


def test_a_sidecar_is_replaced_whole_and_goes_with_its_file(
    location: ObjectLocation, client: object, source: Path
) -> None:
    location.store(source, NAME)
    location.write_text(NAME, "first")
    location.write_text(NAME, "ünïcode 漢字")

    assert location.read_text(NAME) == "ünïcode 漢字"
    assert location.remove(NAME) is True
    assert held(client) == []


@pytest.mark.parametrize("name", ["../x.sql", "/etc/passwd", f"a/{NAME}", f"{NAME}\n", "", f"{NAME}.json"])
def test_no_method_takes_a_name_outside_the_pattern(
    location: ObjectLocation, source: Path, tmp_path: Path, name: str
) -> None:
    calls = [
        lambda: location.store(source, name),
        lambda: location.fetch(name, tmp_path / "target"),
        lambda: location.digest(name),
        lambda: location.remove(name),
        lambda: location.exists(name),
        lambda: location.local_path(name),
        lambda: location.write_text(name, "x"),
        lambda: location.read_text(name),
    ]
    for call in calls:
        with pytest.raises(Refused):
            call()


def test_a_check_leaves_nothing_behind(location: ObjectLocation, client: object) -> None:
    location.check()

    assert held(client) == []
    assert location.free_bytes() is None


def test_a_missing_bucket_is_said_by_every_call(
    location: ObjectLocation, source: Path, tmp_path: Path
) -> None:
    nowhere = replace(location, bucket="no-such-bucket")
    calls = [
        nowhere.check,
        nowhere.names,
        lambda: nowhere.store(source, NAME),
        lambda: nowhere.digest(NAME),
        lambda: nowhere.fetch(NAME, tmp_path / "target"),
        lambda: nowhere.exists(NAME),
        lambda: nowhere.remove(NAME),
        lambda: nowhere.write_text(NAME, "x"),
        lambda: nowhere.read_text(NAME),
        lambda: nowhere.sweep_temporary(0),
    ]
    for call in calls:
        with pytest.raises(StorageProblem, match="has no bucket no-such-bucket: create it") as error:
            call()
        assert not isinstance(error.value, MissingCopy)


@pytest.mark.parametrize("wrong", [{"endpoint_url": "http://a store"}, {"region": ""}])
def test_what_the_library_does_not_take_is_a_sentence_of_the_location(wrong: dict[str, str]) -> None:
    location = ObjectLocation("far", "backups", credentials=KEY, **wrong)

    with pytest.raises(StorageProblem, match="cannot be used as it is set: check its URL"):
        location.check()


def test_an_endpoint_that_is_down_is_said_soon(source: Path, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    down = at(f"http://127.0.0.1:{port}")
    began = time.monotonic()

    for call in (down.check, down.names, lambda: down.store(source, NAME), lambda: down.digest(NAME)):
        with pytest.raises(ConnectionBroken, match="cannot be reached") as error:
            call()
        assert "secret-word" not in error.value.message + error.value.detail

    assert time.monotonic() - began < 120


def test_a_wrong_key_is_said(store_url: str, client: object) -> None:
    with authentication(store_url), pytest.raises(StorageProblem, match="does not accept the key") as error:
        at(store_url, credentials=Credentials("AKIAWRONG", "hunter2")).check()

    assert not isinstance(error.value, ConnectionBroken)
    assert "hunter2" not in error.value.message + error.value.detail


def test_a_key_that_may_not_write_is_told_what_to_allow(store_url: str, client: object) -> None:
    iam = boto3.client(
        "iam",
        endpoint_url=store_url,
        region_name="us-east-1",
        aws_access_key_id=KEY.access_key,
        aws_secret_access_key=KEY.secret_key,
    )
    with closing(iam):
        iam.create_user(UserName="reader")
        document = {"Version": "2012-10-17", "Statement": []}
        document["Statement"] = [{"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": "*"}]
        iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=json.dumps(document))
        made = iam.create_access_key(UserName="reader")["AccessKey"]
        reader = at(store_url, credentials=Credentials(made["AccessKeyId"], made["SecretAccessKey"]))

        with authentication(store_url):
            assert reader.names() == []
            with pytest.raises(StorageProblem, match="does not let this key do it: allow it to list, read"):
                reader.check()


def test_a_connection_cut_in_the_middle_of_an_upload_leaves_nothing(
    store_url: str, client: object, big: Path
) -> None:
    with relayed(store_url) as relay:
        relay.cut_upload_after = 12 * MEBIBYTE

        with pytest.raises(StorageProblem, match=r"broke off the connection|cannot be reached"):
            at(relay.url).store(big, NAME)

        assert held(client) == []
        left = unfinished(client)
    assert left == [f"qr/prod/{NAME}"]
    assert at(store_url).sweep_temporary(40 * 365 * 86400) == []  # moto's uploads all began in 2010
    assert at(store_url).sweep_temporary(0) == [NAME]
    assert unfinished(client) == []


def test_a_connection_that_is_cut_once_is_taken_up_again(store_url: str, client: object, big: Path) -> None:
    with relayed(store_url) as relay:
        relay.cut_upload_after = 12 * MEBIBYTE
        relay.cuts = 1

        assert at(relay.url).store(big, NAME) == expected(big)
        assert relay.cuts == 0

    assert unfinished(client) == []


def test_a_connection_cut_in_the_middle_of_a_download_leaves_nothing(
    store_url: str, client: object, big: Path, tmp_path: Path
) -> None:
    at(store_url).store(big, NAME)
    with relayed(store_url) as relay:
        relay.cut_download_after = 9 * MEBIBYTE

        with pytest.raises(ConnectionBroken, match="broke off the connection"):
            at(relay.url).fetch(NAME, tmp_path / "target")
        with pytest.raises(ConnectionBroken):
            at(relay.url).digest(NAME)

    assert not (tmp_path / "target").exists()


def test_a_copy_that_could_not_be_read_back_is_not_kept(store_url: str, client: object, big: Path) -> None:
    with relayed(store_url) as relay:
        relay.cut_download_after = 9 * MEBIBYTE
        relay.cuts = 1

        with pytest.raises(StorageProblem):
            at(relay.url).store(big, NAME)

        assert relay.cuts == 0
    assert held(client) == []


@pytest.mark.parametrize("stall_after", [0, 12 * MEBIBYTE], ids=["at once", "in the middle"])
def test_cancel_ends_a_stalled_upload_within_seconds(
    store_url: str, client: object, big: Path, stall_after: int
) -> None:
    with relayed(store_url) as relay:
        relay.stall_upload_after = stall_after
        began: list[float] = []

        def stalled() -> bool:
            if relay.stalled.is_set() and not began:
                began.append(time.monotonic())
            return bool(began)

        with pytest.raises(Cancelled):
            at(relay.url, read_timeout=60).store(big, NAME, watch=cancel_when(stalled))

        assert time.monotonic() - began[0] < 40
    assert held(client) == []


def test_cancelled_uploads_and_checks_leave_nothing(
    location: ObjectLocation, client: object, big: Path, tmp_path: Path
) -> None:
    for bytes_moved in (1, 9 * MEBIBYTE, 22 * MEBIBYTE):
        moved: list[int] = []
        with pytest.raises(Cancelled):
            location.store(
                big,
                NAME,
                on_bytes=moved.append,
                watch=cancel_when(lambda moved=moved, limit=bytes_moved: sum(moved) >= limit),
            )
        assert (held(client), unfinished(client)) == ([], [])

    location.store(big, NAME)
    moved = []
    with pytest.raises(Cancelled):
        location.fetch(
            NAME, tmp_path / "target", on_bytes=moved.append, watch=cancel_when(lambda: bool(moved))
        )
    assert not (tmp_path / "target").exists()


def test_a_full_store_is_said(
    location: ObjectLocation, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_options: object) -> None:
        raise ClientError({"Error": {"Code": "QuotaExceeded", "Message": "no room"}}, "PutObject")

    monkeypatch.setattr(location._client, "put_object", full)

    with pytest.raises(NoSpace, match="is full"):
        location.store(source, NAME)


def test_a_store_without_conditional_writes_is_asked_without(
    location: ObjectLocation, source: Path, big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for call in ("put_object", "complete_multipart_upload"):
        real = getattr(location._client, call)

        def old(real: Callable[..., object] = real, **options: object) -> object:
            if "IfNoneMatch" in options:
                raise ClientError({"Error": {"Code": "NotImplemented"}}, "PutObject")
            return real(**options)

        monkeypatch.setattr(location._client, call, old)

    assert location.store(source, NAME) == expected(source)
    assert location.store(big, OTHER) == expected(big)


def test_memory_stays_flat_while_a_large_file_travels(store_url: str, client: object, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        for _ in range(96):
            file.write(os.urandom(MEBIBYTE))
    program = """
import resource, sys
from pathlib import Path
from django.conf import settings
settings.configure()
from backups_app.systems.vault.configured import Credentials
from backups_app.systems.vault.objects import ObjectLocation
place = ObjectLocation("far", "backups", endpoint_url=sys.argv[1], region="us-east-1",
                       credentials=Credentials("a", "b"))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
place.names()
before = peak()
place.store(Path(sys.argv[2]), sys.argv[3])
place.fetch(sys.argv[3], Path(sys.argv[2] + ".back"))
print(peak() - before)
"""

    printed = subprocess.run(
        [sys.executable, "-c", program, store_url, large, NAME], capture_output=True, check=True
    ).stdout

    assert int(printed) < 48 * 1024  # KiB
    assert Path(f"{large}.back").read_bytes() == large.read_bytes()
