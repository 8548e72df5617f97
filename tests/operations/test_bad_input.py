"""Bad input gives one clear sentence; nothing is changed and nothing is left behind."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from backups_app import tasks
from backups_app.errors import Refused, UnknownBackup
from backups_app.models import Backup
from backups_app.systems.postgres import clients
from deploy.demo import embedded
from tests.conftest import url_of
from tests.operations.site import Site
from tests.real_world import need, read_only, small_disk

LOCATION = "The storage location working"


def insist_on_nothing(site: Site) -> None:
    assert not Backup.objects.exists()
    assert [path for path in site.working.rglob("*") if path.is_file()] == []


# --- the server ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda url: url.rsplit(":", 1)[0] + ":1/qrdb", "PostgreSQL at 127.0.0.1:1 cannot be reached"),
        (lambda url: url.replace("qr_owner:", "qr_owner:no"), "PostgreSQL refused the login of qr_owner"),
        (lambda url: url.replace("qr_owner", "nobody"), "PostgreSQL refused the login of nobody"),
        (lambda url: url.replace("/qrdb", "/gone"), "There is no database gone at 127.0.0.1"),
        (lambda _: "postgresql://user@/", "MANAGED_DATABASE_URL is not complete"),
        (lambda _: "", "MANAGED_DATABASE_URL is not set"),
    ],
    ids=["server down", "wrong password", "unknown role", "no such database", "half a URL", "no URL"],
)
def test_a_wrong_address_is_said_in_one_sentence(
    one_folder: Site, settings: Settings, change: Callable[[str], str], sentence: str
) -> None:
    settings.MANAGED_DATABASE_URL = change(url_of(one_folder.server))

    for operation in (one_folder.try_backup(), one_folder.validate_database()):
        assert operation.state == "failed"
        assert sentence in operation.error
        assert len(operation.error) < 250
    insist_on_nothing(one_folder)


def test_a_missing_pg_dump_is_said_with_the_package(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "installed", lambda *_: [])

    operation = one_folder.try_backup()

    assert operation.error == (
        "pg_dump 16 or newer is not installed: install the package postgresql-client-16. Nothing was changed."
    )
    insist_on_nothing(one_folder)


def test_an_older_pg_dump_is_not_used(one_folder: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real = clients.installed
    monkeypatch.setattr(clients, "installed", lambda *which: [c for c in real(*which) if c.major == 15])

    operation = one_folder.try_backup()

    assert "install the package postgresql-client-16" in operation.error


def test_a_newer_pg_dump_is_used(one_folder: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real = clients.installed
    newer = [found for found in real("pg_dump") if found.major == 18]
    need(bool(newer), "pg_dump 18 is not installed")
    monkeypatch.setattr(clients, "installed", lambda program, *_: [c for c in real(program) if c.major == 18])

    backup = one_folder.backup()

    assert backup.client_version.startswith("18.")
    refused = one_folder.prove(backup)
    assert "pg_restore 16 is not installed" in refused.error


def test_a_program_that_breaks_off_is_said_and_leaves_nothing(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch, superuser: psycopg.Connection[Any]
) -> None:
    superuser.execute("CREATE ROLE other")
    one_folder.execute("CREATE TABLE hers (id int)")
    with psycopg.connect(url_of(one_folder.server), autocommit=True) as connection:
        name = connection.info.dbname
    superuser_there = superuser.info.dsn.replace("dbname=postgres", f"dbname={name}")
    with psycopg.connect(superuser_there, password=superuser.info.password, autocommit=True) as connection:
        connection.execute("ALTER TABLE hers OWNER TO other")

    operation = one_folder.try_backup()

    assert operation.state == "failed"
    assert "The role qr_owner may not do this" in operation.error
    assert "hers" in operation.error
    insist_on_nothing(one_folder)


# --- the storage --------------------------------------------------------------------------------------


def test_a_missing_folder_is_said(one_folder: Site) -> None:
    one_folder.working.rmdir()

    operation = one_folder.try_backup()

    assert operation.error.startswith(f"{LOCATION} ({one_folder.working}) does not exist: create the folder")
    assert not one_folder.working.exists()
    one_folder.working.mkdir()


def test_a_read_only_folder_is_said(one_folder: Site, settings: Settings, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        settings.BACKUP_LOCATIONS = f"working={disk}"
        with read_only(disk):
            operation = one_folder.try_backup()

    assert operation.error.startswith(f"{LOCATION} ({disk}) cannot be used: it is read-only")
    insist_on_nothing(one_folder)


def test_a_disk_that_is_too_small_is_said_before_the_dump(
    one_folder: Site, settings: Settings, tmp_path: Path
) -> None:
    one_folder.backup()
    Backup.objects.update(size=50_000_000)
    with small_disk(tmp_path / "disk") as disk:
        settings.BACKUP_LOCATIONS = f"working={disk}"

        operation = one_folder.try_backup()

    assert operation.error.startswith("working has 2.1 MB free, a backup needs 60.0 MB: make room.")


def test_a_disk_that_fills_up_during_the_dump_is_said(
    one_folder: Site, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backups_app.operations.backup._insist_on_room", lambda *_: None)
    settings.BACKUP_COMPRESSION = "none"
    with small_disk(tmp_path / "disk", size="100k") as disk:
        settings.BACKUP_LOCATIONS = f"working={disk}"

        operation = one_folder.try_backup()

        left = [path.name for path in disk.iterdir()]
    assert operation.state == "failed"
    assert operation.error.startswith("A disk is full: make room, then try again")
    assert left == []
    assert not Backup.objects.exists()


def test_a_second_location_that_is_down_is_a_warning_and_a_copy_that_waits(site: Site) -> None:
    site.second.rmdir()

    operation = site.try_backup()

    site.second.mkdir()
    (warning,) = operation.result["warnings"]
    assert warning.startswith("No copy in second yet: The storage location second")
    backup = Backup.objects.get()
    assert backup.copies.get(location="second").problem in warning
    assert dict(backup.copies.values_list("location", "state")) == {"working": "stored", "second": "pending"}
    assert site.prove(backup).state == "succeeded"


def test_the_backup_itself_keeps_no_warning_of_a_copy_that_came_later(site: Site) -> None:
    site.second.rmdir()
    backup = site.backup()
    site.second.mkdir()

    site.check_copies()

    backup.refresh_from_db()
    assert backup.warnings == []
    assert set(backup.copies.values_list("state", flat=True)) == {"stored"}


def test_a_full_second_location_is_a_warning_and_leaves_no_half_copy(
    site: Site, settings: Settings, tmp_path: Path
) -> None:
    settings.BACKUP_COMPRESSION = "none"
    with small_disk(tmp_path / "disk", size="100k") as disk:
        settings.BACKUP_LOCATIONS = f"working={site.working},second={disk}"

        operation = site.try_backup()

        left = [path.name for path in disk.iterdir()]
    assert "is full: free some space or remove old backups" in operation.result["warnings"][0]
    assert left == []


def test_a_file_of_another_owner_in_the_second_location_is_left_as_it_is(site: Site, at_step: Any) -> None:
    def occupy(_: Any) -> None:
        (site.second / Backup.objects.get().name).write_text("somebody else's")

    at_step("Copy to second", occupy)

    operation = site.try_backup()

    name = operation.result["backup"]
    assert (site.second / name).read_text() == "somebody else's"
    assert f"second holds another file named {name}: it was left as it is." in operation.result["warnings"]


def test_a_table_that_lost_most_of_its_rows_is_warned_of(one_folder: Site) -> None:
    first = one_folder.backup()
    one_folder.execute("DELETE FROM qr_codes WHERE qr_type = 'dynamic'")

    second = one_folder.backup()
    third = one_folder.backup()
    third.pin("they were meant to go")
    fourth = one_folder.backup()

    assert first.warnings == fourth.warnings == []
    assert second.warnings[0].startswith("public.qr_codes has 111 rows, 334 in the backup before")
    assert second.warnings[1].startswith("public.scan_logs has 0 rows, 1002 in the backup before")
    assert third.warnings == second.warnings


def test_such_a_warning_lasts_a_week_and_outlasts_the_backup_before(one_folder: Site) -> None:
    first = one_folder.backup()
    one_folder.execute("TRUNCATE scan_logs")
    first.mark_removed("a clean-up")
    second = one_folder.backup()
    Backup.objects.filter(pk=first.pk).update(created_at=timezone.now() - timedelta(days=8))

    third = one_folder.backup()

    assert first.name in second.warnings[0]
    assert third.warnings == []


def test_a_backup_that_bears_a_time_in_the_future_is_no_measure(one_folder: Site) -> None:
    ahead = one_folder.backup()
    Backup.objects.filter(pk=ahead.pk).update(created_at=timezone.now() + timedelta(days=1))
    one_folder.execute("TRUNCATE scan_logs")

    assert one_folder.backup().warnings == []


def test_another_database_s_backup_raises_no_alarm(one_folder: Site) -> None:
    first = one_folder.backup()
    Backup.objects.filter(pk=first.pk).update(database="another")
    one_folder.execute("TRUNCATE scan_logs")

    assert one_folder.backup().warnings == []


# --- the file -----------------------------------------------------------------------------------------


def as_recorded(site: Site, backup: Backup, data: bytes) -> None:
    """Put ``data`` in place of the archive, with a record that fits: what an import might bring."""
    import hashlib

    (site.working / backup.name).write_bytes(data)
    Backup.objects.filter(pk=backup.pk).update(size=len(data), sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda data: data[: len(data) // 2],
            "(is damaged: it cannot be read to its end|cannot be restored: .*: could not read)",
        ),
        (lambda data: data[:7], "is cut short: it ends within its first bytes"),
        (lambda _: b"", "is empty."),
        (
            lambda _: b"\x89PNG\r\n\x1a\n" + bytes(2000),
            "is not a PostgreSQL archive: another program made",
        ),
        (lambda _: b"--\n-- PostgreSQL database dump\n--\nSET x = 1;", "is a plain SQL script"),
    ],
    ids=["half", "a few bytes", "empty", "a picture", "plain SQL"],
)
def test_a_file_that_is_no_whole_archive_is_said_and_never_restored(
    one_folder: Site, make: Callable[[bytes], bytes], sentence: str
) -> None:
    backup = one_folder.backup()
    as_recorded(one_folder, backup, make((one_folder.working / backup.name).read_bytes()))
    before = one_folder.rows()

    for ask in (one_folder.validate, one_folder.prove, one_folder.restore):
        operation = ask(Backup.objects.get(pk=backup.pk))
        assert (operation.state, operation.blame) == ("failed", "backup")
        assert re.match(f"{backup.name} {sentence}", operation.error)
        Backup.objects.filter(pk=backup.pk).update(damage="")

    assert one_folder.rows() == before
    assert one_folder.databases() == {"qrdb"}


def test_an_archive_of_another_database_is_not_restored(
    one_folder: Site, superuser: psycopg.Connection[Any], pg_major: int, tmp_path: Path
) -> None:
    backup = one_folder.backup()
    superuser.execute("CREATE DATABASE shop OWNER qr_owner")
    with one_folder.connected("shop") as connection:
        connection.execute("CREATE TABLE articles AS SELECT n FROM generate_series(1, 10) n")
    programs = embedded.find_bin(pg_major)
    assert programs is not None
    archive = subprocess.run(
        [programs / "pg_dump", "--format=custom", url_of(one_folder.server.at("shop"))],
        capture_output=True,
        check=True,
    ).stdout
    as_recorded(one_folder, backup, archive)
    before = one_folder.rows()

    operation = one_folder.restore(Backup.objects.get(pk=backup.pk))

    assert operation.state == "failed"
    assert "missing, although the backup's manifest lists it" in operation.error
    assert one_folder.rows() == before
    assert one_folder.databases() == {"qrdb", "shop"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "name",
    ["../qrdb_20250525_143022.sql", "a/qrdb_20250525_143022.sql", "/etc/passwd", "..", "", "qrdb.sql",
     "qrdb_20250525_143022.sql\n", "qrdb_20250525_143022.sql\0", "qrdb_20251325_143022.sql"],
)  # fmt: skip
def test_a_name_that_is_no_backup_s_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="is not the name of a backup file"):
        tasks.find_backup(name)


@pytest.mark.django_db
def test_an_unknown_name_is_said() -> None:
    with pytest.raises(UnknownBackup, match=r"There is no backup named qrdb_20250525_143022\.sql\."):
        tasks.find_backup("qrdb_20250525_143022.sql")
