"""An API's container without an engine, for what a real one does only by chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from backups_app.errors import ContainerProblem
from backups_app.systems.api_container import ContainerState, ExecResult, HealthReport
from backups_app.systems.waiting import Watch, no_watch


@dataclass
class FakeApi:
    """``sick_starts``: how many starts no health follows; ``meanwhile`` happens at each wait for it.

    ``trouble`` is what the engine's answer is instead of a state, ``asked`` how often it was asked for one,
    ``programs`` which run in the container.
    """

    sick_starts: int = 0
    meanwhile: Callable[[], None] = lambda: None
    serving_seconds: float = 0.0
    is_running: bool = True
    is_managed: bool = True
    is_there: bool = True
    health: str | None = None
    trouble: str = ""
    asked: int = 0
    calls: list[str] = field(default_factory=list)
    programs: set[str] = field(default_factory=set)

    def describe(self) -> str:
        return "a container of the tests"

    def state(self) -> ContainerState:
        self.asked += 1
        if self.trouble:
            raise ContainerProblem(self.trouble)
        return ContainerState(self.is_there, self.is_running, status="of the tests", health=self.health)

    def stop(self, watch: Watch = no_watch) -> None:  # noqa: ARG002
        self.calls.append("stop")
        self.is_running = False

    def start(self) -> None:
        self.calls.append("start")
        self.is_running = True

    def wait_healthy(self, watch: Watch = no_watch) -> HealthReport:
        self.meanwhile()
        watch()
        if not self.is_running:
            raise ContainerProblem("The container is exited: see its log.")
        if self.calls.count("start") <= self.sick_starts:
            raise ContainerProblem("The API is unhealthy.")
        return HealthReport("healthy", 0.1, self.serving_seconds)

    def run(
        self, command: Sequence[str], *, on_begin: Callable[[str], None] = lambda _: None, **_: object
    ) -> ExecResult:
        on_begin("abc123")
        self.calls.append(" ".join(command))
        return ExecResult(0, "Running upgrade", 0.1)

    def runs(self, program: str) -> bool:
        return program in self.programs

    def logs(self, lines: int = 50) -> str:  # noqa: ARG002
        return "its last lines"
