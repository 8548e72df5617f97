"""Backup files from the inside: each kind of bad file has its own sentence."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backups_app.errors import BadBackup, EnvironmentProblem, MissingClient, StorageProblem
from backups_app.systems.postgres import archive, clients, commands
from backups_app.systems.postgres.clients import Client
from backups_app.systems.postgres.connections import Server
from backups_app.systems.processes import Finished, run
from deploy.demo import embedded
from tests.conftest import on_all_majors


def restorer(major: int) -> Client:
    folder = embedded.find_bin(major)
    assert folder is not None
    return clients.for_restore(major, [folder])


@pytest.fixture
def dumped(managed: Server, pg_major: int, tmp_path: Path) -> Path:
    """An archive of the sample, made by the server's own pg_dump."""
    return dump(managed, pg_major, tmp_path)


def dump(server: Server, major: int, folder: Path) -> Path:
    path = folder / "qrdb_20250525_143022.sql"
    bin_folder = embedded.find_bin(major)
    assert bin_folder is not None
    command = commands.dump(
        server,
        clients.for_dump(major, [bin_folder]),
        file=path,
        snapshot=None,
        compression="gzip:1",
        application_name="test",
    )
    assert run(command).returncode == 0
    return path


def failed(stderr: str) -> Finished:
    return Finished(1, stderr, b"", seconds=0.1, peak_memory_bytes=0)


def bad(path: Path, major: int = 16) -> str:
    """The sentence that says why the file is bad."""
    with pytest.raises(BadBackup) as caught:  # noqa: PT012 - either of the two may say it
        archive.inspect(restorer(major), path)
        archive.read_whole(restorer(major), path)
    return caught.value.message


@on_all_majors
def test_an_archive_says_what_it_is(dumped: Path, pg_major: int) -> None:
    found = archive.inspect(restorer(pg_major), dumped)

    assert found.database == "qrdb"
    assert found.server_version.startswith(f"{pg_major}.")
    assert found.client_version.startswith(f"{pg_major}.")
    assert {"public.qr_codes", "public.scan_logs", "public.alembic_version"} <= set(found.tables)
    assert found.entries > 10


@on_all_majors
def test_the_revision_is_read_without_restoring(dumped: Path, pg_major: int) -> None:
    assert archive.alembic_revision(restorer(pg_major), dumped) == "8d13a4dfeb1d"


def test_an_archive_without_revision_has_none(
    managed: Server, owner: psycopg.Connection[Any], tmp_path: Path
) -> None:
    owner.execute("DROP TABLE alembic_version")

    assert archive.alembic_revision(restorer(16), dump(managed, 16, tmp_path)) is None


@on_all_majors
def test_a_whole_archive_can_be_read_to_its_end(dumped: Path, pg_major: int) -> None:
    archive.read_whole(restorer(pg_major), dumped)


def test_a_missing_file_is_said_and_is_no_bad_backup(tmp_path: Path) -> None:
    with pytest.raises(StorageProblem, match="is not there"):
        archive.inspect(restorer(16), tmp_path / "qrdb_20250525_143022.sql")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("could not read from input file: Stale file handle", StorageProblem),
        ("could not read from input file: Input/output error", StorageProblem),
        ('could not open input file "/a/b: c.sql": No such file or directory', StorageProblem),
        ("could not open input file: Too many open files", StorageProblem),
        ("error during file seek: Input/output error", StorageProblem),
        ("could not read from input file: Cannot allocate memory", StorageProblem),
        ("out of memory", EnvironmentProblem),
        ("could not read from input file: end of file", BadBackup),
        ("could not execute query: ERROR:  could not open file: Input/output error", BadBackup),
    ],
)
def test_a_file_that_cannot_be_read_now_is_no_bad_backup(said: str, problem: type[Exception]) -> None:
    finished = failed(f"pg_restore: error: {said}\n")

    with pytest.raises(problem) as caught:
        archive.judge_reading(finished, restorer(16), Path("a.sql"))

    assert isinstance(caught.value, BadBackup) is (problem is BadBackup)


def test_memory_that_ran_out_without_a_word_of_the_program_is_no_bad_backup() -> None:
    with pytest.raises(EnvironmentProblem):
        archive.judge_reading(failed("out of memory\n"), restorer(16), Path("a.sql"))


def test_an_empty_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.sql"
    path.touch()

    assert bad(path) == "a.sql is empty."


def test_a_folder_is_said(tmp_path: Path) -> None:
    assert "is a folder" in bad(tmp_path)


@pytest.mark.parametrize(
    "text", ["--\n-- PostgreSQL database dump\n--\n", "SET x = 1;\n", "CREATE TABLE a ();"]
)
def test_a_plain_sql_script_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.sql"
    path.write_text(text)

    assert "plain SQL script" in bad(path)


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b"something", mtime=0), bytes(range(256)), b"PK\x03\x04 a zip"],
    ids=["gzip", "bytes", "zip"],
)
def test_a_file_of_another_program_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.sql"
    path.write_bytes(content)

    assert "another program made it" in bad(path)


@pytest.mark.parametrize("length", [1, 4, 5, 8, 10])
def test_an_archive_cut_in_its_header_is_said(dumped: Path, length: int) -> None:
    dumped.write_bytes(dumped.read_bytes()[:length])

    assert "cut short" in bad(dumped)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.999])
def test_an_archive_cut_anywhere_is_damaged(dumped: Path, share: float) -> None:
    whole = dumped.read_bytes()
    dumped.write_bytes(whole[: int(len(whole) * share)])

    assert re.search(r"damaged|cut short", bad(dumped))


def test_compressed_rows_that_no_longer_decompress_are_damage(dumped: Path) -> None:
    whole = bytearray(dumped.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 2000] = bytes(2000)
    dumped.write_bytes(bytes(whole))

    assert "damaged" in bad(dumped)


def test_an_archive_of_a_newer_pg_dump_is_not_called_bad(tmp_path: Path, start_postgres: Any) -> None:
    path = tmp_path / "a.sql"
    path.write_bytes(b"PGDMP" + bytes([1, 99, 0, 4, 8, 1]) + bytes(200))

    with pytest.raises(MissingClient, match="made by a newer pg_dump"):
        archive.inspect(restorer(16), path)


def test_the_client_that_a_newer_archive_needs_is_named(dumped: Path) -> None:
    data = dumped.read_bytes()
    versions = list(re.finditer(rb"16(?=\.\d+)", data[: archive.HEAD_BYTES]))
    data = data[: versions[1].start()] + b"97" + data[versions[1].end() :]
    dumped.write_bytes(data[:6] + b"\x63" + data[7:])

    with pytest.raises(MissingClient) as caught:
        archive.inspect(restorer(16), dumped)

    assert caught.value.message == (
        f"{dumped.name} was made by pg_dump 97, which pg_restore 16 cannot read:"
        " install the package postgresql-client-97."
    )


def test_another_format_than_custom_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.sql"
    path.write_bytes(b"PGDMP" + bytes([1, 14, 0, 4, 8, 3]) + bytes(200))

    assert "another format than custom" in bad(path)
