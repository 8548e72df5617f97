"""Backup files from the inside: what an archive is, what it holds, and whether all of it can be read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from backups_app.errors import BadBackup, EnvironmentProblem, MissingClient, NoSpace, StorageProblem
from backups_app.sentences import say
from backups_app.systems.postgres import commands
from backups_app.systems.postgres.clients import Client
from backups_app.systems.processes import Finished, run
from backups_app.systems.waiting import OnBytes, Watch, no_bytes, no_watch

MAGIC = b"PGDMP"
CUSTOM_FORMAT = 1
HEAD_BYTES = 512
LIST_LIMIT = 16 * 1024 * 1024

# What the system says of a file or a mount that cannot be read now; "end of file" is the archive's own fault.
_TROUBLES_OF_FILES = (
    "stale file handle",
    "(remote )?(input/output|i/o) error",
    "no such file or directory",
    "too many open files( in system)?",
    "cannot allocate memory",
    "transport endpoint is not connected",
    "no such device( or address)?",
    "connection timed out",
    "host is down",
    "no route to host",
)
# In pg_restore's own words, not in PostgreSQL's, which come behind an "ERROR:".
_UNREADABLE = re.compile(
    r"^pg_restore: error: (?:(?!ERROR:).)*\bfile\b(?:(?!ERROR:).)*: "
    rf"(?P<reason>{'|'.join(_TROUBLES_OF_FILES)})$",
    re.IGNORECASE | re.MULTILINE,
)
_OUT_OF_MEMORY = re.compile(r"^(pg_restore: error: )?out of memory$", re.MULTILINE)


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
    head = _head(file)
    _refuse_other_files(file.name, head)
    if len(head) < 11:
        raise BadBackup(say("{name} is cut short: it ends within its first bytes.", name=file.name))
    major, minor, revision = head[5:8]
    if head[10] != CUSTOM_FORMAT:
        raise BadBackup(say("{name} is a PostgreSQL archive of another format than custom.", name=file.name))
    return major, minor, revision


def inspect(client: Client, file: Path, *, watch: Watch = no_watch) -> ArchiveFacts:
    """Read the archive's table of contents. BadBackup when it cannot be; MissingClient when it was made
    by a newer pg_dump than ``client`` understands."""
    file_header_version(file)
    finished = run(commands.contents(client, file), watch=watch, stdout_limit=LIST_LIMIT)
    judge_reading(finished, client, file)
    text = finished.stdout.decode(errors="replace")
    held = re.findall(r"^\d+; \d+ \d+ TABLE DATA (\S+) (.+)$", text, re.MULTILINE)
    is_clear = all(rest.count(" ") == 1 for _schema, rest in held)
    owners = [] if is_clear else _owners(client, file, watch=watch)
    return ArchiveFacts(
        database=_said(text, r"dbname: (.*)"),
        server_version=_said(text, r"Dumped from database version: (\S+).*"),
        client_version=_said(text, r"Dumped by pg_dump version: (\S+).*"),
        compression=_said(text, r"Compression: (\S+)"),
        created=_said(text, r"Archive created at (.*)"),
        entries=int(_said(text, r"TOC Entries: (\d+)") or 0),
        tables=tuple(f"{schema}.{_without_owner(rest, owners)}" for schema, rest in held),
    )


def read_whole(client: Client, file: Path, *, watch: Watch = no_watch, on_bytes: OnBytes = no_bytes) -> None:
    """Read and decompress all of it. BadBackup when any part cannot be.

    This finds what is missing and what no longer decompresses. A changed byte that still decompresses
    (gzip's checksum is not looked at by pg_restore) is found by the SHA-256 and by the manifest.
    """
    file_header_version(file)
    judge_reading(run(commands.read_all(client, file), watch=watch, on_bytes=on_bytes), client, file)


def judge_reading(finished: Finished, client: Client, file: Path) -> None:
    """What the end of a pg_restore that read all of ``file`` says: nothing, or what `read_whole` raises."""
    if finished.returncode == 0:
        return
    said = finished.stderr
    lowered = said.lower()
    if "unsupported version" in lowered:
        raise MissingClient(_too_new(client, file), detail=said)
    if "does not support compression" in lowered or "not built with" in lowered:
        raise MissingClient(
            say(
                "pg_restore {version} on this machine cannot read the compression of {name}:"
                " install PostgreSQL's own client package.",
                version=client.version,
                name=file.name,
            ),
            detail=said,
        )
    if "no space left" in lowered:
        raise NoSpace(say("A disk is full: make room, then try again."), detail=said)
    if "permission denied" in lowered:
        raise EnvironmentProblem(
            say("The file {name} may not be read by this user.", name=file.name), detail=said
        )
    if finished.returncode < 0:
        raise EnvironmentProblem(
            say(
                "pg_restore was ended by signal {number} while it read {name}.",
                number=-finished.returncode,
                name=file.name,
            ),
            detail=said,
        )
    problem = reading_problem(said, file)
    if problem is not None:
        raise problem
    raise BadBackup(say("{name} is damaged: it cannot be read to its end.", name=file.name), detail=said)


def reading_problem(said: str, file: Path) -> EnvironmentProblem | None:
    """What a pg_restore said of ``file`` or of its memory that is no fault of the archive."""
    found = _UNREADABLE.search(said)
    if found is not None:
        sentence = say(
            "{name} could not be read just now: {reason}. This says nothing of the backup:"
            " see that its location is there, then try again.",
            name=file.name,
            reason=found["reason"],
        )
        return StorageProblem(sentence, detail=said)
    if _OUT_OF_MEMORY.search(said):
        sentence = say(
            "The memory of this machine was not enough to read {name}, which says nothing of the backup:"
            " try again when less is going on.",
            name=file.name,
        )
        return EnvironmentProblem(sentence, detail=said)
    return None


def alembic_revision(
    client: Client,
    file: Path,
    *,
    watch: Watch = no_watch,
    on_bytes: OnBytes = no_bytes,
    table: str = "alembic_version",
    schema: str = "public",
) -> str | None:
    """The Alembic revision that the archive holds, read without restoring it; None when it has none.

    An archive that pg_dump wrote into a pipe does not say where its rows lie: all before them is read.
    """
    command = commands.table_data(client, file, schema=schema, table=table)
    finished = run(command, watch=watch, stdout_limit=64 * 1024, on_bytes=on_bytes)
    judge_reading(finished, client, file)
    rows = re.search(
        r"^COPY [^\n]*FROM stdin;\n(.*?)^\\\.$",
        finished.stdout.decode(errors="replace"),
        re.MULTILINE | re.DOTALL,
    )
    lines = rows[1].split() if rows else []
    return lines[0] if len(lines) == 1 else None


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(HEAD_BYTES)
    except IsADirectoryError as error:
        raise BadBackup(say("{name} is a folder, not a backup file.", name=file.name)) from error
    except FileNotFoundError as error:
        raise StorageProblem(say("The file {name} is not there.", name=file.name)) from error
    except OSError as error:
        raise EnvironmentProblem(
            say("The file {name} cannot be read: {reason}.", name=file.name, reason=error.strerror)
        ) from error


def _too_new(client: Client, file: Path) -> str:
    """The sentence for an archive in a format that ``client`` does not know yet."""
    made_by = _dumper_major(_head(file))
    if made_by is None or made_by <= client.major:
        return say(
            "{name} was made by a newer pg_dump than pg_restore {major} can read:"
            " install the client of the version that made it.",
            name=file.name,
            major=client.major,
        )
    return say(
        "{name} was made by pg_dump {made_by}, which pg_restore {major} cannot read:"
        " install the package postgresql-client-{made_by}.",
        name=file.name,
        made_by=made_by,
        major=client.major,
    )


def _dumper_major(head: bytes) -> int | None:
    """The major version of the pg_dump that wrote this head of an archive.

    After the fixed bytes come the compression, seven numbers of the time, and three texts: the database's
    name, the server's version and pg_dump's. A number is a sign and ``head[8]`` bytes, the lowest first.
    """
    width = head[8] + 1
    at = 11 + (1 if tuple(head[5:7]) >= (1, 15) else width) + 7 * width
    text = b""
    for _text in range(3):
        length = int.from_bytes(head[at + 1 : at + width], "little")
        text = head[at + width : at + width + length]
        at += width + length
    match = re.match(rb"\d+", text)
    return int(match[0]) if match else None


def _owners(client: Client, file: Path, *, watch: Watch) -> list[str]:
    """The owners of what the archive holds, the longest name first: one may have blanks in it.

    The table of contents does not say where a table's name ends and its owner's begins; the script does.
    """
    finished = run(commands.definitions(client, file), watch=watch, stdout_limit=LIST_LIMIT)
    judge_reading(finished, client, file)
    text = finished.stdout.decode(errors="replace")
    found = set(re.findall(r"^-- Name: .*; Type: .*; Schema: .*; Owner: (.+)$", text, re.MULTILINE))
    return sorted(found, key=len, reverse=True)


def _without_owner(rest: str, owners: list[str]) -> str:
    for owner in owners:
        if rest.endswith(f" {owner}"):
            return rest.removesuffix(f" {owner}")
    return rest.rpartition(" ")[0]


def _refuse_other_files(name: str, head: bytes) -> None:
    if not head:
        raise BadBackup(say("{name} is empty.", name=name))
    if head.startswith(MAGIC):
        return
    if MAGIC.startswith(head):
        raise BadBackup(say("{name} is cut short: it ends within its first bytes.", name=name))
    if b"PostgreSQL database dump" in head or re.match(rb"\s*(--|SET |CREATE |BEGIN|/\*|\\)", head):
        raise BadBackup(
            say(
                "{name} is a plain SQL script, not a custom-format archive: load it with psql instead.",
                name=name,
            )
        )
    raise BadBackup(say("{name} is not a PostgreSQL archive: another program made it.", name=name))


def _said(text: str, pattern: str) -> str:
    match = re.search(rf"^;\s+{pattern}$", text, re.MULTILINE)
    return match[1].strip() if match else ""
