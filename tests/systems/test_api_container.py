"""The API's container is stopped, started and waited for on a real Docker Engine."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from backups_app.errors import Cancelled, ContainerProblem, NotConfigured, TimeLimitReached
from backups_app.systems import docker_engine as docker_calls
from backups_app.systems.api_container import ApiContainer, ContainerState, ExecResult, NoContainer
from backups_app.systems.container_output import Output
from backups_app.systems.docker_engine import STDERR, STDOUT
from tests.docker_engine import Engine, TestApi, make_api

pytestmark = pytest.mark.real


@pytest.fixture
def new_api(docker_engine: Engine, tmp_path: Path) -> Iterator[Callable[..., TestApi]]:
    def make(name: str = "qr_generator_api", *, has_health_check: bool = False, **options: object) -> TestApi:
        return make_api(docker_engine, tmp_path, name, has_health_check=has_health_check, **options)

    yield make
    docker_engine.remove_containers()


def controlled(api: TestApi, **options: object) -> ApiContainer:
    settings = {
        "healthy_timeout_seconds": 20.0,
        "stop_grace_seconds": 5.0,
        "probe_timeout_seconds": 2.0,
        "health_url": api.health_url,
    }
    return ApiContainer(name=api.name, docker_host=api.engine.host, **(settings | options))


def cancel_after(seconds: float) -> Callable[[], None]:
    until = time.monotonic() + seconds

    def watch() -> None:
        if time.monotonic() > until:
            raise Cancelled("Cancelled.")

    return watch


def test_it_stops_starts_and_comes_up_without_a_health_check(new_api: Callable[..., TestApi]) -> None:
    container = controlled(new_api())
    assert container.wait_healthy().outcome == "healthy"

    container.stop()
    stopped = container.state()
    down = container.probe_health()
    container.start()
    report = container.wait_healthy()

    assert (stopped.exists, stopped.running, stopped.status, stopped.health) == (True, False, "exited", None)
    assert (down.is_up, down.outcome) == (False, "unreachable")
    assert container.state().running
    assert report.outcome == "healthy"
    assert 0 < report.seconds < 60
    assert report.notes == (
        f"The container has no health check of its own; {container.health_url} answered.",
    )


def test_docker_s_health_check_comes_first_then_the_application(new_api: Callable[..., TestApi]) -> None:
    api = new_api(has_health_check=True)
    container = controlled(api)
    seen: list[str | None] = []

    container.stop()
    container.start()
    started = container.state()
    report = container.wait_healthy(lambda: seen.append(container.state().health))

    assert (started.running, started.health) == (True, "starting")
    assert "starting" in seen
    assert container.state().health == "healthy"
    assert (report.outcome, report.notes) == ("healthy", ())
    assert report.seconds >= 0.5


def test_a_well_answering_application_does_not_outvote_docker_s_health_check(
    new_api: Callable[..., TestApi],
) -> None:
    api = new_api(has_health_check=True)
    container = controlled(api)
    api.docker_says_healthy(False)
    container.stop()
    container.start()

    with pytest.raises(ContainerProblem, match="Docker's health check says") as error:
        container.wait_healthy()

    assert container.probe_health().is_up
    assert container.state().health == "unhealthy"
    assert "listening on" in error.value.detail


def test_an_unhealthy_application_is_waited_for_until_the_time_limit(new_api: Callable[..., TestApi]) -> None:
    api = new_api()
    api.answers("unhealthy", code="503 Service Unavailable", database="fail")
    container = controlled(api, healthy_timeout_seconds=1.5)
    began = time.monotonic()

    with pytest.raises(ContainerProblem) as error:
        container.wait_healthy()

    assert error.value.message == (
        "The API (qr_generator_api) was not healthy within 1.5 seconds: "
        "/health answered 503 and says 'unhealthy'."
    )
    assert "listening on" in error.value.detail
    assert 1.4 < time.monotonic() - began < 30


def test_it_comes_up_as_soon_as_the_application_says_so(new_api: Callable[..., TestApi]) -> None:
    api = new_api()
    api.answers("unhealthy", code="503 Service Unavailable")
    container = controlled(api)

    def heal() -> None:
        time.sleep(1)
        api.answers("healthy")

    healing = Thread(target=heal)
    healing.start()
    report = container.wait_healthy()
    healing.join()

    assert report.outcome == "healthy"
    assert 0.8 < report.seconds < 30


def test_degraded_is_up_only_while_the_database_passes(new_api: Callable[..., TestApi]) -> None:
    api = new_api()
    container = controlled(api, healthy_timeout_seconds=1.0)

    api.answers("degraded", database="pass")
    passing = container.wait_healthy()
    api.answers("degraded", database="warn")
    with pytest.raises(ContainerProblem, match="its database check says warn"):
        container.wait_healthy()
    api.answers("degraded", database="fail")
    with pytest.raises(ContainerProblem, match="its database check says fail"):
        container.wait_healthy()

    assert passing.outcome == "degraded"


def test_without_any_health_check_it_has_to_keep_running(new_api: Callable[..., TestApi]) -> None:
    container = controlled(new_api(), health_url=None)

    report = container.wait_healthy()

    assert report.outcome == "running"
    assert report.seconds >= 2
    assert "the application was not asked" in report.notes[1]


def test_a_container_that_ends_by_itself_is_reported_at_once_with_its_log(
    new_api: Callable[..., TestApi],
) -> None:
    api = new_api()
    container = controlled(api)
    container.stop()
    api.crashes_at_start()
    began = time.monotonic()

    container.start()
    with pytest.raises(ContainerProblem, match="is exited with exit code 3") as error:
        container.wait_healthy()

    assert time.monotonic() - began < 30
    assert "no such table" in error.value.detail


def test_stop_and_start_may_be_repeated(new_api: Callable[..., TestApi]) -> None:
    container = controlled(new_api())

    container.start()
    container.start()
    container.stop()
    container.stop()

    assert not container.state().running
    container.start()
    assert container.state().running


def test_a_container_that_restarts_by_itself_stays_stopped_when_stopped(
    new_api: Callable[..., TestApi],
) -> None:
    container = controlled(new_api(restart_policy={"Name": "always"}))

    container.stop()
    time.sleep(1)

    assert not container.state().running


def test_a_slow_container_gets_its_grace_and_a_cancelled_stop_is_still_finished(
    new_api: Callable[..., TestApi],
) -> None:
    api = new_api(stop_signal="SIGTERM", entrypoint=["/bin/sh", "-c", "while true; do sleep 1; done"])
    container = controlled(api, stop_grace_seconds=2)
    began = time.monotonic()

    with pytest.raises(Cancelled):
        container.stop(cancel_after(0.3))

    assert 1.5 < time.monotonic() - began < 60
    assert not container.state().running


def test_cancel_ends_the_wait_within_a_second(new_api: Callable[..., TestApi]) -> None:
    api = new_api()
    api.answers("unhealthy", code="503 Service Unavailable")
    began = time.monotonic()

    with pytest.raises(Cancelled):
        controlled(api).wait_healthy(cancel_after(0.5))

    assert time.monotonic() - began < 30


def test_the_log_is_its_last_lines_without_passwords(new_api: Callable[..., TestApi]) -> None:
    container = controlled(new_api())
    for _ in range(3):
        container.stop()
        container.start()
    container.wait_healthy()

    lines = container.logs(2).splitlines()

    assert len(lines) == 2
    assert lines[0].startswith("listening on ")
    assert lines[0].endswith("postgresql://qr:***@db/qrdb")


def test_a_program_in_the_container_gives_its_output_and_exit_code(new_api: Callable[..., TestApi]) -> None:
    container = controlled(new_api())

    shown = container.run(["sh", "-c", "pwd; echo out; echo 'err $HOME' >&2; exit 7"])
    in_root = container.run(["pwd"], workdir="/")
    unknown = container.run(["alembic", "upgrade", "head"])

    assert (shown.exit_code, sorted(shown.output.split("\n"))) == (7, ["", "/app", "err $HOME", "out"])
    assert in_root == ExecResult(exit_code=0, output="/\n", seconds=in_root.seconds)
    assert unknown.exit_code == 127
    assert "not found" in unknown.output


def test_an_error_that_arrives_before_the_process_id_is_kept_and_not_taken_for_it() -> None:
    output = Output()

    for source, data in ((STDERR, b"12 warn"), (STDOUT, b"4"), (STDOUT, b"2\nout\n"), (STDERR, b"ings\n")):
        output.take(source, data)

    assert output.pid == 42
    assert output.text == "12 warnout\nings\n"


def test_arguments_reach_the_program_as_they_are(new_api: Callable[..., TestApi]) -> None:
    container = controlled(new_api())
    odd = ["a b", "$(id)", "'", '"', "`id`", ";", "-n", "漢字"]

    result = container.run(["sh", "-c", 'for word in "$@"; do echo "[$word]"; done', "sh", *odd])

    assert result.output.splitlines() == [f"[{word}]" for word in odd]


def test_a_talkative_program_keeps_its_last_output_alone(new_api: Callable[..., TestApi]) -> None:
    container = controlled(new_api())

    result = container.run(["seq", "1", "200000"])

    assert result.exit_code == 0
    assert len(result.output) <= 64 * 1024
    assert result.output.endswith("199999\n200000\n")


def test_a_program_that_takes_too_long_is_ended_in_the_container(new_api: Callable[..., TestApi]) -> None:
    container = replace(controlled(new_api()), program_timeout_seconds=1)
    began = time.monotonic()

    with pytest.raises(TimeLimitReached, match="took longer than 1 seconds and was ended") as error:
        container.run(["sh", "-c", "echo begun; sleep 345"])
    with pytest.raises(Cancelled):
        container.run(["sh", "-c", "trap '' TERM; while true; do sleep 0.2; done"], watch=cancel_after(0.5))

    assert time.monotonic() - began < 60
    assert error.value.detail == "begun\n"
    left = container.run(["ps"]).output
    assert "echo begun" not in left
    assert "trap" not in left


def test_whether_a_program_still_runs_is_known_by_what_it_was_begun_as(
    new_api: Callable[..., TestApi],
) -> None:
    container = controlled(new_api())
    handles: list[str] = []
    meanwhile: list[bool] = []

    def watch() -> None:
        meanwhile.append(container.runs(handles[0]))

    container.run(["sleep", "1"], watch=watch, on_begin=handles.append)

    assert True in meanwhile
    assert not container.runs(handles[0])
    assert not container.runs("0123456789abcdef" * 4)


def test_a_program_needs_a_running_container(new_api: Callable[..., TestApi]) -> None:
    container = controlled(new_api())
    container.stop()

    with pytest.raises(ContainerProblem, match=r"Docker refused it for qr_generator_api: .* is not running"):
        container.run(["pwd"])


def test_an_unknown_container_is_said_by_every_call(docker_engine: Engine) -> None:
    container = ApiContainer(name="no_such_api", docker_host=docker_engine.host)

    for call in (
        container.stop,
        container.start,
        container.wait_healthy,
        container.logs,
        lambda: container.run(["pwd"]),
    ):
        with pytest.raises(ContainerProblem, match="There is no container no_such_api at unix://"):
            call()
    state = container.state()
    assert (state.exists, state.running, state.status) == (False, False, "missing")


def test_a_container_removed_during_the_wait_is_said(new_api: Callable[..., TestApi]) -> None:
    api = new_api()
    api.answers("unhealthy")
    removed = iter([True])

    def watch() -> None:
        if next(removed, False):
            api.engine.remove_containers()

    with pytest.raises(ContainerProblem, match="There is no container qr_generator_api"):
        controlled(api).wait_healthy(watch)


def test_an_engine_that_stops_is_said_and_used_again_when_it_is_back(new_api: Callable[..., TestApi]) -> None:
    api = new_api()
    container = controlled(api)
    container.wait_healthy()

    api.engine.stop()
    try:
        for call in (container.state, container.start, container.stop, container.wait_healthy):
            with pytest.raises(
                ContainerProblem, match=r"Docker Engine at unix://.* cannot be used: "
            ) as error:
                call()
            assert re.search("no such socket|not running or not reachable", error.value.message)
    finally:
        assert api.engine.start()

    container.start()
    assert container.wait_healthy().outcome == "healthy"


def test_an_engine_that_ends_in_the_middle_of_the_wait_is_said(new_api: Callable[..., TestApi]) -> None:
    api = new_api()
    api.answers("unhealthy")
    running = iter([True])

    def watch() -> None:
        if next(running, False):
            api.engine.stop()

    try:
        with pytest.raises(ContainerProblem, match="cannot be used"):
            controlled(api).wait_healthy(watch)
    finally:
        assert api.engine.start()


def test_a_socket_without_permission_is_said(docker_engine: Engine) -> None:
    container = ApiContainer(name="qr_generator_api", docker_host=docker_engine.host)
    container.state()

    os.seteuid(65534)
    try:
        with pytest.raises(ContainerProblem) as error:
            container.state()
    finally:
        os.seteuid(0)

    assert error.value.message == (
        f"The Docker Engine at {docker_engine.host} cannot be used: "
        "permission denied: add the service's user to the socket's group."
    )


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:1", "unix:///nowhere/docker.sock", "gopher://x", "odd"])
def test_a_wrong_address_of_the_engine_is_said(host: str) -> None:
    with pytest.raises(ContainerProblem, match="cannot be used") as error:
        ApiContainer(name="qr_generator_api", docker_host=host).state()

    assert host in error.value.message
    assert len(error.value.message.splitlines()) == 1


ALLOWED = [
    r"GET /version",
    r"GET /v[0-9.]+/containers/[\w-]+/json",
    r"POST /v[0-9.]+/containers/[\w-]+/stop",
    r"POST /v[0-9.]+/containers/[\w-]+/start",
    r"GET /v[0-9.]+/containers/[\w-]+/logs",
    r"POST /v[0-9.]+/containers/[\w-]+/exec",
    r"POST /v[0-9.]+/exec/[0-9a-f]+/start",
    r"GET /v[0-9.]+/exec/[0-9a-f]+/json",
]


class Filter:
    """An access filter in front of the engine's socket: lets the allowed calls through and notes all."""

    def __init__(self, engine_socket: Path, path: Path, allowed: list[str]) -> None:
        self.engine_socket = engine_socket
        self.allowed = allowed
        self.calls: list[str] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                Thread(target=self.serve, args=(near,), daemon=True).start()

    def serve(self, near: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (data := near.recv(65536)):
            head += data
        if not head:  # somebody knocked
            near.close()
            return
        method, target = head.decode(errors="replace").split(" ")[:2]
        call = f"{method} {target.partition('?')[0]}"
        self.calls.append(call)
        if not any(re.fullmatch(pattern, call) for pattern in self.allowed):
            near.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\nConnection: close\r\n\r\nForbidden")
            near.close()
            return
        with near, socket.socket(socket.AF_UNIX) as far:
            far.connect(str(self.engine_socket))
            far.sendall(head.replace(b"Connection: keep-alive", b"Connection: close"))
            back = Thread(target=copy, args=(far, near), daemon=True)
            back.start()
            copy(near, far)
            back.join()


def copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def filtered(engine: Engine, allowed: list[str]) -> Iterator[tuple[str, Filter]]:
    folder = Path(tempfile.mkdtemp(prefix="qradmin-filter-"))
    made = Filter(engine.socket_path, folder / "filter.sock", allowed)
    try:
        yield f"unix://{folder}/filter.sock", made
    finally:
        made.listener.close()
        shutil.rmtree(folder)


def test_everything_works_behind_a_filter_that_allows_only_the_listed_calls(
    new_api: Callable[..., TestApi],
) -> None:
    api = new_api(has_health_check=True)
    with filtered(api.engine, ALLOWED) as (host, filter_):
        container = replace(controlled(api), docker_host=host)

        container.stop()
        container.start()
        assert container.wait_healthy().outcome == "healthy"
        assert "listening on" in container.logs()
        assert container.run(["pwd"]).output == "/app\n"
        with pytest.raises(TimeLimitReached):
            replace(container, program_timeout_seconds=0.5).run(["sleep", "30"])

    for call in filter_.calls:
        assert any(re.fullmatch(pattern, call) for pattern in ALLOWED), call
    for pattern in ALLOWED:
        assert any(re.fullmatch(pattern, call) for call in filter_.calls), pattern


def test_a_filter_that_refuses_a_call_is_named(new_api: Callable[..., TestApi]) -> None:
    api = new_api()
    with filtered(api.engine, [ALLOWED[0], ALLOWED[1]]) as (host, _):
        container = replace(controlled(api), docker_host=host)

        assert container.state().running
        with pytest.raises(ContainerProblem, match=r"access filter at unix://.* does not allow it"):
            container.stop()
    with filtered(api.engine, []) as (host, _):
        container = replace(controlled(api), docker_host=host)
        with pytest.raises(ContainerProblem, match="refuses even GET /version"):
            container.stop()

    assert controlled(api).state().running


def test_without_a_container_nothing_is_done_and_said_so() -> None:
    nothing = NoContainer()

    nothing.stop()
    nothing.start()

    assert nothing.is_managed is False
    assert nothing.state().exists is False
    assert nothing.wait_healthy().outcome == "unmanaged"
    assert nothing.probe_health().is_up is False
    assert nothing.logs() == ""
    assert nothing.describe() == "The API is not managed: API_CONTAINER is not set."
    with pytest.raises(NotConfigured):
        nothing.run(["alembic", "upgrade", "head"])


def test_a_container_whose_exit_code_is_not_known_is_named_with_its_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    container = ApiContainer(name="qr_generator_api", docker_host="unix:///nowhere/docker.sock")
    created = ContainerState(exists=True, running=False, status="created")
    monkeypatch.setattr(ApiContainer, "state", lambda _: created)

    with pytest.raises(ContainerProblem) as error:
        container.wait_healthy()

    assert error.value.message == (
        "The container qr_generator_api does not run, its state is created: see its log."
    )


def test_the_default_socket_is_used_when_no_host_is_set() -> None:
    container = ApiContainer(name="qr_generator_api")

    assert container.describe() == f"qr_generator_api ({docker_calls.DEFAULT_SOCKET})"
    assert container.is_managed
