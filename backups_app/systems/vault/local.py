"""A folder of this machine, a network mount included, as a storage location."""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import BinaryIO, Concatenate, ParamSpec, TypeVar, cast

from backups_app.errors import NotConfigured, StorageProblem
from backups_app.sentences import say
from backups_app.systems.vault import bounded, streams
from backups_app.systems.vault.faults import MAX_SIDECAR_BYTES, decoded_sidecar, unequal_copy
from backups_app.systems.vault.location import (
    Location,
    MissingCopy,
    NameTaken,
    Stored,
    StoredFile,
    any_name,
)
from backups_app.systems.vault.names import (
    CHECK_PREFIX,
    MANAGED_NAMES,
    SIDECAR_SUFFIX,
    Naming,
    name_behind,
)
from backups_app.systems.waiting import OnBytes, Watch, no_bytes, no_watch

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class WorkingFile:
    """A new file under a temporary name, mode 0600, for a program to write into.

    ``commit()`` flushes the file and gives it its name; it returns the path where the file now lies,
    or raises NameTaken.
    """

    path: Path
    name: str
    commit: Callable[[], Path] = field(repr=False)


def _in_time(
    method: Callable[Concatenate[LocalLocation, P], T],
) -> Callable[Concatenate[LocalLocation, P], T]:
    """The method, which is left behind where the folder does not answer (ConnectionBroken)."""

    @wraps(method)
    def bounded_method(self: LocalLocation, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return bounded.in_time(self._subject, lambda: method(self, *args, **kwargs), self.patience)

    return bounded_method


@dataclass(frozen=True)
class LocalLocation:
    """One folder that holds backup files; see Location for what each method promises.

    ``patience``: the seconds after which a folder that does not answer counts as out of reach.
    """

    alias: str
    folder: Path
    naming: Naming = MANAGED_NAMES
    is_local: bool = field(default=True, init=False)
    patience: float = field(default=bounded.QUICK_SECONDS, compare=False, repr=False)

    def describe(self) -> str:
        return f"{self.alias} ({self.folder})"

    @_in_time
    def check(self) -> None:
        probe = self.folder / f"{CHECK_PREFIX}{secrets.token_hex(8)}"
        with self._errors():
            self._insist_on_folder()
            self.free_bytes()
            os.listdir(self.folder)  # noqa: PTH208 - fails at once, iterdir only when read
            try:
                with streams.create(probe) as file:
                    file.write(b"x")
                    streams.flush_to_disk(file)
            finally:
                probe.unlink(missing_ok=True)

    @_in_time
    def free_bytes(self) -> int:
        with self._errors():
            return shutil.disk_usage(self.folder).free

    @_in_time
    def names(self) -> list[StoredFile]:
        self._insist_on_folder()
        with self._errors(), os.scandir(self.folder) as entries:
            found = [stored for entry in entries if (stored := self._stored_file(entry))]
        return sorted(found, key=lambda stored: stored.name)

    @_in_time
    def odd_names(self) -> list[str]:
        """What bears a backup file's name and is a symbolic link, a folder or a device: never opened."""
        with self._errors(), os.scandir(self.folder) as entries:
            found = [entry for entry in entries if self.naming.fits(entry.name)]
            return sorted(entry.name for entry in found if not entry.is_file(follow_symlinks=False))

    def exists(self, name: str) -> bool:
        return self.local_path(name) is not None

    @_in_time
    def local_path(self, name: str) -> Path | None:
        path = self._path(name)
        with self._errors():
            try:
                return path if stat.S_ISREG(path.lstat().st_mode) else None
            except FileNotFoundError:
                self._insist_on_folder()
                return None

    def store(
        self, source: Path, name: str, *, watch: Watch = no_watch, on_bytes: OnBytes = no_bytes
    ) -> Stored:
        """Copy under a temporary name, flush, read back, then give the name: a bad copy never has it."""
        final = self._path(name)

        def work(watch: Watch, on_bytes: OnBytes) -> Stored:
            self._insist_on_free_name(final)
            with self._copied(source, name, watch=watch, on_bytes=on_bytes) as (temporary, written):
                self._give_name(temporary, final)
            return written

        return self._writing(work, watch, on_bytes)

    def replace(
        self, source: Path, name: str, *, watch: Watch = no_watch, on_bytes: OnBytes = no_bytes
    ) -> Stored:
        final = self._path(name)

        def work(watch: Watch, on_bytes: OnBytes) -> Stored:
            with self._copied(source, name, watch=watch, on_bytes=on_bytes) as (temporary, written):
                temporary.replace(final)
                streams.flush_path_to_disk(self.folder)
            return written

        return self._writing(work, watch, on_bytes)

    def fetch(
        self, name: str, target: Path, *, watch: Watch = no_watch, on_bytes: OnBytes = no_bytes
    ) -> Stored:
        def work(watch: Watch, on_bytes: OnBytes) -> Stored:
            with self._reader(name) as reader, streams.os_errors(say("The file {path}", path=target)):
                return streams.copy_to_new_file(reader, target, watch=watch, on_bytes=on_bytes)

        return self._reading(work, watch, on_bytes)

    @_in_time
    def open(self, name: str) -> BinaryIO:
        """The file, opened to be read in small pieces too; MissingCopy when it is not here."""
        return io.BufferedReader(cast("io.RawIOBase", self._reader(name)), streams.CHUNK)

    def digest(self, name: str, *, watch: Watch = no_watch, on_bytes: OnBytes = no_bytes) -> Stored:
        def work(watch: Watch, on_bytes: OnBytes) -> Stored:
            with self._reader(name) as reader, self._errors():
                streams.forget_cached_pages(reader.fileno())
                return streams.move(reader, None, watch=watch, on_bytes=on_bytes)

        return self._reading(work, watch, on_bytes)

    @_in_time
    def remove(self, name: str) -> bool:
        path = self._path(name)
        with self._errors():
            was_there = _unlink(path)
            sidecar_was_there = _unlink(self._sidecar(name))
            if was_there or sidecar_was_there:
                streams.flush_path_to_disk(self.folder)
            else:
                self._insist_on_folder()
        return was_there

    @_in_time
    def write_text(self, name: str, text: str) -> None:
        self._path(name)
        temporary = self.folder / f".{name}.{secrets.token_hex(4)}.part"
        with self._errors(), _removed_unless_renamed(temporary):
            with streams.create(temporary) as file:
                file.write(text.encode())
                streams.flush_to_disk(file)
            temporary.replace(self._sidecar(name))
            streams.flush_path_to_disk(self.folder)

    @_in_time
    def read_text(self, name: str) -> str | None:
        self._path(name)
        with self._errors():
            try:
                file = streams.open_to_read(self._sidecar(name))
            except FileNotFoundError:
                self._insist_on_folder()
                return None
            except OSError as error:
                raise streams.translate(error, say("The file {path}", path=self._sidecar(name))) from error
            with file:
                return decoded_sidecar(file.read(MAX_SIDECAR_BYTES + 1), name)

    def sweep_temporary(
        self, older_than_seconds: float, *, is_wanted: Callable[[str], bool] = any_name
    ) -> list[str]:
        old = self._left_before(time.time() - older_than_seconds)
        return self._unlinked([name for name in old if is_wanted(name_behind(name) or "")])

    @_in_time
    def _left_before(self, moment: float) -> list[str]:
        with self._errors(), os.scandir(self.folder) as entries:
            return sorted(
                entry.name for entry in entries if name_behind(entry.name) and _is_old_file(entry, moment)
            )

    @_in_time
    def _unlinked(self, names: list[str]) -> list[str]:
        with self._errors():
            return [name for name in names if _unlink(self.folder / name)]

    @contextmanager
    def working_file(self, name: str) -> Iterator[WorkingFile]:
        """A file to write a backup into; it is gone afterwards unless ``commit()`` gave it its name.

        The temporary name reserves the name: a second working file of one name is refused (NameTaken).
        """
        final = self._path(name)
        temporary = self.folder / f".{name}.part"

        def make() -> None:
            self._insist_on_free_name(final)
            with self._errors():
                try:
                    streams.create(temporary).close()
                except FileExistsError:
                    raise self._taken(name) from None

        def name_it() -> Path:
            with self._errors():
                temporary.chmod(0o600)
                streams.flush_path_to_disk(temporary)
                self._give_name(temporary, final)
            return final

        bounded.in_time(self._subject, make, self.patience)
        try:
            yield WorkingFile(
                path=temporary,
                name=name,
                commit=lambda: bounded.in_time(self._subject, name_it, bounded.WRITE_SECONDS),
            )
        finally:
            with suppress(OSError, StorageProblem):
                bounded.in_time(self._subject, lambda: temporary.unlink(missing_ok=True), self.patience)

    def _writing(self, work: Callable[[Watch, OnBytes], T], watch: Watch, on_bytes: OnBytes) -> T:
        limit = bounded.WRITE_SECONDS
        return bounded.relayed(self._subject, work, watch=watch, on_bytes=on_bytes, seconds=limit)

    def _reading(self, work: Callable[[Watch, OnBytes], T], watch: Watch, on_bytes: OnBytes) -> T:
        limit = bounded.READ_SECONDS
        return bounded.relayed(self._subject, work, watch=watch, on_bytes=on_bytes, seconds=limit)

    @contextmanager
    def _copied(
        self, source: Path, name: str, *, watch: Watch, on_bytes: OnBytes
    ) -> Iterator[tuple[Path, Stored]]:
        """A copy under a temporary name that was flushed and read back; gone afterwards unless renamed."""
        temporary = self.folder / f".{name}.{secrets.token_hex(4)}.part"
        with streams.os_errors(say("The file {path}", path=source)):
            reader = streams.open_to_read(source)
        with reader, self._errors(), _removed_unless_renamed(temporary):
            with streams.create(temporary) as writer:
                written = streams.move(reader, writer, watch=watch, on_bytes=on_bytes)
                streams.flush_to_disk(writer)
                streams.forget_cached_pages(writer.fileno())
            self._insist_on_equal_copy(name, temporary, written, watch=watch, on_bytes=on_bytes)
            yield temporary, written

    def _reader(self, name: str) -> BinaryIO:
        path = self.local_path(name)
        if path is None:
            raise MissingCopy(say("{place} holds no file {name}.", place=self._subject, name=name))
        with streams.os_errors(say("The file {path}", path=path)):
            return streams.open_to_read(path)

    def _insist_on_equal_copy(
        self, name: str, copy: Path, expected: Stored, *, watch: Watch, on_bytes: OnBytes
    ) -> None:
        with streams.open_to_read(copy) as reader:
            found = streams.move(reader, None, watch=watch, on_bytes=on_bytes)
        if found != expected:
            raise unequal_copy(self._subject, name, expected, found)

    def _insist_on_free_name(self, final: Path) -> None:
        with self._errors():
            if os.path.lexists(final):
                raise self._taken(final.name)
            self._insist_on_folder()

    def _give_name(self, temporary: Path, final: Path) -> None:
        """Rename without ever replacing a file, which os.rename would do."""
        try:
            os.link(temporary, final, follow_symlinks=False)
            temporary.unlink()
        except FileExistsError:
            raise self._taken(final.name) from None
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}:
                raise
            self._reserve_and_rename(temporary, final)
        streams.flush_path_to_disk(self.folder)

    def _reserve_and_rename(self, temporary: Path, final: Path) -> None:
        """For network mounts without hard links: reserve the name with an empty file, then replace that."""
        try:
            streams.create(final).close()
        except FileExistsError:
            raise self._taken(final.name) from None
        try:
            temporary.replace(final)
        except BaseException:
            final.unlink(missing_ok=True)
            raise

    def _taken(self, name: str) -> NameTaken:
        return NameTaken(
            say("{place} already holds a file {name}: it was left as it is.", place=self._subject, name=name)
        )

    def _insist_on_folder(self) -> None:
        if self.folder.is_dir():
            return
        if self.folder.exists():
            raise StorageProblem(
                say("{place} is not a folder: correct BACKUP_LOCATIONS.", place=self._subject)
            )
        raise StorageProblem(
            say(
                "{place} does not exist: create the folder, mount it, or correct BACKUP_LOCATIONS.",
                place=self._subject,
            )
        )

    def _stored_file(self, entry: os.DirEntry[str]) -> StoredFile | None:
        if not self.naming.fits(entry.name) or not entry.is_file(follow_symlinks=False):
            return None
        try:
            facts = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # removed since the folder was read
            return None
        return StoredFile(entry.name, facts.st_size, datetime.fromtimestamp(facts.st_mtime, tz=UTC))

    def _path(self, name: str) -> Path:
        self.naming.insist_on(name)
        return self.folder / name

    def _sidecar(self, name: str) -> Path:
        return self.folder / (name + SIDECAR_SUFFIX)

    @property
    def _subject(self) -> str:
        return say("The storage location {location}", location=self.describe())

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with streams.os_errors(self._subject):
            yield


def hurried(location: Location, seconds: float) -> Location:
    """The location, which a page waits for so long at the most."""
    return replace(location, patience=seconds) if isinstance(location, LocalLocation) else location


@contextmanager
def working_file(location: Location, name: str) -> Iterator[WorkingFile]:
    """A file of the first location to write a backup into; see LocalLocation.working_file."""
    if not isinstance(location, LocalLocation):
        raise NotConfigured(
            say(
                "The first storage location, {location}, is not a folder of this machine:"
                " list a folder first.",
                location=location.describe(),
            )
        )
    with location.working_file(name) as working:
        yield working


@contextmanager
def _removed_unless_renamed(temporary: Path) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _is_old_file(entry: os.DirEntry[str], before: float) -> bool:
    try:
        return entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime <= before
    except FileNotFoundError:
        return False


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
