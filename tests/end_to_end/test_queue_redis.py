"""A Redis server as the queue: the same promises as with the site's own database."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from backups_app.systems.postgres.connections import Server
from deploy.demo import embedded
from tests.end_to_end.cluster import Site, wait_until
from tests.real_world import need

PASSWORD = "only-for-this-test"


@dataclass
class RedisServer:
    """A Redis server of its own that a test may stop and start again."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.folder,
            "requirepass": PASSWORD,
            "save": "",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", "redis-server", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        wait_until(self.answers, 10, "Redis does not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def answers(self) -> bool:
        with redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    need(shutil.which("redis-server") is not None, "redis-server is not installed (Debian: redis-server)")
    folder = Path(tempfile.mkdtemp(prefix="qradmin-redis-"))
    server = RedisServer(folder, embedded.free_port())
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def site(
    managed: Server, new_site: Callable[..., Site], own_database: str, redis_server: RedisServer
) -> Iterator[Site]:
    site = new_site(managed, own_database, QUEUE_REDIS_URL=redis_server.url)
    site.start_cluster()
    yield site
    site.stop_cluster()


def test_twenty_duplicate_messages_start_one_operation(site: Site) -> None:
    pk = site.request("backup", is_queued=False)

    site.ask("[async_task('backups_app.tasks.run', pk) for _ in range(20)] and None", pk=pk)
    row = site.wait_for(pk)

    assert (row["state"], row["attempts"]) == ("succeeded", 1), row
    later = site.wait_for(site.request("validate_database"))
    assert later["state"] == "succeeded", later
    assert site.operation(pk)["attempts"] == 1
    assert site.ask("OrmQ.objects.count()") == 0
    assert PASSWORD not in site.log


def test_while_redis_is_down_a_wish_stays_and_is_sent_later(site: Site, redis_server: RedisServer) -> None:
    redis_server.stop()
    pk = site.request("validate_database")
    assert site.operation(pk)["state"] == "queued"
    assert site.operation(pk)["dispatched_at"] is None

    redis_server.start()
    site.ask("Operation.objects.filter(pk=pk).update(created_at=timezone.now() - timedelta(hours=1))", pk=pk)
    site.keep_house()

    assert site.wait_for(pk)["state"] == "succeeded"
    assert PASSWORD not in site.log


def test_a_cluster_that_is_told_to_stop_ends_with_all_its_processes(site: Site) -> None:
    assert site.cluster is not None
    site.cluster.terminate()
    wait_until(lambda: not site.members(), 20, "the cluster does not stop", site)
