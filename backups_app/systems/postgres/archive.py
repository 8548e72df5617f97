"""Backup files from the inside: what an archive is, what it holds, and whether all of it can be read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from backups_app.errors import BadBackup, EnvironmentProblem, MissingClient, NoSpace
from backups_app.systems.postgres import commands
from backups_app.systems.postgres.clients import Client
from backups_app.systems.processes import Finished, Watch, no_watch, run

MAGIC = b"PGDMP"
CUSTOM_FORMAT = 1
LIST_LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True)
class ArchiveFacts:
    """What an archive says of itself. ``tables``: "schema.name" of each table whose rows it holds."""

    database: str
    server_version: str
    client_version: str
    compression: str
    created: str
    entries: int
    tables: tuple[str, ...]


def file_header_version(file: Path) -> tuple[int, int, int]:
    """The archive format's version, such as (1, 15, 0). BadBackup when it is no custom-format archive."""
    try:
        with file.open("rb") as opened:
            head = opened.read(512)
    except IsADirectoryError as error:
        raise BadBackup(f"{file.name} is a folder, not a backup file.") from error
    except FileNotFoundError as error:
        raise BadBackup(f"The file {file.name} is not there.") from error
    except OSError as error:
        raise EnvironmentProblem(f"The file {file.name} cannot be read: {error.strerror}.") from error
    _refuse_other_files(file.name, head)
    if len(head) < 11:
        raise BadBackup(f"{file.name} is cut short: it ends within its first bytes.")
    major, minor, revision = head[5:8]
    if head[10] != CUSTOM_FORMAT:
        raise BadBackup(f"{file.name} is a PostgreSQL archive of another format than custom.")
    return major, minor, revision


def inspect(client: Client, file: Path, *, watch: Watch = no_watch) -> ArchiveFacts:
    """Read the archive's table of contents. BadBackup when it cannot be; MissingClient when it was made
    by a newer pg_dump than ``client`` understands."""
    file_header_version(file)
    finished = run(commands.contents(client, file), watch=watch, stdout_limit=LIST_LIMIT)
    judge_reading(finished, client, file)
    text = finished.stdout.decode(errors="replace")
    return ArchiveFacts(
        database=_said(text, r"dbname: (.*)"),
        server_version=_said(text, r"Dumped from database version: (\S+).*"),
        client_version=_said(text, r"Dumped by pg_dump version: (\S+).*"),
        compression=_said(text, r"Compression: (\S+)"),
        created=_said(text, r"Archive created at (.*)"),
        entries=int(_said(text, r"TOC Entries: (\d+)") or 0),
        tables=tuple(
            f"{m[1]}.{m[2]}"
            for m in re.finditer(r"^\d+; \d+ \d+ TABLE DATA (\S+) (.+) \S+$", text, re.MULTILINE)
        ),
    )


def read_whole(client: Client, file: Path, *, watch: Watch = no_watch) -> None:
    """Read and decompress all of it. BadBackup when any part cannot be.

    This finds what is missing and what no longer decompresses. A changed byte that still decompresses
    (gzip's checksum is not looked at by pg_restore) is found by the SHA-256 and by the manifest.
    """
    file_header_version(file)
    judge_reading(run(commands.read_all(client, file), watch=watch), client, file)


def judge_reading(finished: Finished, client: Client, file: Path) -> None:
    """What the end of a pg_restore that read all of ``file`` says: nothing, or what `read_whole` raises."""
    if finished.returncode == 0:
        return
    said = finished.stderr
    lowered = said.lower()
    if "unsupported version" in lowered:
        raise MissingClient(
            f"{file.name} was made by a newer pg_dump than pg_restore {client.major} can read:"
            " install the client of the version that made it.",
            detail=said,
        )
    if "does not support compression" in lowered or "not built with" in lowered:
        raise MissingClient(
            f"pg_restore {client.version} on this machine cannot read the compression of {file.name}:"
            " install PostgreSQL's own client package.",
            detail=said,
        )
    if "no space left" in lowered:
        raise NoSpace("A disk is full: make room, then try again.", detail=said)
    if "permission denied" in lowered:
        raise EnvironmentProblem(f"The file {file.name} may not be read by this user.", detail=said)
    if finished.returncode < 0:
        raise EnvironmentProblem(
            f"pg_restore was ended by signal {-finished.returncode} while it read {file.name}.", detail=said
        )
    raise BadBackup(f"{file.name} is damaged: it cannot be read to its end.", detail=said)


def alembic_revision(
    client: Client,
    file: Path,
    *,
    watch: Watch = no_watch,
    table: str = "alembic_version",
    schema: str = "public",
) -> str | None:
    """The Alembic revision that the archive holds, read without restoring it; None when it has none."""
    command = commands.table_data(client, file, schema=schema, table=table)
    finished = run(command, watch=watch, stdout_limit=64 * 1024)
    judge_reading(finished, client, file)
    rows = re.search(
        r"^COPY [^\n]*FROM stdin;\n(.*?)^\\\.$",
        finished.stdout.decode(errors="replace"),
        re.MULTILINE | re.DOTALL,
    )
    lines = rows[1].split() if rows else []
    return lines[0] if len(lines) == 1 else None


def _refuse_other_files(name: str, head: bytes) -> None:
    if not head:
        raise BadBackup(f"{name} is empty.")
    if head.startswith(MAGIC):
        return
    if MAGIC.startswith(head):
        raise BadBackup(f"{name} is cut short: it ends within its first bytes.")
    if b"PostgreSQL database dump" in head or re.match(rb"\s*(--|SET |CREATE |BEGIN|/\*|\\)", head):
        raise BadBackup(
            f"{name} is a plain SQL script, not a custom-format archive: load it with psql instead."
        )
    raise BadBackup(f"{name} is not a PostgreSQL archive: another program made it.")


def _said(text: str, pattern: str) -> str:
    match = re.search(rf"^;\s+{pattern}$", text, re.MULTILINE)
    return match[1].strip() if match else ""
