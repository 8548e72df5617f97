"""Command lines by value: what is run, and that no password is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from backups_app.systems.postgres import commands
from backups_app.systems.postgres.clients import Client
from backups_app.systems.postgres.connections import Server

SERVER = Server(host="db", port=5433, user="owner", password="top-secret-1", database="qrdb")
FILE = Path("/backups/.qrdb_20250525_143022.sql.part")


def client(program: str, major: int) -> Client:
    return Client(program, Path(f"/usr/lib/postgresql/{major}/bin/{program}"), major, f"{major}.1")


def test_a_dump_is_written_to_a_file_in_the_given_snapshot() -> None:
    command = commands.dump(
        SERVER,
        client("pg_dump", 16),
        file=FILE,
        snapshot="00000003-1",
        compression="zstd:3",
        application_name="qradmin-op-7",
    )

    assert command.argv == (
        "/usr/lib/postgresql/16/bin/pg_dump",
        "--format=custom",
        f"--file={FILE}",
        "--compress=zstd:3",
        "--lock-wait-timeout=60s",
        "--no-password",
        "--snapshot=00000003-1",
    )
    assert command.env["PGAPPNAME"] == "qradmin-op-7"
    assert command.env["PGHOST"] == "db"
    assert command.env["PGPORT"] == "5433"
    assert command.env["PGDATABASE"] == "qrdb"


@pytest.mark.parametrize(
    ("major", "compression", "written"),
    [
        (15, "gzip:1", "1"),
        (15, "gzip", "1"),
        (15, "none", "0"),
        (16, "gzip:1", "gzip:1"),
        (18, "none", "none"),
    ],
)
def test_each_pg_dump_gets_its_compression_in_its_own_words(
    major: int, compression: str, written: str
) -> None:
    command = commands.dump(
        SERVER,
        client("pg_dump", major),
        file=FILE,
        snapshot=None,
        compression=compression,
        application_name="x",
    )

    assert f"--compress={written}" in command.argv
    assert not any(word.startswith("--snapshot") for word in command.argv)


def test_a_restore_stops_at_the_first_error_and_keeps_owners() -> None:
    command = commands.restore(
        SERVER.at("qrdb_staging_1"), client("pg_restore", 15), file=FILE, jobs=2, application_name="x"
    )

    assert "--exit-on-error" in command.argv
    assert "--dbname=qrdb_staging_1" in command.argv
    assert "--jobs=2" in command.argv
    assert "--no-owner" not in command.argv
    assert "default_transaction_read_only=off" in command.env["PGOPTIONS"]


def test_a_restore_can_leave_owners_and_privileges_out() -> None:
    command = commands.restore(
        SERVER, client("pg_restore", 15), file=FILE, jobs=1, application_name="x", with_owner=False
    )

    assert {"--no-owner", "--no-privileges"} <= set(command.argv)


def test_no_command_line_holds_the_password() -> None:
    restorer = client("pg_restore", 15)
    lines = [
        commands.dump(
            SERVER,
            client("pg_dump", 15),
            file=FILE,
            snapshot=None,
            compression="none",
            application_name="x",
        ),
        commands.restore(SERVER, restorer, file=FILE, jobs=1, application_name="x"),
        commands.read_all(restorer, FILE),
        commands.contents(restorer, FILE),
        commands.table_data(restorer, FILE, schema="public", table="alembic_version"),
    ]

    assert not [line for line in lines if "top-secret-1" in " ".join(line.argv) + repr(line)]
