"""The import page: what was found, and a file handed in without ever lying in another place."""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pytest_django.fixtures import Settings

from backups_app.admin import uploading
from backups_app.models import Operation
from tests.interface.conftest import Log_in
from tests.real_world import small_disk

HEAD = b"PGDMP\x01\x0f\x00\x04\x08\x01" + bytes(100)
PAGE = "/backups_app/backup/import/"


@pytest.fixture
def folder(tmp_path: Path, settings: Settings) -> Path:
    folder = tmp_path / "backups"
    folder.mkdir(mode=0o700)
    settings.BACKUP_LOCATIONS = f"working={folder}"
    return folder


def upload(client: Client, content: bytes, name: str = "theirs.sql", **more: Any) -> Any:
    return client.post(PAGE, {"file": SimpleUploadedFile(name, content), **more})


def test_what_was_found_is_shown_and_can_be_imported(staff: Client, folder: Path) -> None:
    (folder / "qrdb_20250101_030405.sql").write_bytes(HEAD)
    (folder / "notes.txt").write_text("mine")

    page = staff.get(PAGE).content.decode()
    answer = staff.post(f"{PAGE}found/")

    assert "qrdb_20250101_030405.sql" in page
    assert "notes.txt" not in page
    assert "An imported backup stays for as long as a safety backup does" in page
    asked = Operation.objects.get(kind="import")
    assert answer.headers["Location"] == f"/backups_app/operation/{asked.pk}/change/"
    assert asked.parameters == {"dry_run": False}


def test_a_location_that_is_down_is_said_on_the_page(staff: Client, folder: Path) -> None:
    folder.rmdir()

    answer = staff.get(PAGE)

    assert answer.status_code == 200
    assert "does not exist: create the folder" in answer.content.decode()


def test_an_uploaded_file_waits_in_the_working_location_for_the_service_alone(
    staff: Client, folder: Path
) -> None:
    answer = upload(staff, HEAD, "Übung & <b>.sql")

    asked = Operation.objects.get(kind="import")
    assert answer.headers["Location"] == f"/backups_app/operation/{asked.pk}/change/"
    (file,) = folder.iterdir()
    assert asked.parameters == {"upload": file.name, "original": "Übung & <b>.sql"}
    assert file.read_bytes() == HEAD
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert asked.requested_by_name == "itstaff"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "The uploaded file is empty."),
        (b"-- PostgreSQL database dump\n", "The uploaded file is a plain SQL script"),
        (b"GIF89a" + bytes(100), "The uploaded file is not a PostgreSQL archive"),
        (HEAD[:9], "The uploaded file is cut short"),
    ],
    ids=["empty", "plain SQL", "foreign", "cut"],
)
def test_what_is_no_archive_is_refused_on_the_page_and_nothing_is_left(
    staff: Client, folder: Path, content: bytes, sentence: str
) -> None:
    answer = upload(staff, content)

    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert list(folder.iterdir()) == []
    assert not Operation.objects.exists()


@pytest.mark.parametrize("is_told", [True, False], ids=["its size is told", "its size is not told"])
def test_a_file_over_the_limit_is_refused_and_nothing_is_left(
    staff: Client, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, is_told: bool
) -> None:
    settings.UPLOAD_LIMIT_MB = 1
    if not is_told:
        real = uploading.UploadToFolder.new_file

        def new_file(handler: Any, *words: Any, **more: Any) -> None:
            real(handler, *words[:3], None, *words[4:], **more)

        monkeypatch.setattr(uploading.UploadToFolder, "new_file", new_file)

    answer = upload(staff, HEAD + bytes(3 * 1024 * 1024))

    assert answer.status_code == 422
    assert "The file is larger than 1 MB" in answer.content.decode()
    assert list(folder.iterdir()) == []
    assert not Operation.objects.exists()


@pytest.mark.parametrize("size", [0, 300_000], ids=["at the end", "in the middle"])
def test_a_full_disk_is_said_and_nothing_is_left(
    staff: Client, folder: Path, settings: Settings, tmp_path: Path, size: int
) -> None:
    with small_disk(tmp_path / "small", size="64k") as disk:
        settings.UPLOAD_FOLDER = str(disk)
        with suppress(OSError), (disk / "others").open("wb", buffering=0) as others:
            while others.write(bytes(4096)):
                pass

        answer = upload(staff, HEAD + bytes(size))

        left = [path.name for path in disk.iterdir()]
    assert answer.status_code == 422
    assert "The disk for uploads is full: make room, then upload it again." in answer.content.decode()
    assert left == ["others"]
    assert not Operation.objects.exists()


def test_without_a_file_nothing_is_asked(staff: Client, folder: Path) -> None:
    answer = staff.post(PAGE, {})

    assert answer.status_code == 422
    assert "Choose a file first." in answer.content.decode()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("role", ["helpdesk", "anonymous"])
def test_whoever_may_not_import_writes_nothing(log_in: Log_in, folder: Path, role: str) -> None:
    answer = upload(log_in(role), HEAD)

    assert answer.status_code in {302, 403}
    assert list(folder.iterdir()) == []
    assert not Operation.objects.exists()


def test_an_upload_without_its_token_is_refused_and_nothing_is_left(log_in: Log_in, folder: Path) -> None:
    answer = upload(log_in("itstaff", enforce_csrf_checks=True), HEAD)

    assert answer.status_code == 403
    assert list(folder.iterdir()) == []
    assert not Operation.objects.exists()


def test_a_working_location_that_is_missing_is_said(staff: Client, folder: Path) -> None:
    folder.rmdir()

    answer = upload(staff, HEAD)

    assert answer.status_code == 422
    assert "does not exist" in answer.content.decode()


def test_a_web_process_that_may_not_write_to_the_backups_takes_an_upload_elsewhere(
    staff: Client, folder: Path, settings: Settings, tmp_path: Path
) -> None:
    settings.UPLOAD_FOLDER = str(tmp_path / "uploads")
    (tmp_path / "uploads").mkdir()

    assert upload(staff, HEAD).status_code == 302
    assert len(list((tmp_path / "uploads").iterdir())) == 1
    assert list(folder.iterdir()) == []


def test_a_folder_for_uploads_that_is_missing_is_said(
    staff: Client, folder: Path, settings: Settings, tmp_path: Path
) -> None:
    settings.UPLOAD_FOLDER = str(tmp_path / "missing")

    answer = upload(staff, HEAD)

    assert answer.status_code == 422
    assert "does not exist" in answer.content.decode()


def test_a_second_file_and_other_fields_are_not_written(staff: Client, folder: Path) -> None:
    answer = staff.post(PAGE, {"other": SimpleUploadedFile("x", HEAD)})

    assert answer.status_code == 422
    assert list(folder.iterdir()) == []


def test_the_empty_list_leads_to_the_import(log_in: Log_in, folder: Path) -> None:
    for role, is_seen in (("itstaff", True), ("helpdesk", False)):
        page = log_in(role).get("/backups_app/backup/").content.decode()
        assert (f'href="{PAGE}"' in page) is is_seen
