"""Stop the API's container, start it again, and wait until the API is healthy.

Calls made to the Docker Engine, and no others (an access filter may allow exactly these):

    GET  /version                    once for each action: the API version both sides understand
    GET  /containers/NAME/json       is it there, is it running, what does its health check say
    POST /containers/NAME/stop
    POST /containers/NAME/start
    GET  /containers/NAME/logs       the last lines, when something went wrong
    POST /containers/NAME/exec       migrations by hand, and ending them when they take too long
    POST /exec/ID/start
    GET  /exec/ID/json               how they ended, and whether they still run after their worker died
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import docker
from docker.errors import NotFound

from backups_app.errors import ContainerProblem, NotConfigured, QradminError, TimeLimitReached
from backups_app.sentences import say
from backups_app.systems import api_health, docker_engine
from backups_app.systems.api_health import HealthProbe
from backups_app.systems.container_output import OUTPUT_LIMIT, Output, without_passwords
from backups_app.systems.waiting import Watch, answer, give_up_after, no_watch

OnBegin = Callable[[str], None]

SETTLING_SECONDS = 2.0  # how long a container without any health check has to keep running
END_SECONDS = 6.0  # for ending a program in the container


@dataclass(frozen=True)
class ContainerState:
    """What the engine says; ``health`` is starting, healthy, unhealthy, or None without a health check."""

    exists: bool
    running: bool
    status: str
    health: str | None = None
    exit_code: int | None = None


@dataclass(frozen=True)
class HealthReport:
    """How the API came up: ``outcome`` is healthy, degraded, running (nothing can tell) or unmanaged.

    ``serving_seconds``: for how long it had answered well already when Docker's health check said so too.
    """

    outcome: str
    seconds: float
    serving_seconds: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExecResult:
    """One program's end in the container; ``output`` is standard output and error, the last 64 KiB."""

    exit_code: int
    output: str
    seconds: float


def tell_nobody(_program: str) -> None:
    """For a program of which no record is kept."""


class Api(Protocol):
    """The API's container, or its absence. All failures are ContainerProblem unless said otherwise."""

    @property
    def is_managed(self) -> bool: ...

    def describe(self) -> str: ...

    def state(self) -> ContainerState:
        """The state now; a container that is not there has ``exists`` False."""

    def stop(self, watch: Watch = no_watch) -> None:
        """Return when it is stopped; nothing to do when it was. A stop once begun is waited for."""

    def start(self) -> None:
        """Start it; nothing to do when it runs."""

    def wait_healthy(self, watch: Watch = no_watch) -> HealthReport:
        """Wait for Docker's health check, then for the application's own report."""

    def probe_health(self) -> HealthProbe:
        """Ask the application once."""

    def logs(self, lines: int = 50) -> str:
        """The last lines of the container's log."""

    def run(
        self,
        command: Sequence[str],
        *,
        workdir: str = "/app",
        watch: Watch = no_watch,
        on_begin: OnBegin = tell_nobody,
    ) -> ExecResult:
        """Run a program in the container; TimeLimitReached ends it when it takes too long.

        ``on_begin`` gets the name by which `runs` knows it, before it begins: it does not end with us.
        """

    def runs(self, program: str) -> bool:
        """Whether a program that `run` began is still at it."""


@dataclass(frozen=True)
class NoContainer:
    """Stands where no container is configured: there is nothing to stop and nothing to start."""

    is_managed: bool = field(default=False, init=False)

    def describe(self) -> str:
        return say("The API is not managed: API_CONTAINER is not set.")

    def state(self) -> ContainerState:
        return ContainerState(exists=False, running=False, status="not managed")

    def stop(self, watch: Watch = no_watch) -> None:
        """Nothing to stop."""

    def start(self) -> None:
        """Nothing to start."""

    def wait_healthy(self, watch: Watch = no_watch) -> HealthReport:  # noqa: ARG002
        return HealthReport(outcome="unmanaged", seconds=0.0, notes=(self.describe(),))

    def probe_health(self) -> HealthProbe:
        return HealthProbe(is_up=False, outcome="unmanaged", message=self.describe())

    def logs(self, lines: int = 50) -> str:  # noqa: ARG002
        return ""

    def run(
        self,
        command: Sequence[str],  # noqa: ARG002
        *,
        workdir: str = "/app",  # noqa: ARG002
        watch: Watch = no_watch,  # noqa: ARG002
        on_begin: OnBegin = tell_nobody,  # noqa: ARG002
    ) -> ExecResult:
        raise NotConfigured(say("No program can be run in the API's container: API_CONTAINER is not set."))

    def runs(self, program: str) -> bool:  # noqa: ARG002
        return False


@dataclass(frozen=True)
class ApiContainer:
    """One container of one Docker Engine; times in seconds."""

    name: str
    docker_host: str | None = None
    health_url: str | None = None
    stop_grace_seconds: float = 10.0
    healthy_timeout_seconds: float = 120.0
    probe_timeout_seconds: float = 5.0
    poll_seconds: float = 0.25
    engine_timeout_seconds: float = 30.0
    program_timeout_seconds: float = 300.0
    is_managed: bool = field(default=True, init=False)

    def describe(self) -> str:
        return f"{self.name} ({self._host})"

    def state(self) -> ContainerState:
        with self._engine() as engine:
            return self._state(engine)

    def stop(self, watch: Watch = no_watch) -> None:
        grace = max(0, round(self.stop_grace_seconds))
        with self._engine() as engine:
            # waited for even when cancelled: a start during the stop would be swallowed by it
            answer(
                lambda: engine.stop(self.name, timeout=grace),
                watch,
                farewell_seconds=grace + self.engine_timeout_seconds,
            )
            if self._state(engine).running:
                raise ContainerProblem(
                    say(
                        "The container {name} runs again after it was stopped: "
                        "something else starts it; stop that first.",
                        name=self.name,
                    )
                )

    def start(self) -> None:
        with self._engine() as engine:
            engine.start(self.name)

    def wait_healthy(self, watch: Watch = no_watch) -> HealthReport:
        began = time.monotonic()
        last = say("it has not answered yet")
        serving_since: float | None = None
        while (seconds := time.monotonic() - began) <= self.healthy_timeout_seconds:
            state = answer(self.state, watch)
            self._insist_on_running(state)
            probe = answer(self.probe_health, watch) if self.health_url else None
            now = time.monotonic()
            serving_since = (serving_since or now) if probe and probe.is_up else None
            last, outcome = _verdict(state, probe, seconds)
            if outcome:
                serving = now - (serving_since or now)
                return HealthReport(outcome, time.monotonic() - began, serving, self._notes(state))
            _pause(self.poll_seconds, watch)
        raise self._with_logs(
            say(
                "The API ({name}) was not healthy within {seconds} seconds: {problem}.",
                name=self.name,
                seconds=f"{self.healthy_timeout_seconds:g}",
                problem=last,
            )
        )

    def probe_health(self) -> HealthProbe:
        return api_health.probe(self.health_url, timeout=self.probe_timeout_seconds)

    def logs(self, lines: int = 50) -> str:
        with self._engine() as engine:
            raw = engine.logs(self.name, tail=lines, stdout=True, stderr=True)
        return without_passwords(raw.decode(errors="replace")[-OUTPUT_LIMIT:])

    def run(
        self,
        command: Sequence[str],
        *,
        workdir: str = "/app",
        watch: Watch = no_watch,
        on_begin: OnBegin = tell_nobody,
    ) -> ExecResult:
        """A shell first says its process id, then becomes the program: so that it can be ended."""
        began = time.monotonic()
        output = Output()
        with self._engine() as engine:
            handle = engine.exec_create(
                self.name, ["/bin/sh", "-c", 'echo "$$"; exec "$@"', "sh", *command], workdir=workdir
            )["Id"]
            on_begin(handle)

            def follow() -> None:
                for source, data in docker_engine.output_of(engine, handle):
                    output.take(source, data)

            try:
                answer(follow, watch, limit_seconds=self.program_timeout_seconds, farewell_seconds=0)
            except BaseException as error:
                self._end(output)
                if not isinstance(error, TimeoutError):
                    raise
                raise TimeLimitReached(
                    say(
                        "{program} in the container {name} took longer than {seconds} seconds and was ended.",
                        program=command[0],
                        name=self.name,
                        seconds=f"{self.program_timeout_seconds:g}",
                    ),
                    detail=output.text,
                ) from error
            exit_code = engine.exec_inspect(handle)["ExitCode"]
        return ExecResult(int(exit_code), output.text, time.monotonic() - began)

    def runs(self, program: str) -> bool:
        with self._engine() as engine:
            try:
                return bool(engine.exec_inspect(program)["Running"])
            except NotFound:  # the engine forgets what has ended, and what a container held that is gone
                return False

    def _end(self, output: Output) -> None:
        """End the program in the container: TERM, then KILL; the engine has no call for it."""

        def end() -> None:
            pid = output.awaited_pid()
            script = f"kill {pid}; for i in 1 2 3; do kill -0 {pid} || exit 0; sleep 1; done; kill -9 {pid}"
            with self._engine() as engine:
                engine.exec_start(engine.exec_create(self.name, ["/bin/sh", "-c", script])["Id"])

        give_up_after(END_SECONDS, end)

    def _insist_on_running(self, state: ContainerState) -> None:
        if not state.exists:
            raise docker_engine.unknown(self._host, self.name)
        if not state.running:
            raise self._with_logs(self._ended(state))
        if state.health == "unhealthy":
            raise self._with_logs(
                say("Docker's health check says that the API ({name}) is unhealthy.", name=self.name)
            )

    def _ended(self, state: ContainerState) -> str:
        if state.exit_code is None:
            return say(
                "The container {name} does not run, its state is {status}: see its log.",
                name=self.name,
                status=state.status,
            )
        return say(
            "The container {name} is {status} with exit code {code}: see its log.",
            name=self.name,
            status=state.status,
            code=state.exit_code,
        )

    def _notes(self, state: ContainerState) -> tuple[str, ...]:
        notes = []
        if state.health is None and self.health_url:
            notes.append(
                say("The container has no health check of its own; {url} answered.", url=self.health_url)
            )
        elif state.health is None:
            notes.append(say("The container has no health check of its own."))
        if not self.health_url:
            notes.append(say("API_HEALTH_URL is not set: the application was not asked."))
        return tuple(notes)

    def _state(self, engine: docker.APIClient) -> ContainerState:
        try:
            facts: dict[str, Any] = engine.inspect_container(self.name)["State"]
        except NotFound:
            return ContainerState(exists=False, running=False, status="missing")
        return ContainerState(
            exists=True,
            running=bool(facts.get("Running")),
            status=str(facts.get("Status", "")),
            health=_health(facts),
            exit_code=None if facts.get("Running") else facts.get("ExitCode"),
        )

    def _with_logs(self, sentence: str) -> ContainerProblem:
        lines = ""
        with suppress(QradminError):
            lines = self.logs()
        return ContainerProblem(sentence, detail=lines)

    @property
    def _host(self) -> str:
        return self.docker_host or docker_engine.DEFAULT_SOCKET

    def _engine(self) -> AbstractContextManager[docker.APIClient]:
        return docker_engine.connected(self._host, self.name, timeout_seconds=self.engine_timeout_seconds)


def _verdict(state: ContainerState, probe: HealthProbe | None, seconds: float) -> tuple[str, str]:
    """What is amiss, and the outcome (empty while the API is not up)."""
    if state.health not in {None, "healthy"}:
        return say("Docker's health check still says {health}", health=state.health), ""
    if probe is not None:
        return probe.message, probe.outcome if probe.is_up else ""
    if state.health is None:
        return say("it has only just started"), "running" if seconds >= SETTLING_SECONDS else ""
    return "", "healthy"


def _health(facts: dict[str, Any]) -> str | None:
    status = (facts.get("Health") or {}).get("Status")
    return None if status in {None, "", "none"} else str(status)


def _pause(seconds: float, watch: Watch) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        watch()
        time.sleep(min(left, 0.1))
