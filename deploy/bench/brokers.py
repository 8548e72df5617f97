"""The same site three times: its queue in SQLite, in PostgreSQL and in Redis."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from deploy.bench.stand import Stand
from deploy.demo import embedded


def sites(here: Stand) -> Iterator[tuple[str, Stand]]:
    """Name of the queue and its site, with one backup; Redis only where it is installed."""
    yield "SQLite", here
    with here.superuser() as connection:
        connection.execute("CREATE DATABASE site")
    yield "PostgreSQL", _made(here, DATABASE_URL=here.server.url("site"))
    if shutil.which("redis-server"):
        with _redis(here.folder) as url:
            database = f"sqlite:///{here.folder / 'site-of-redis.sqlite3'}"
            yield "Redis", _made(here, DATABASE_URL=database, QUEUE_REDIS_URL=url)


def _made(here: Stand, **environment: str) -> Stand:
    site = replace(here, environment={**here.environment, **environment})
    site.manage("migrate", "--verbosity=0")
    site.manage("backup")
    return site


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    port = embedded.free_port()
    url = f"redis://127.0.0.1:{port}/0"
    options = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "")
    process = subprocess.Popen(
        ["redis-server", *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        _wait_for(url)
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str) -> None:
    """Until the server answers: a refused connection is tried again for some seconds."""
    patience = Retry(ConstantBackoff(0.05), 200)
    with redis.from_url(url, retry=patience) as client:
        client.ping()
