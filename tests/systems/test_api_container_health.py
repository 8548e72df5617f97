"""What the API's own health report means."""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing, suppress
from threading import Thread

import pytest

from backups_app.systems.api_health import judge, probe


def report(status: object, database: object = "pass") -> bytes:
    return json.dumps({"status": status, "checks": {"database": {"status": database}}}).encode()


@pytest.mark.parametrize(
    ("code", "body", "is_up", "outcome"),
    [
        (200, report("healthy"), True, "healthy"),
        (200, b'{"status": "healthy"}', True, "healthy"),
        (200, report("degraded"), True, "degraded"),
        (200, report("degraded", "warn"), False, "degraded"),
        (200, report("degraded", "fail"), False, "degraded"),
        (200, report("degraded", None), False, "degraded"),
        (200, b'{"status": "degraded"}', False, "degraded"),
        (200, b'{"status": "degraded", "checks": []}', False, "degraded"),
        (200, b'{"status": "degraded", "checks": {"database": "pass"}}', False, "degraded"),
        (503, report("degraded"), False, "unhealthy"),
        (503, report("healthy"), False, "unhealthy"),
        (503, report("unhealthy", "fail"), False, "unhealthy"),
        (200, report("unhealthy"), False, "unhealthy"),
        (200, report("HEALTHY"), False, "unhealthy"),
        (200, report(True), False, "unreadable"),
        (200, b"OK", False, "unreadable"),
        (200, b"", False, "unreadable"),
        (200, b"[]", False, "unreadable"),
        (200, b"\xff\xfe", False, "unreadable"),
        (200, b"[" * 200_000, False, "unreadable"),
        (404, b"<html>", False, "unreadable"),
    ],
)
def test_only_healthy_or_degraded_with_a_passing_database_is_up(
    code: int, body: bytes, is_up: bool, outcome: str
) -> None:
    found = judge(code, body)

    assert (found.is_up, found.outcome) == (is_up, outcome)
    assert len(found.message) < 200


@pytest.mark.parametrize(
    "url", [None, "", "ftp://127.0.0.1/health", "file:///etc/passwd", "http://", "nonsense"]
)
def test_an_address_that_is_none_is_never_asked(url: str | None) -> None:
    found = probe(url, timeout=1)

    assert not found.is_up
    assert found.outcome in {"unknown", "unreachable"}


def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        began = time.monotonic()
        found = probe(f"http://127.0.0.1:{silent.getsockname()[1]}/health", timeout=0.5)

    assert (found.is_up, found.outcome) == (False, "unreachable")
    assert time.monotonic() - began < 20


def test_a_server_that_dribbles_is_not_waited_for() -> None:
    def dribble(listener: socket.socket) -> None:
        near, _ = listener.accept()
        with near, suppress(OSError):
            near.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
            for _ in range(30):
                near.sendall(b" ")
                time.sleep(0.1)

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = Thread(target=dribble, args=(listener,))
        server.start()
        began = time.monotonic()
        found = probe(f"http://127.0.0.1:{listener.getsockname()[1]}/health", timeout=0.4)
        seconds = time.monotonic() - began
        server.join()

    assert (found.is_up, found.outcome) == (False, "unreachable")
    assert seconds < 2.9  # the whole answer takes 3 seconds
