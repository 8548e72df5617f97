"""pg_dump and pg_restore are found for the server's version, and what is missing is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from backups_app.errors import MissingClient
from backups_app.systems.postgres import clients
from deploy.demo import embedded


@pytest.fixture
def nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No client program on this machine but those of the given folders."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(clients, "SYSTEM_FOLDERS", tmp_path / "empty")
    monkeypatch.setattr(clients, "WHEEL", "no_such_wheel")


def program(folder: Path, name: str, version: str) -> Path:
    """A program that says it is of that version."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
    path.chmod(0o755)
    return path


def test_the_wheel_carries_16_and_18() -> None:
    majors = {client.major for client in clients.installed("pg_dump")}

    assert {16, 18} <= majors


def test_a_folder_of_the_settings_comes_first(tmp_path: Path) -> None:
    ours = program(tmp_path / "ours", "pg_restore", "16.99")

    assert clients.for_restore(16, [tmp_path / "ours"]).path == ours


def test_the_server_s_own_major_dumps(tmp_path: Path, nothing_else: None) -> None:
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder, version in zip(folders, ("18.4", "15.18", "16.14"), strict=True):
        program(folder, "pg_dump", version)

    assert clients.for_dump(15, folders).version == "15.18"


def test_the_lowest_newer_pg_dump_dumps_when_the_own_major_is_missing(
    tmp_path: Path, nothing_else: None
) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    program(folders[0], "pg_dump", "18.4")
    program(folders[1], "pg_dump", "16.14")

    assert clients.for_dump(15, folders).version == "16.14"


def test_an_older_pg_dump_does_not_do(tmp_path: Path, nothing_else: None) -> None:
    program(tmp_path / "a", "pg_dump", "14.1")

    with pytest.raises(MissingClient, match="pg_dump 15 or newer is not installed: install the package"):
        clients.for_dump(15, [tmp_path / "a"])


def test_a_restore_insists_on_the_same_major_and_names_the_package(
    tmp_path: Path, nothing_else: None
) -> None:
    program(tmp_path / "a", "pg_restore", "18.4")

    with pytest.raises(MissingClient, match="install the package postgresql-client-15") as caught:
        clients.for_restore(15, [tmp_path / "a"])

    assert "18" in caught.value.detail


def test_a_wrapper_that_picks_a_version_by_itself_is_passed_over(tmp_path: Path, nothing_else: None) -> None:
    wrapper = program(tmp_path / "share", "pg_wrapper", "18.4")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pg_dump").symlink_to(wrapper)

    assert clients.installed("pg_dump", [tmp_path / "bin"]) == []


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho something else\n"])
def test_a_program_that_is_none_is_passed_over(tmp_path: Path, nothing_else: None, text: str) -> None:
    path = program(tmp_path / "a", "pg_dump", "1")
    path.write_text(text)

    assert clients.installed("pg_dump", [tmp_path / "a"]) == []


def test_a_file_that_may_not_be_run_is_passed_over(tmp_path: Path, nothing_else: None) -> None:
    program(tmp_path / "a", "pg_dump", "16.1").chmod(0o644)

    assert clients.installed("pg_dump", [tmp_path / "a"]) == []


def test_a_program_that_was_replaced_is_asked_again(tmp_path: Path, nothing_else: None) -> None:
    program(tmp_path / "a", "pg_dump", "16.1")
    before = clients.for_dump(15, [tmp_path / "a"]).version
    program(tmp_path / "a", "pg_dump", "16.1234")

    assert (before, clients.for_dump(15, [tmp_path / "a"]).version) == ("16.1", "16.1234")


def test_the_wheel_s_pg_dump_has_no_zstd_and_takes_gzip() -> None:
    folder = embedded.find_bin(16)
    assert folder is not None

    assert clients.best_compression(clients.for_dump(16, [folder])) == "gzip:1"


def test_a_pg_dump_with_zstd_takes_zstd(tmp_path: Path, nothing_else: None) -> None:
    path = tmp_path / "a" / "pg_dump"
    program(tmp_path / "a", "pg_dump", "17.1")
    path.write_text(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo 'pg_dump (PostgreSQL) 17.1' && exit\n"
        "echo 'could not connect' >&2; exit 1\n"
    )

    assert clients.best_compression(clients.for_dump(17, [tmp_path / "a"])) == "zstd:3"
