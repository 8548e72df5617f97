"""What the log says of an operation: each line carries its number, who asked for it, and the step."""

from __future__ import annotations

import logging
import traceback

from django.utils import timezone

from backups_app.errors import Cancelled, ClaimLost, QradminError
from backups_app.models import Operation
from backups_app.operations.masking import masked

LEVELS = {"warning": logging.WARNING, "error": logging.ERROR}

log = logging.getLogger(__name__)


def log_note(operation: Operation, what: str, *, level: str, step: str, seconds: float | None = None) -> None:
    """A line of its trail."""
    fields = {**_whose(operation), "step": step, "seconds": seconds}
    log.log(LEVELS.get(level, logging.INFO), "%s: %s", operation, what, extra=fields)


def log_failure(operation: Operation, error: BaseException) -> None:
    """What the program or the server said, and where it broke; a wish to end needs neither.

    An error that has its sentence is understood without the place in the code, whatever the level.
    """
    if isinstance(error, Cancelled | KeyboardInterrupt):
        return
    level = logging.WARNING if isinstance(error, ClaimLost) else logging.ERROR
    fields = _whose(operation)
    if isinstance(error, QradminError) and error.detail:
        fields["detail"] = masked(error.detail)
    if not isinstance(error, QradminError) or log.isEnabledFor(logging.INFO):
        fields["error"] = masked("".join(traceback.format_exception(error))).strip()
    log.log(level, "%s ended early", operation, extra=fields)


def log_end(operation: Operation, state: str) -> None:
    """The last line: what became of it, and the seconds from its start."""
    began = operation.started_at
    seconds = round((timezone.now() - began).total_seconds(), 3) if began else None
    fields = {**_whose(operation), "state": str(state), "seconds": seconds}
    log.info("%s: %s", operation, state, extra=fields)


def _whose(operation: Operation) -> dict[str, object]:
    return {"operation": operation.pk, "user": operation.requested_by_name or None}
