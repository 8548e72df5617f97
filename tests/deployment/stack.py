"""The compose file's stack with its demo, driven over HTTP and looked at through the engine."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from docker.models.containers import Container

from deploy.demo.browser import Browser, Page
from tests.deployment.engine import HAPROXY, POSTGRES, ROOT, SITE
from tests.docker_engine import Engine

PATIENCE_SECONDS = 180
PROJECT = "qradmin-test"
API = "qr_generator_api"
COUNT = "SELECT (SELECT count(*) FROM qr_codes), (SELECT count(*) FROM scan_logs)"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _operation_of(page: Page) -> int:
    found = re.search(r"/operation/(\d+)/", page.path)
    assert found, f"{page.status} at {page.path}: {page.text[-1500:]}"
    return int(found[1])


@dataclass
class Deployment:
    """``docker compose --profile demo up`` with files of its own."""

    engine: Engine
    folder: Path
    port: int = field(default_factory=_free_port)
    image: str = SITE

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    @property
    def settings(self) -> Path:
        return self.folder / "settings"

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text()

    def up(self) -> None:
        subprocess.run(
            ["sh", str(ROOT / "deploy" / "container" / "make-secrets"), "--demo"],
            env={**os.environ, "SECRETS": str(self.secrets), "SETTINGS": str(self.settings)},
            check=True,
            capture_output=True,
        )
        with self.settings.open("a") as file:
            file.write("API_MIGRATE_COMMAND=id -un\n")
        self.compose("up", "--detach", "--no-build")
        self.await_health("web", "worker", "demo-api")

    def down(self) -> None:
        self.compose("down", "--volumes", "--timeout", "5")

    @property
    def compose_command(self) -> str:
        return f"docker-compose --file={ROOT}/docker-compose.yml --project-name={PROJECT} --profile=demo"

    def compose(self, *words: str) -> None:
        self.shell(f"{self.compose_command} {' '.join(words)}")

    def shell(self, command: str) -> None:
        """A command of a person at this machine."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    def tag(self, name: str) -> None:
        """Another name for the site's image."""
        with self.engine.client() as client:
            assert client.images.get(SITE).tag(name)

    def container(self, service: str) -> Container:
        with self.engine.client() as client:
            labels = [f"com.docker.compose.project={PROJECT}", f"com.docker.compose.service={service}"]
            (found,) = client.containers.list(all=True, filters={"label": labels})
            return found

    def run(self, service: str, *command: str) -> tuple[int, str]:
        """A program in a container of the stack: its status and what it said."""
        with self.engine.client() as client:
            status, output = client.containers.get(self.container(service).id).exec_run(list(command))
            return status, output.decode()

    def start(self, service: str, *command: str) -> None:
        """A program in a container that goes on by itself.

        As the engine's child, never a shell's with ``&``: that would fall to the container's first process,
        and a PostgreSQL server takes an unknown child that ends with an error for a crash of its own.
        """
        with self.engine.client() as client:
            client.containers.get(self.container(service).id).exec_run(list(command), detach=True)

    def output(self, service: str, *command: str) -> bytes:
        """What a program in a container of the stack writes, byte by byte."""
        with self.engine.client() as client:
            container = client.containers.get(self.container(service).id)
            status, (output, words) = container.exec_run(list(command), demux=True)
            assert status == 0, words
            return bytes(output)

    def manage(self, *words: str) -> dict[str, Any]:
        status, output = self.run("worker", "python3", "manage.py", *words, "--json")
        assert status == 0, output
        answer: dict[str, Any] = json.loads(output.splitlines()[-1])
        return answer

    def sql(self, statement: str, database: str = "qrdb") -> str:
        status, output = self.run(
            "demo-postgres", "psql", "-U", "qr_admin", "-d", database, "-Atc", statement
        )
        assert status == 0, output
        return output.strip()

    def site_sql(self, statement: str) -> str:
        status, output = self.run(
            "site-database", "psql", "-U", "qradmin", "-d", "qradmin", "-Atc", statement
        )
        assert status == 0, output
        return output.strip()

    def logs(self, service: str) -> str:
        with self.engine.client() as client:
            return client.containers.get(self.container(service).id).logs().decode(errors="replace")

    def await_health(self, *services: str) -> None:
        for service in services:
            self.await_that(f"{service} is healthy", lambda one=service: self._health(one) == "healthy")

    def await_that(self, what: str, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            assert time.monotonic() < deadline, (
                f"not within {PATIENCE_SECONDS} seconds: {what}\n{self._words()}"
            )
            time.sleep(0.3)

    @cached_property
    def staff(self) -> Browser:
        browser = Browser(f"http://127.0.0.1:{self.port}")
        page = browser.log_in("itstaff", self.secret("demo_password"))
        assert (page.status, page.path) == (200, "/"), page.text[:500]
        return browser

    def ask(self, path: str, **fields: str) -> int:
        """Send a form; the number of the operation whose page the site answers with."""
        return _operation_of(self.staff.send(path, **fields))

    def hand_in(self, name: str, content: bytes) -> int:
        """Upload a file through the import page; the number of the operation that takes it in."""
        return _operation_of(self.staff.hand_in("/backups_app/backup/import/", name, content))

    def look_at(self, operation: int) -> dict[str, Any]:
        page = self.staff.open(f"/backups_app/operation/{operation}/progress/")
        assert page.status == 200, page.text[:500]
        report: dict[str, Any] = json.loads(page.text)
        return report

    def finish(self, operation: int) -> str:
        """The state in which the operation ended."""
        self.await_that(f"operation {operation} has ended", lambda: not self.look_at(operation)["is_active"])
        return str(self.look_at(operation)["state"])

    def back_up(self, **fields: str) -> tuple[int, str]:
        """A new backup, as its number and its name."""
        operation = self.ask("/backups_app/backup/create/", **fields)
        assert self.finish(operation) == "succeeded", self.look_at(operation)
        row = self.site_sql("SELECT id || ' ' || name FROM backups_app_backup ORDER BY id DESC LIMIT 1")
        number, name = row.split()
        return int(number), name

    @property
    def _environment(self) -> dict[str, str]:
        address = f"127.0.0.1:{self.port}"
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "DOCKER_HOST": self.engine.host,
            "DOCKER_SOCKET": str(self.engine.socket_path),
            "SECRETS": str(self.secrets),
            "SETTINGS": str(self.settings),
            "QRADMIN_IMAGE": self.image,
            "SITE_POSTGRES_IMAGE": POSTGRES,
            "QR_POSTGRES_IMAGE": POSTGRES,
            "HAPROXY_IMAGE": HAPROXY,
            "SITE_PORT": address,
            "SITE_HOST": "127.0.0.1",
            "SITE_ORIGIN": f"http://{address}",
        }

    def _health(self, service: str) -> str:
        container = self.container(service)
        return str(container.attrs["State"].get("Health", {}).get("Status", ""))

    def _words(self) -> str:
        return "\n".join(f"{one}: {self.logs(one)[-1500:]}" for one in ("web", "worker", "docker-control"))
