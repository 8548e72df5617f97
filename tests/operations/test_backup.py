"""A backup is exact, complete, private, and whole or not at all."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from pytest_django.fixtures import Settings

from backups_app.models import Backup, Operation
from backups_app.operations import backup as backups
from backups_app.operations import copies, housekeeping
from backups_app.operations.journal import Journal
from backups_app.systems.postgres.clients import Client
from backups_app.systems.postgres.connections import Server
from backups_app.systems.vault import LocalLocation, parse_name
from tests.operations.site import Site, beside, cancel_at, wait_for


def test_a_backup_is_named_for_its_second_in_utc(site: Site) -> None:
    before = datetime.now(UTC).replace(microsecond=0)

    backup = site.backup()

    name = parse_name(backup.name)
    assert backup.name == f"qrdb_{name.moment:%Y%m%d_%H%M%S}.sql"
    assert before <= name.moment <= datetime.now(UTC)
    assert backup.state == "validated"


def test_the_file_and_its_description_belong_to_the_service_alone(site: Site) -> None:
    backup = site.backup()

    for folder in (site.working, site.second):
        files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert files == {backup.name: 0o600, f"{backup.name}.json": 0o600}
    assert set(backup.copies.values_list("location", "state")) == {
        ("working", "stored"),
        ("second", "stored"),
    }


def test_the_description_beside_each_copy_tells_all_that_the_record_knows(site: Site) -> None:
    backup = site.backup()

    told = [
        json.loads((folder / f"{backup.name}.json").read_text()) for folder in (site.working, site.second)
    ]
    assert told[0] == told[1]
    assert told[0]["sha256"] == backup.sha256
    assert told[0]["size"] == (site.working / backup.name).stat().st_size
    assert told[0]["manifest"] == backup.manifest
    assert told[0]["revision"] == "8d13a4dfeb1d"
    assert told[0]["server_version"].startswith("16.")
    assert site.server.password not in json.dumps(told)


def test_the_manifest_counts_every_table(site: Site) -> None:
    backup = site.backup()

    assert backup.manifest is not None
    rows = {table: state["rows"] for table, state in backup.manifest["tables"].items()}
    assert rows == {"public.alembic_version": 1, "public.qr_codes": 334, "public.scan_logs": 1002}
    assert backup.rows == 1337


def test_two_backups_within_one_second_get_two_names(one_folder: Site) -> None:
    names = {one_folder.backup().name for _ in range(3)}

    assert len(names) == 3


def test_a_file_of_the_name_is_never_overwritten(one_folder: Site) -> None:
    now = datetime.now(UTC)
    taken = [f"qrdb_{now + timedelta(seconds=ahead):%Y%m%d_%H%M%S}.sql" for ahead in range(3)]
    for name in taken:
        (one_folder.working / name).write_text("somebody else's")

    backup = one_folder.backup()

    assert backup.name not in taken
    assert {(one_folder.working / name).read_text() for name in taken} == {"somebody else's"}


def test_a_file_that_takes_the_name_during_the_dump_is_neither_overwritten_nor_cleaned_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, taken = backups._dump, []

    def then_taken(journal: Journal, server: Server, dumper: Client, file: Path, compression: str) -> Any:
        found = real(journal, server, dumper, file, compression)
        taken.append(file.with_name(file.name.removeprefix(".").removesuffix(".part")))
        taken[0].write_text("somebody else's")
        return found

    monkeypatch.setattr(backups, "_dump", then_taken)
    operation = site.try_backup()
    housekeeping.keep_house()

    assert operation.state == "failed"
    assert "it was left as it is" in operation.error
    assert operation.leftovers == []
    assert taken[0].read_text() == "somebody else's"


@pytest.mark.parametrize("is_there", [True, False], ids=["committed", "rolled back"])
def test_a_backup_whose_record_may_have_been_written_keeps_its_file_until_that_is_known(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    """The connection to the site's database breaks at the COMMIT."""
    real_record, real_commit, lost = backups._name_and_record, BaseDatabaseWrapper._commit, []

    def losing_commit(wrapper: BaseDatabaseWrapper) -> None:
        if not lost:
            lost.append(True)
            if is_there:
                real_commit(wrapper)
            raise OperationalError("server closed the connection unexpectedly")
        real_commit(wrapper)

    def record(*arguments: Any) -> Any:
        monkeypatch.setattr(BaseDatabaseWrapper, "_commit", losing_commit)
        return real_record(*arguments)

    monkeypatch.setattr(backups, "_name_and_record", record)

    operation = one_folder.try_backup()
    housekeeping.keep_house()

    recorded = [backup.name for backup in Backup.objects.all()]
    assert operation.state == ("succeeded" if is_there else "failed")
    assert len(recorded) == is_there
    assert {name for name in one_folder.files() if name.endswith(".sql")} == set(recorded)


def test_a_backup_whose_name_another_record_took_meanwhile_leaves_that_one_s_file(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = backups._name_and_record

    def after_another(file: Any, backup: Backup, working: Any) -> Any:
        Backup.objects.create(
            name=backup.name, origin="imported", created_at=backup.created_at, size=5, sha256="0" * 64
        )
        (one_folder.working / backup.name).write_text("other")
        return real(file, backup, working)

    monkeypatch.setattr(backups, "_name_and_record", after_another)

    operation = one_folder.try_backup()
    housekeeping.keep_house()

    operation.refresh_from_db()
    other = Backup.objects.get()
    assert (operation.state, operation.leftovers) == ("failed", [])
    assert operation.error.startswith(f"There is another backup named {other.name} meanwhile")
    assert (one_folder.working / other.name).read_text() == "other"


def test_a_backup_whose_worker_dies_right_after_its_record_is_a_whole_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = backups._name_and_record

    def then_die(*arguments: Any) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(backups, "_name_and_record", then_die)
    with pytest.raises(KeyboardInterrupt):
        site.try_backup()
    backup = Backup.objects.get()
    left = [{"what": "file", "name": backup.name, "location": "working"}]
    assert backup.operation is not None
    assert backup.operation.leftovers == left
    assert dict(backup.copies.values_list("location", "state")) == {"working": "stored", "second": "pending"}

    housekeeping.keep_house()

    assert not backup.operation.steps.filter(what__startswith="Cleaned up").exists()
    assert site.check_copies(only_pending=True).result["repaired"] == [f"{backup.name} in second"]
    assert site.validate(backup).state == "succeeded"


def test_a_file_of_the_name_in_another_location_is_left_there_for_good(
    site: Site, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.BACKUP_KEEP = "1"
    real, taken = copies.store_copy, []

    def take_first(*arguments: Any) -> Any:
        if not taken:
            taken.append(site.second / arguments[1].name)
            taken[0].write_text("somebody else's")
        return real(*arguments)

    monkeypatch.setattr(copies, "store_copy", take_first)
    first = site.backup()
    copy = first.copies.get(location="second")
    site.backup()
    site.backup()

    assert (copy.state, "holds another file" in copy.problem) == ("pending", True)
    assert Backup.objects.get(pk=first.pk).removed_at is not None
    assert taken[0].read_text() == "somebody else's"


def test_only_the_working_location_is_asked_for_the_name(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = LocalLocation.exists, set[str]()

    def exists(location: LocalLocation, name: str) -> bool:
        asked.add(location.alias)
        return real(location, name)

    monkeypatch.setattr(LocalLocation, "exists", exists)

    backup = site.backup()

    assert asked == {"working"}
    assert set(backup.copies.values_list("state", flat=True)) == {"stored"}


@pytest.mark.parametrize("chosen", ["zstd:1", "gzip:6", "none", "best"])
def test_each_compression_gives_a_backup_that_can_be_proven(
    one_folder: Site, settings: Settings, chosen: str
) -> None:
    from backups_app.systems.postgres import clients

    if chosen.startswith("zstd") and not clients.best_compression(clients.for_dump(16)).startswith("zstd"):
        settings.BACKUP_COMPRESSION = chosen
        operation = one_folder.try_backup()
        assert operation.state == "failed"
        assert "compression" in operation.error
        assert one_folder.files() == set()
        return
    settings.BACKUP_COMPRESSION = chosen

    backup = one_folder.backup()

    assert backup.compression == ("gzip:1" if chosen == "best" else chosen)
    assert one_folder.prove(backup).state == "succeeded"


def test_a_cancelled_backup_leaves_no_file_and_no_record(site: Site) -> None:
    with site.locked(), beside(cancel_at("Dump")):
        operation = site.try_backup()

    assert operation.state == "cancelled"
    assert operation.error == "It was cancelled by an operator. Nothing was changed."
    assert site.files() == set()
    assert not Backup.objects.exists()
    assert operation.leftovers == []


def test_cancelling_ends_a_dump_that_waits_for_a_lock_within_seconds(site: Site) -> None:
    def cancel_when_pg_dump_waits() -> None:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'qradmin-op-%'"
        with site.connected("postgres") as watcher:
            wait_for(lambda: (watcher.execute(query).fetchone() or [0])[0])
        operation = Operation.objects.running().get()
        assert operation.request_cancel("an operator")

    with site.locked(), beside(cancel_when_pg_dump_waits):
        operation = site.try_backup()

        with site.connected("postgres") as watcher:
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
            wait_for(lambda: watcher.execute(query, (operation.application_name,)).fetchone() == (0,), 5)
    assert operation.state == "cancelled"
    assert operation.finished_at is not None
    assert operation.cancel_requested_at is not None
    assert operation.finished_at - operation.cancel_requested_at < timedelta(seconds=4)
