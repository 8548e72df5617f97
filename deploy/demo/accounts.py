"""Running PostgreSQL as another user than root: who that is, and folders that this user can reach."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


class StartError(Exception):
    """The server cannot run here; the message is one sentence that says why."""


@dataclass(frozen=True)
class Account:
    """The operating system's user that the server runs as; the caller itself unless the caller is root."""

    uid: int
    gid: int
    switches: bool

    @classmethod
    def caller(cls) -> Account:
        return cls(os.geteuid(), os.getegid(), switches=False)

    @classmethod
    def of(cls, name_or_uid: str | int) -> Account:
        entry = pwd.getpwnam(name_or_uid) if isinstance(name_or_uid, str) else pwd.getpwuid(name_or_uid)
        return cls(entry.pw_uid, entry.pw_gid, switches=True)


def guarded(argv: Sequence[str], account: Account, death_signal: str) -> list[str]:
    """``argv`` so that it gets ``death_signal`` (as INT) when its parent ends, as ``account``.

    One setpriv does both: the kernel forgets the death signal when a process changes its user,
    and setpriv asks for it after the change.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return list(argv)
    switch = [f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"]
    return [setpriv, *(switch if account.switches else []), f"--pdeathsig={death_signal}", "--", *argv]


def popen_user(account: Account) -> dict[str, object]:
    if account.switches and shutil.which("setpriv") is None:
        return {"user": account.uid, "group": account.gid, "extra_groups": []}
    return {}


def account_for(folder: Path) -> Account:
    """PostgreSQL refuses to run as root: then it runs as its data's owner, ``postgres`` or ``nobody``."""
    if os.geteuid() != 0:
        return Account.caller()
    for data in (folder / "data", folder / "elsewhere" / "data"):
        if data.is_dir() and data.stat().st_uid != 0:
            return Account.of(data.stat().st_uid)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return Account.of(name)
    raise StartError("PostgreSQL does not run as root, and this machine has no user postgres or nobody.")


def make_passable(folder: Path) -> None:
    """A folder that only its owner reads; as root, others may pass through it. The umask does not matter."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)


def reachable_home(folder: Path, account: Account, before_removal: Callable[[Path], None]) -> Path:
    """``folder``, or a folder under /var/tmp when the server's user cannot enter ``folder``.

    A clone in a private home (such as root's, mode 0700) is closed to every other user, so the
    server's user could not read its own data there. ``folder/elsewhere`` then points to them. Data of a
    removed clone at the same path go, after ``before_removal``.
    """
    if not account.switches or _may(account, "-x", folder):
        return folder
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    home = Path("/var/tmp" if Path("/var/tmp").is_dir() else tempfile.gettempdir()) / f"qradmin-{name}"  # noqa: S108
    link = folder / "elsewhere"
    if home.is_symlink() or (home.exists() and home.stat().st_uid != os.geteuid()):
        raise StartError(f"{home} belongs to someone else: remove it, then start again.")
    if not link.is_symlink():
        before_removal(home)
        shutil.rmtree(home, ignore_errors=True)
        make_passable(home)
        link.symlink_to(home)
    return home


def reachable_programs(programs: Path, home: Path, account: Account) -> Path:
    """``programs``, or a copy in ``home`` when the server's user cannot run them where they are."""
    if not account.switches or _may(account, "-x", programs / "postgres"):
        return programs
    state = programs.stat()
    stamp = hashlib.sha256(f"{programs} {state.st_mtime_ns}".encode()).hexdigest()[:12]
    copy = home / f"programs-{stamp}"
    place = Path(programs.parent.parent.name) / programs.parent.name
    if not copy.exists():
        shutil.rmtree(home / "programs.partial", ignore_errors=True)
        _copy_programs(programs.parent, home / "programs.partial" / place)
        (home / "programs.partial").rename(copy)
    return copy / place / "bin"


def _copy_programs(source: Path, target: Path) -> None:
    """The programs find their libraries relative to themselves, so both keep their places."""
    for part in ("bin", "lib", "share"):
        shutil.copytree(source / part, target / part, ignore=shutil.ignore_patterns("*.a"))
    libraries = source.parent.with_name(source.parent.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target.parent.with_name(libraries.name))
    for path in [target.parent.parent, *target.parent.parent.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)


def _may(account: Account, question: str, path: Path) -> bool:
    """Ask the kernel, as that user: modes of all parent folders and access lists count too."""
    argv = guarded(["test", question, str(path)], account, "KILL")
    return subprocess.run(argv, cwd="/", check=False, **popen_user(account)).returncode == 0  # type: ignore[call-overload,no-any-return]
