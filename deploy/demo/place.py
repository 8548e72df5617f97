"""Where the demo keeps its state, and what it remembers there between two starts."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.demo import embedded

ROOT = Path(__file__).resolve().parent.parent.parent
USUAL = ROOT / "var" / "demo"


class InUseError(Exception):
    """The demo already runs from this folder; the message says so in one sentence."""


@dataclass(frozen=True)
class Place:
    """The demo's folder: databases, backups, logs and generated secrets, for the owner's eyes only."""

    folder: Path

    @property
    def postgres(self) -> Path:
        return self.folder / "postgresql"

    @property
    def backups(self) -> Path:
        return self.folder / "backups"

    @property
    def site_database(self) -> Path:
        return self.folder / "site.sqlite3"

    @property
    def passfile(self) -> Path:
        """The password of the sample database's owner, as PostgreSQL's programs read it."""
        return self.folder / "pgpass"

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder; raises InUseError when a running demo holds it."""
        if not self.folder.parent.exists():
            embedded.make_passable(self.folder.parent)
        embedded.make_passable(self.folder)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.read(descriptor, 20).decode() or "unknown"
                raise InUseError(
                    f"The demo already runs from this folder (process {owner}): stop that one first."
                ) from None
            os.truncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            yield
        finally:
            os.close(descriptor)

    def secret(self, name: str) -> str:
        """The generated secret of this name, the same at every start."""
        kept = self._kept()
        if name not in kept:
            kept[name] = secrets.token_urlsafe(32 if name == "secret_key" else 12)
            self._keep(kept)
        return str(kept[name])

    def secret_names(self) -> list[str]:
        return [name for name, value in self._kept().items() if isinstance(value, str)]

    def port(self, name: str) -> int | None:
        """The port that ``name`` had at the last start."""
        port = self._kept().get(f"{name}_port")
        return port if isinstance(port, int) else None

    def keep_port(self, name: str, port: int) -> None:
        self._keep(self._kept() | {f"{name}_port": port})

    def forget(self) -> None:
        """Remove everything; nothing may run from here."""
        embedded.forget(self.postgres)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _kept(self) -> dict[str, str | int]:
        file = self.folder / "secrets.json"
        kept: dict[str, str | int] = json.loads(file.read_text()) if file.exists() else {}
        return kept

    def _keep(self, kept: dict[str, str | int]) -> None:
        file, partial = self.folder / "secrets.json", self.folder / "secrets.json.partial"
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            json.dump(kept, stream, indent=1)
        partial.replace(file)
