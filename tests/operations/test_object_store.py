"""Backups in a folder and in an object store over HTTP: copied, repaired, restored."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from backups_app.models import Backup
from backups_app.operations import backup as backups
from backups_app.operations import leftovers
from backups_app.systems.vault.objects import ObjectLocation
from tests.object_store import KEY, accepted_key, authentication, held, relayed, unfinished
from tests.operations.site import Site, change_bytes

ELSEWHERE = "http://127.0.0.1:1"


def address(url: str, *, bucket: str = "backups") -> str:
    return f"s3://{bucket}/qr/prod?region=us-east-1&endpoint_url={url}"


@pytest.fixture
def remote(site: Site, settings: Settings, store_url: str, bucket: Any) -> Site:
    """The site with its working folder and a bucket; the bucket is named ``far``."""
    settings.S3_ACCESS_KEY, settings.S3_SECRET_KEY = KEY.access_key, KEY.secret_key
    settings.BACKUP_LOCATIONS = f"working={site.working},far={address(store_url)}"
    return site


@pytest.fixture
def at(remote: Site, settings: Settings) -> Callable[..., None]:
    """A function: the bucket is reached at another address from now on."""

    def move(url: str, **options: str) -> None:
        settings.BACKUP_LOCATIONS = f"working={remote.working},far={address(url, **options)}"

    return move


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """One try where production has three, so that a dead store costs a test no seconds."""
    from botocore.config import Config

    from backups_app.systems.vault import objects

    def config(**options: Any) -> Config:
        return Config(**options | {"retries": {"mode": "standard", "total_max_attempts": 1}})

    monkeypatch.setattr(objects, "Config", config)


def states(backup: Backup) -> dict[str, str]:
    return dict(backup.copies.values_list("location", "state"))


def flip(file: Any) -> None:
    change_bytes(file, lambda data: data.__setitem__(2000, data[2000] ^ 1))


def test_a_backup_lies_in_the_folder_and_in_the_bucket(remote: Site, bucket: Any) -> None:
    backup = remote.backup()

    assert states(backup) == {"working": "stored", "far": "stored"}
    assert held(bucket) == [f"qr/prod/{backup.name}", f"qr/prod/{backup.name}.json"]
    stored = bucket.get_object(Bucket="backups", Key=f"qr/prod/{backup.name}")["Body"].read()
    assert stored == (remote.working / backup.name).read_bytes()
    told = bucket.get_object(Bucket="backups", Key=f"qr/prod/{backup.name}.json")["Body"].read()
    assert json.loads(told)["sha256"] == backup.sha256
    assert KEY.secret_key not in told.decode()


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_local_copy_is_restored_from_the_bucket_and_then_repaired(
    remote: Site, bucket: Any, damage: str
) -> None:
    backup = remote.backup()
    whole, before = (remote.working / backup.name).read_bytes(), remote.rows()
    if damage == "gone":
        (remote.working / backup.name).unlink()
    else:
        flip(remote.working / backup.name)
    remote.execute("DELETE FROM qr_codes")

    restored = remote.restore(backup)
    checked = remote.check_copies()

    assert restored.state == "succeeded", restored.error
    assert remote.rows() == before
    assert f"{backup.name} in working" in checked.result["repaired"]
    assert (remote.working / backup.name).read_bytes() == whole
    assert not [path.name for path in remote.working.iterdir() if path.name.startswith("qradmin-scratch-")]


def test_a_damaged_object_is_replaced_from_the_folder(remote: Site, bucket: Any) -> None:
    backup = remote.backup()
    bucket.put_object(Bucket="backups", Key=f"qr/prod/{backup.name}", Body=b"damaged")

    operation = remote.check_copies()

    assert operation.result["repaired"] == [f"{backup.name} in far"]
    assert held(bucket) == [f"qr/prod/{backup.name}", f"qr/prod/{backup.name}.json"]
    assert remote.validate(backup).result["copies"] == {"working": "stored", "far": "stored"}


def test_a_connection_that_is_cut_once_costs_no_second_upload(
    remote: Site, settings: Settings, store_url: str, at: Callable[..., None]
) -> None:
    settings.BACKUP_COMPRESSION = "none"
    backup = remote.backup()
    with relayed(store_url) as relay:
        relay.cut_download_after, relay.cuts = 100_000, 1
        at(relay.url)

        operation = remote.check_copies()

        assert relay.cuts == 0
        assert relay.uploaded < backup.size / 10
    assert (operation.result["intact"], operation.result["repaired"]) == (2, [])
    assert states(backup) == {"working": "stored", "far": "stored"}
    assert operation.steps.filter(what__contains="broke off the connection").count() == 1
    assert not operation.steps.filter(what__startswith="Replace").exists()


def test_a_store_that_is_down_keeps_no_backup_from_being_made_and_gets_it_later(
    remote: Site, bucket: Any, store_url: str, at: Callable[..., None], impatient: None
) -> None:
    at(ELSEWHERE)
    operation = remote.try_backup()
    backup = Backup.objects.get()
    assert operation.state == "succeeded"
    assert "cannot be reached: check the endpoint and the network" in operation.result["warnings"][0]
    assert states(backup) == {"working": "stored", "far": "pending"}
    assert remote.check_copies(only_pending=True).result["unreachable"] == ["far"]
    at(store_url)

    later = remote.check_copies(only_pending=True)

    assert later.result["repaired"] == [f"{backup.name} in far"]
    assert states(backup) == {"working": "stored", "far": "stored"}


def test_a_bucket_that_is_missing_is_said(
    remote: Site, store_url: str, at: Callable[..., None], impatient: None
) -> None:
    at(store_url, bucket="forgotten")

    operation = remote.try_backup()

    assert operation.state == "succeeded"
    assert "has no bucket forgotten: create it or correct BACKUP_LOCATIONS" in operation.result["warnings"][0]
    assert states(Backup.objects.get())["far"] == "pending"


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("InvalidAccessKeyId", "does not accept the key: correct the credentials"),
        ("AccessDenied", "does not let this key do it: allow it to list, read, write and delete"),
        ("QuotaExceeded", "is full: raise its quota or remove old backups"),
    ],
)
def test_a_store_that_refuses_is_said_in_one_sentence(
    remote: Site, bucket: Any, monkeypatch: pytest.MonkeyPatch, code: str, sentence: str
) -> None:
    from botocore.exceptions import ClientError

    def refuse(*_words: object, **_more: object) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "PutObject")

    monkeypatch.setattr(ObjectLocation, "_send_at_once", refuse)

    operation = remote.try_backup()

    assert operation.state == "succeeded"
    assert sentence in operation.result["warnings"][0]
    assert KEY.secret_key not in json.dumps(operation.result)
    assert held(bucket) == []


def test_a_location_has_a_key_of_its_own(
    remote: Site, settings: Settings, store_url: str, bucket: Any, impatient: None
) -> None:
    settings.S3_ACCESS_KEY, settings.S3_SECRET_KEY = "AKIAOFANOTHER", "of-another-store"
    settings.S3_KEYS = {"far": (*accepted_key(store_url), "")}

    with authentication(store_url):
        operation = remote.try_backup()

    assert operation.result.get("warnings", []) == []
    assert len(held(bucket)) == 2


def test_a_wrong_key_is_said(
    remote: Site, settings: Settings, store_url: str, bucket: Any, impatient: None
) -> None:
    settings.S3_ACCESS_KEY, settings.S3_SECRET_KEY = "AKIAUNKNOWN", "wrong-secret"

    with authentication(store_url):
        operation = remote.try_backup()

    assert operation.state == "succeeded"
    assert "does not accept the key: correct the credentials" in operation.result["warnings"][0]
    assert "wrong-secret" not in json.dumps(operation.result)


def test_a_connection_cut_in_the_middle_of_an_upload_is_a_copy_that_waits(
    remote: Site,
    settings: Settings,
    bucket: Any,
    store_url: str,
    at: Callable[..., None],
    impatient: None,
) -> None:
    settings.BACKUP_COMPRESSION = "none"
    with relayed(store_url) as relay:
        relay.cut_upload_after = 50_000
        at(relay.url)
        operation = remote.try_backup()
        backup = Backup.objects.get()
        assert operation.state == "succeeded"
        assert "broke off the connection" in operation.result["warnings"][0]
        assert states(backup) == {"working": "stored", "far": "pending"}
        assert held(bucket) == unfinished(bucket) == []
    at(store_url)

    remote.check_copies(only_pending=True)

    assert states(backup) == {"working": "stored", "far": "stored"}
    assert remote.validate(backup).state == "succeeded"


def test_an_upload_of_another_site_into_the_same_bucket_is_left_alone(
    remote: Site, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = remote.backup()
    theirs, ours = "qr/prod/theirs_20250525_143022.sql", f"qr/prod/.{backup.name}.0123abcd.part"
    for key in (theirs, ours):
        bucket.create_multipart_upload(Bucket="backups", Key=key)
    an_hour = datetime.now(UTC) - timedelta(hours=1)
    listed = ObjectLocation._abort_uploads
    monkeypatch.setattr(
        ObjectLocation,
        "_abort_uploads",
        # moto's uploads all began in 2010
        lambda self, before, is_wanted: listed(self, before, is_wanted) if before > an_hour else iter(()),
    )

    leftovers.sweep_temporary_files()

    assert unfinished(bucket) == [theirs]


def test_foreign_objects_are_never_touched(remote: Site, bucket: Any) -> None:
    foreign = ["notes.txt", "qr/prod/notes.txt", "qr/prod/deeper/qrdb_20250101_000000.sql", "qr/prod/.hidden"]
    for key in foreign:
        bucket.put_object(Bucket="backups", Key=key, Body=b"mine")
    backup = remote.backup()

    remote.check_copies()
    found = remote.import_found()

    assert found.result["refused"] == []
    assert set(held(bucket)) == {*foreign, f"qr/prod/{backup.name}", f"qr/prod/{backup.name}.json"}
    assert all(bucket.get_object(Bucket="backups", Key=key)["Body"].read() == b"mine" for key in foreign)


def test_a_foreign_object_of_the_backups_name_is_never_overwritten(
    remote: Site, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "qrdb_20250525_143022.sql"
    bucket.put_object(Bucket="backups", Key=f"qr/prod/{name}", Body=b"somebody else's")
    monkeypatch.setattr(backups.vault, "make_name", lambda *_words, **_more: name)

    operation = remote.try_backup()
    checked = remote.check_copies()

    told = f"far holds another file named {name}: it was left as it is."
    assert (operation.state, operation.result["warnings"]) == ("succeeded", [told])
    assert checked.result["intact"] == 1
    assert states(Backup.objects.get()) == {"working": "stored", "far": "pending"}
    assert held(bucket) == [f"qr/prod/{name}"]
    assert bucket.get_object(Bucket="backups", Key=f"qr/prod/{name}")["Body"].read() == b"somebody else's"


def test_a_file_that_lies_in_the_bucket_alone_is_imported_and_restored(
    remote: Site, bucket: Any, tmp_path: Any
) -> None:
    from tests.operations.test_imports import old_dump

    name = "qrdb_20250101_030405.sql"
    content = old_dump(remote, tmp_path / "dump").read_bytes()
    bucket.put_object(Bucket="backups", Key=f"qr/prod/{name}", Body=content)
    before = remote.rows()
    remote.execute("DELETE FROM scan_logs")

    operation = remote.import_found()

    assert operation.result["adopted"] == [name]
    backup = Backup.objects.get(name=name)
    assert states(backup) == {"working": "pending", "far": "stored"}
    assert remote.restore(backup).state == "succeeded"
    assert remote.rows() == before
    remote.check_copies(only_pending=True)
    assert (remote.working / name).read_bytes() == content


def test_the_sites_own_database_goes_into_the_bucket_too(
    remote: Site, bucket: Any, superuser: Any, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    from backups_app import config

    settings.SITE_BACKUP_KEEP = 1
    superuser.execute(f"CREATE DATABASE qradmin OWNER {remote.server.user}")
    with remote.connected("qradmin") as connection:
        connection.execute("CREATE TABLE backups_app_operation AS SELECT 1 AS id")
    monkeypatch.setattr(config, "site_database", lambda: remote.server.at("qradmin"))
    bucket.put_object(Bucket="backups", Key="qr/prod/qradmin_site_20250101_000000.dump", Body=b"old")

    operation = remote.backup_site()

    assert operation.state == "succeeded", operation.error
    name = operation.result["file"]
    assert held(bucket) == [f"qr/prod/{name}", f"qr/prod/{name}.json"]
    assert operation.result["removed"] == ["qradmin_site_20250101_000000.dump in far"]
