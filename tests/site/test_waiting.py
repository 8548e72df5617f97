"""A database that is not up yet is waited for, with a limit."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from deploy.demo import embedded
from tests.conftest import DEFAULT_MAJOR
from tests.site.conftest import Run


def test_a_database_that_never_comes_ends_with_a_sentence(run: Run) -> None:
    port = embedded.free_port()

    waited = run(
        *("manage.py", "wait_for_database", "--seconds", "1"),
        DATABASE_URL=f"postgresql://site:hunter2@127.0.0.1:{port}/site",
    )

    assert waited.returncode == 1
    assert "did not answer within 1 seconds" in waited.stderr
    assert "refused" in waited.stderr
    assert "hunter2" not in waited.stderr
    assert "Traceback" not in waited.stderr


def test_a_database_that_comes_late_is_waited_for(
    run: Run, tmp_path: Path, start_postgres: Callable[[int], embedded.EmbeddedServer]
) -> None:
    server = start_postgres(DEFAULT_MAJOR)
    port = embedded.free_port()
    late = threading.Timer(2, lambda: doors.append(_door(port, server.port)))
    doors: list[subprocess.Popen[bytes]] = []
    late.start()
    began = time.monotonic()

    try:
        waited = run(
            *("manage.py", "wait_for_database", "--seconds", "30"),
            DATABASE_URL=f"postgresql://postgres:{server.password}@127.0.0.1:{port}/postgres",
        )
    finally:
        late.join()
        for door in doors:
            door.kill()
            door.wait()

    assert waited.returncode == 0, waited.stderr
    assert time.monotonic() - began >= 2


def test_a_database_that_is_there_is_not_waited_for(run: Run) -> None:
    waited = run("manage.py", "wait_for_database", "--seconds", "0")

    assert waited.returncode == 0, waited.stderr


def test_how_long_is_a_variable_and_a_wrong_one_is_named(run: Run) -> None:
    url = f"postgresql://site:hunter2@127.0.0.1:{embedded.free_port()}/site"

    waited = run("manage.py", "wait_for_database", DATABASE_URL=url, DATABASE_WAIT_SECONDS="0.5")
    checked = run("manage.py", "check", DATABASE_WAIT_SECONDS="abc")

    assert "did not answer within 0.5 seconds" in waited.stderr
    assert "(qradmin.E031) DATABASE_WAIT_SECONDS is 'abc'." in checked.stderr


def _door(port: int, target: int) -> subprocess.Popen[bytes]:
    """A second port of a running server."""
    return subprocess.Popen([sys.executable, "-c", FORWARD, str(port), str(target)])


FORWARD = """
import asyncio, sys

async def pipe(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()

async def meet(reader, writer):
    there, back = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    await asyncio.gather(pipe(reader, back), pipe(there, writer))

async def main():
    server = await asyncio.start_server(meet, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

asyncio.run(main())
"""
