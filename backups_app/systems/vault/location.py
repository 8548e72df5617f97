"""What every storage location can do, and the plain values it hands out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from backups_app.errors import StorageProblem
from backups_app.systems.waiting import OnBytes, Watch, no_bytes, no_watch


class MissingCopy(StorageProblem):
    """The location answers, but holds no file of that name."""


class ConnectionBroken(StorageProblem):
    """The way there broke off, or no answer came in time: nothing is said about the file."""


class NameTaken(StorageProblem):
    """The location already holds a file of that name; it was left as it is."""


class NoDescription(StorageProblem):
    """What lies beside a file can be read, but is no text, or far too large."""


@dataclass(frozen=True)
class StoredFile:
    """One backup file that lies in a location; size in bytes, ``modified`` in UTC."""

    name: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Stored:
    """What was moved or read: size in bytes, SHA-256 in lower-case hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Credentials:
    """Key of an object store; never part of a URL, never shown."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def any_name(_name: str) -> bool:
    """Every name is wanted."""
    return True


class Location(Protocol):
    """A place for backup files; each method takes names of the pattern alone (else Refused).

    ``watch`` is called at least every 0.2 s of waiting and once a chunk, and may raise to end the work;
    what was half done is then removed. ``on_bytes`` gets the bytes of each chunk just moved or read, the
    reading back of a fresh copy too: storing a file of N bytes tells of 2 N, replacing one in an object
    store, where it is copied and read once more, of 4 N.
    StorageProblem when the location is missing, read-only or out of reach; NoSpace when it is full.
    """

    @property
    def alias(self) -> str: ...

    @property
    def is_local(self) -> bool: ...

    def describe(self) -> str:
        """Alias and place for an operator, without secrets."""

    def check(self) -> None:
        """Return when files can be written here; else raise one sentence that says why not."""

    def free_bytes(self) -> int | None:
        """Bytes that may still be written; None where nobody can tell."""

    def names(self) -> list[StoredFile]:
        """The backup files that lie here, sorted by name; foreign files are left out."""

    def exists(self, name: str) -> bool:
        """Whether a file of that name lies here."""

    def local_path(self, name: str) -> Path | None:
        """The path of the file where programs of this machine can open it; None elsewhere or when absent."""

    def store(
        self, source: Path, name: str, *, watch: Watch = no_watch, on_bytes: OnBytes = no_bytes
    ) -> Stored:
        """Copy ``source`` here and read the copy back; NameTaken rather than overwriting."""

    def replace(
        self, source: Path, name: str, *, watch: Watch = no_watch, on_bytes: OnBytes = no_bytes
    ) -> Stored:
        """Put a copy of ``source`` in a damaged file's place, once that copy has been read back here.

        Until then, and when it fails, the damaged file stays as it is.
        """

    def fetch(
        self, name: str, target: Path, *, watch: Watch = no_watch, on_bytes: OnBytes = no_bytes
    ) -> Stored:
        """Copy the file to ``target``, a new file of mode 0600; MissingCopy when it is not here."""

    def digest(self, name: str, *, watch: Watch = no_watch, on_bytes: OnBytes = no_bytes) -> Stored:
        """Read the whole file where it lies; MissingCopy when it is not here."""

    def remove(self, name: str) -> bool:
        """Remove the file and its sidecar; False when the file was already absent."""

    def write_text(self, name: str, text: str) -> None:
        """Write (or replace) the sidecar ``NAME.json`` whole or not at all."""

    def read_text(self, name: str) -> str | None:
        """The sidecar's text; None when there is none."""

    def sweep_temporary(
        self, older_than_seconds: float, *, is_wanted: Callable[[str], bool] = any_name
    ) -> list[str]:
        """Remove what interrupted work left here, old enough; the names of what went.

        Another site may keep its files in the same place: ``is_wanted`` says by a backup file's name
        whether what was left of it is to go.
        """
