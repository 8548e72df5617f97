"""A real Docker Engine of its own for the tests, with a tiny image whose server answers as a test says."""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import APIError, DockerException
from requests.exceptions import RequestException

from tests.real_world import need

IMAGE = "qradmin-test-api:latest"
BUSYBOX = Path("/bin/busybox")
HEALTH_SCRIPT = """#!/bin/sh
printf 'HTTP/1.0 %s\\r\\nContent-Type: application/json\\r\\n\\r\\n' "$(cat /state/code)"
cat /state/body
"""
START_SCRIPT = """#!/bin/sh
echo "listening on $PORT with postgresql://qr:hunter2@db/qrdb"
if [ -e /state/crash ]; then echo "no such table"; exit 3; fi
exec httpd -f -p "127.0.0.1:$PORT" -h /www
"""
WITHOUT_NETWORKS = (
    "--storage-driver=vfs",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-masq=false",
    "--ip-forward=false",
)
PROGRAMS = ("sh", "cat", "httpd", "sleep", "kill", "seq", "test", "id", "pwd", "ps", "grep")


@dataclass
class Engine:
    """One dockerd with folders and a socket of its own; ``host`` is what goes into DOCKER_HOST."""

    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    image: str = IMAGE
    switches: tuple[str, ...] = WITHOUT_NETWORKS

    @property
    def socket_path(self) -> Path:
        return self.folder / "docker.sock"

    @property
    def host(self) -> str:
        return f"unix://{self.socket_path}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    def start(self, seconds: float = 60) -> bool:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command(), stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(DockerException, RequestException, OSError):
                with socket.socket(socket.AF_UNIX) as door:
                    door.connect(str(self.socket_path))
                with self.client() as client:
                    client.ping()
                return True
            time.sleep(0.1)
        return False

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def client(self) -> docker.DockerClient:
        client = docker.DockerClient(base_url=self.host, version="auto", timeout=60)
        return _Closing(client)  # type: ignore[return-value]

    def remove_containers(self) -> None:
        with self.client() as client:
            for container in client.containers.list(all=True):
                with suppress(APIError):
                    container.remove(force=True)

    def load_image(self) -> None:
        with self.client() as client:
            client.api.import_image_from_data(
                _file_system(),
                repository=IMAGE.split(":", maxsplit=1)[0],
                tag=IMAGE.split(":")[1],
                changes=['CMD ["/start"]', "ENV PATH=/bin"],
            )

    def clean_up(self) -> None:
        with suppress(Exception):
            self.remove_containers()
        containerd = self.folder / "exec" / "containerd" / "containerd.pid"
        pid = int(containerd.read_text()) if containerd.exists() else None
        self.stop()
        if pid is not None and _is_program(pid, "containerd"):
            os.kill(pid, signal.SIGKILL)
        for line in Path("/proc/self/mounts").read_text().splitlines():
            mount = line.split()[1]
            if mount.startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", mount], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self) -> list[str]:
        options = {
            "host": self.host,
            "data-root": self.folder / "data",
            "exec-root": self.folder / "exec",
            "pidfile": self.folder / "pid",
            "bridge": "none",
        }
        return ["dockerd", *self.switches, *(f"--{name}={value}" for name, value in options.items())]


class _Closing:
    """A Docker client that a with-statement closes."""

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client

    def __enter__(self) -> docker.DockerClient:
        return self._client

    def __exit__(self, *error: object) -> None:
        self._client.close()


@dataclass
class TestApi:
    """A container whose /health answers what the test says."""

    __test__ = False

    engine: Engine
    name: str
    folder: Path
    port: int

    @property
    def health_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/cgi-bin/health"

    def answers(self, status: str, *, code: str = "200 OK", database: str = "pass") -> None:
        self.answers_raw(json.dumps({"status": status, "checks": {"database": {"status": database}}}), code)

    def answers_raw(self, body: str, code: str = "200 OK") -> None:
        (self.folder / "code").write_text(code)
        (self.folder / "body").write_text(body)

    def docker_says_healthy(self, is_healthy: bool) -> None:
        if is_healthy:
            (self.folder / "healthy").touch()
        else:
            (self.folder / "healthy").unlink(missing_ok=True)

    def crashes_at_start(self) -> None:
        (self.folder / "crash").touch()


def make_api(engine: Engine, folder: Path, name: str, *, has_health_check: bool, **options: Any) -> TestApi:
    """A new, running container; with a health check it asks Docker's way for /state/healthy each second."""
    api = TestApi(engine=engine, name=name, folder=folder, port=_free_port())
    api.answers("healthy")
    api.docker_says_healthy(True)
    second = 1_000_000_000
    check = {"test": ["CMD-SHELL", "test -e /state/healthy"], "interval": second, "timeout": 5 * second}
    with engine.client() as client:
        client.containers.run(
            IMAGE,
            name=name,
            detach=True,
            network_mode="host",
            environment={"PORT": str(api.port)},
            volumes={str(folder): {"bind": "/state", "mode": "ro"}},
            healthcheck={**check, "retries": 2} if has_health_check else None,
            **{"stop_signal": "SIGKILL", **options},
        )
    return api


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """A running engine with the image loaded; needs root and dockerd."""
    need(os.geteuid() == 0, "only root may start a Docker Engine")
    need(shutil.which("dockerd") is not None, "dockerd is not installed (Debian: docker.io)")
    need(BUSYBOX.exists() and _is_static(BUSYBOX), "busybox-static is not installed")
    folder = Path(tempfile.mkdtemp(prefix="qradmin-docker-"))
    folder.chmod(0o755)
    engine = Engine(folder)
    try:
        need(engine.start(), f"dockerd does not start here: {engine.log}")
        engine.load_image()
        yield engine
    finally:
        engine.clean_up()


def _file_system() -> bytes:
    """A tar of the image: busybox, its names, the scripts."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in ("bin", "app", "state", "tmp", "www", "www/cgi-bin"):
            _add(tar, folder, kind=tarfile.DIRTYPE)
        _add(tar, "bin/busybox", BUSYBOX.read_bytes())
        for program in PROGRAMS:
            _add(tar, f"bin/{program}", kind=tarfile.SYMTYPE)
        _add(tar, "start", START_SCRIPT.encode())
        _add(tar, "www/cgi-bin/health", HEALTH_SCRIPT.encode())
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size = kind, 0o755, len(data)
    if kind == tarfile.SYMTYPE:
        entry.linkname = "/bin/busybox"
    tar.addfile(entry, io.BytesIO(data))


def _is_static(program: Path) -> bool:
    """Whether a program needs no library, so that it runs in an image with nothing else."""
    return subprocess.run(["ldd", str(program)], capture_output=True).returncode != 0


def _is_program(pid: int, name: str) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip() == name
    return False


def _free_port() -> int:
    """Below the ports that the system gives to outgoing connections: none of them takes it meanwhile."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
