"""What is still to be done and told about an operation that has ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from backups_app import config
from backups_app.errors import QradminError
from backups_app.models import Operation
from backups_app.operations.log_lines import log_note
from backups_app.operations.masking import masked
from backups_app.sentences import say
from backups_app.systems.postgres import databases


class Aftermath:
    """Writes into the trail of an operation that has ended."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    @property
    def operation(self) -> Operation:
        return self._operation

    def note(self, what: str, *, level: str = "info", **detail: Any) -> None:
        what, detail = masked(what), masked(detail)
        log_note(self._operation, what, level=level, step=what)
        self._operation.note(what, level=level, **detail)

    @contextmanager
    def stage(self, name: str, *, is_endable: bool = True) -> Iterator[None]:  # noqa: ARG002
        """As a journal's; nothing ends it."""
        began = time.monotonic()
        yield
        self.note(name, seconds=round(time.monotonic() - began, 3))


def end_sessions(operation: Operation) -> None:
    """The dead worker's sessions on the servers it worked on."""
    for server in {config.managed_database(), config.drill_database()}:
        try:
            databases.end_sessions(server, application_prefix=operation.application_name)
        except QradminError as error:
            what = say("Its sessions could not be ended: {problem}", problem=error.message)
            log_note(operation, what, level="warning", step="End the sessions")
