"""The record of a running operation: opens it, tells of steps and progress, closes it whatever happens."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import DatabaseError, connection, connections
from django.utils import timezone

from backups_app import config
from backups_app.errors import (
    BadBackup,
    Cancelled,
    ClaimLost,
    EnvironmentProblem,
    QradminError,
    Stalled,
    TimeLimitReached,
    UnhealthyDatabase,
)
from backups_app.models import Operation, Step

HEARTBEAT_SECONDS = 1.0
SILENCE_SECONDS = 60.0
CLOSING_SECONDS = 60.0

log = logging.getLogger(__name__)

OnNote = Callable[[str, str], None]
OnProgress = Callable[[str, int, int | None, str], None]


class Journal:
    """The pen of one running operation.

    ``watch`` is what long work calls all the time; it raises when the work has to end.
    ``consequence`` says in words what has been touched so far, and is put behind every error.
    """

    def __init__(
        self, operation: Operation, *, on_note: OnNote | None = None, on_progress: OnProgress | None = None
    ) -> None:
        self._operation = operation
        self.consequence = "Nothing was changed."
        self.result: dict[str, Any] = {}
        self._on_note = on_note
        self._on_progress = on_progress
        self._unwritten: list[Step] = []
        self._deadlines = [(time.monotonic() + config.limits().operation, "the operation's time limit")]
        self._stall_seconds = config.limits().stall
        self._moved_at = time.monotonic()
        self._progress: tuple[int, int | None, str] = (0, None, "")
        self._step = ""
        self._is_cancelled = False
        self._is_lost = False
        self._is_past_cancelling = False

    @property
    def operation(self) -> Operation:
        return self._operation

    # --- what has to end the work -------------------------------------------------------------------

    def watch(self) -> None:
        """Raise ClaimLost, Cancelled, TimeLimitReached or Stalled when the work has to end."""
        if self._is_lost:
            raise ClaimLost("This operation was given up by housekeeping; this worker stops.")
        if self._is_cancelled and not self._is_past_cancelling:
            who = self.operation.cancel_requested_by
            raise Cancelled(f"It was cancelled by {who}." if who else "It was cancelled.")
        now = time.monotonic()
        for deadline, name in self._deadlines:
            if now > deadline:
                raise TimeLimitReached(f"It took longer than {name}.")
        if now - self._moved_at > self._stall_seconds:
            raise Stalled(
                f"Nothing moved for {self._stall_seconds} seconds in the step “{self._step}”:"
                " see which sessions block the database."
            )

    @contextmanager
    def time_limit(self, seconds: float, name: str) -> Iterator[None]:
        """Within this block the work may take so long; ``name`` stands in the error's sentence."""
        limit = (time.monotonic() + seconds, f"{name} of {seconds:g} seconds")
        self._deadlines.append(limit)
        try:
            yield
        finally:
            self._deadlines.remove(limit)

    def confirm(self) -> None:
        """Ask the database, now, whether this operation is still ours; ClaimLost when it is not."""
        if not self.operation.update_held(heartbeat_at=timezone.now()):
            self._is_lost = True
        self.watch()

    def pass_the_point_of_no_return(self) -> None:
        """From here on a wish to cancel comes too late; Cancelled when it came in time."""
        held = Operation.objects.running().filter(pk=self.operation.pk, token=self.operation.token)
        if held.filter(cancel_requested_at=None).update(is_past_cancelling=True, heartbeat_at=timezone.now()):
            self.operation.is_past_cancelling = True
            self._is_past_cancelling = True
            return
        self._look()
        self.watch()
        raise ClaimLost("This operation was given up by housekeeping; this worker stops.")

    # --- what is told ---------------------------------------------------------------------------------

    def note(self, what: str, *, level: str = "info", **detail: Any) -> None:
        """Write a line into the trail; kept for later when the site's database does not answer."""
        self._moved()
        log_level = {"warning": logging.WARNING, "error": logging.ERROR}.get(level, logging.INFO)
        log.log(
            log_level, "%s: %s", self.operation, what, extra={"operation": self.operation.pk, "step": what}
        )
        self._unwritten.append(Step(operation=self.operation, level=level, what=what, detail=detail))
        self._write_notes()
        if self._on_note:
            self._on_note(level, what)

    def warn(self, what: str, **detail: Any) -> None:
        self.note(what, level="warning", **detail)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A step with a duration; its end is written when it succeeds."""
        self.watch()
        self._moved()
        self._step, self._progress = name, (0, None, "")
        began = time.monotonic()
        self.operation.update_held(current_step=name, progress_done=0, progress_total=None, progress_unit="")
        yield
        self.note(name, seconds=round(time.monotonic() - began, 3))

    def progress(self, done: int, total: int | None = None, unit: str = "") -> None:
        """So much of the present step is done; written with the next heartbeat."""
        if done != self._progress[0]:
            self._moved()
        self._progress = (done, total, unit)
        if self._on_progress:
            self._on_progress(self._step, done, total, unit)

    def will_leave(self, what: str, name: str, **where: Any) -> None:
        """Record, before it is made, what housekeeping has to remove if this worker dies."""
        self._set_leftovers([*self.operation.leftovers, {"what": what, "name": name, **where}])

    def left_nothing(self, what: str, name: str) -> None:
        """It is gone, or it is meant to stay."""
        keep = [one for one in self.operation.leftovers if (one["what"], one["name"]) != (what, name)]
        self._set_leftovers(keep)

    def _set_leftovers(self, leftovers: list[dict[str, Any]]) -> None:
        if not self.operation.update_held(leftovers=leftovers):
            self._is_lost = True
            self.watch()

    def _moved(self) -> None:
        self._moved_at = time.monotonic()

    # --- the heartbeat ----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Show life, and see whether the row is still ours and whether somebody wants it to end."""
        done, total, unit = self._progress
        held = Operation.objects.running().filter(pk=self.operation.pk, token=self.operation.token)
        if not held.update(
            heartbeat_at=timezone.now(), progress_done=done, progress_total=total, progress_unit=unit
        ):
            self._is_lost = True
            return
        row = held.values("cancel_requested_at", "cancel_requested_by").first()
        if row and row["cancel_requested_at"]:
            self.operation.cancel_requested_by = row["cancel_requested_by"]
            self._is_cancelled = True

    def _keep_looking(self, ended: threading.Event) -> None:
        answered = time.monotonic()
        while not ended.wait(HEARTBEAT_SECONDS) and not self._is_lost:
            try:
                self._look()
                answered = time.monotonic()
            except DatabaseError:
                log.warning("%s: the heartbeat could not be written", self.operation, exc_info=True)
                if time.monotonic() - answered > SILENCE_SECONDS:
                    self._is_lost = True
            finally:
                connections.close_all()

    # --- opening and closing ------------------------------------------------------------------------------

    def _write_notes(self) -> None:
        while self._unwritten:
            try:
                self._unwritten[0].save()
            except DatabaseError:
                log.warning("%s: a step could not be written yet", self.operation, exc_info=True)
                return
            self._unwritten.pop(0)

    def close(self, state: str, **changes: Any) -> None:
        """Write the outcome, with patience: the site's database may be down for a moment."""
        deadline = time.monotonic() + CLOSING_SECONDS
        while True:
            try:
                self._write_notes()
                if not self.operation.end(state, current_step="", result=self.result, **changes):
                    log.error("%s: the record was closed by somebody else", self.operation)
            except DatabaseError:
                log.exception("%s: the outcome %s could not be written", self.operation, state)
                if time.monotonic() > deadline:
                    return
                with suppress(DatabaseError):
                    connection.close_if_unusable_or_obsolete()
                time.sleep(1)
            else:
                return


@contextmanager
def open_journal(
    operation: Operation, *, on_note: OnNote | None = None, on_progress: OnProgress | None = None
) -> Iterator[Journal]:
    """The journal of a claimed operation, with its heartbeat; the record is closed in every case.

    Errors end here, in the record: read ``operation.state`` afterwards. Only what is no Exception (a
    time-out of the queue, Ctrl-C) goes on to the caller.
    """
    journal = Journal(operation, on_note=on_note, on_progress=on_progress)
    ended = threading.Event()
    heart = threading.Thread(target=journal._keep_looking, args=(ended,), daemon=True, name="heartbeat")  # noqa: SLF001
    heart.start()
    try:
        yield journal
    except BaseException as error:
        log.info("%s ended early", operation, exc_info=True)
        _close_early(journal, error)
        if not isinstance(error, Exception):
            raise
    else:
        journal.close(Operation.State.SUCCEEDED)
    finally:
        ended.set()
        heart.join(timeout=5)


def _close_early(journal: Journal, error: BaseException) -> None:
    if isinstance(error, ClaimLost):
        return
    if isinstance(error, QradminError):
        message, detail = error.message, error.detail
    elif isinstance(error, KeyboardInterrupt):
        message, detail = "It was ended at the keyboard.", ""
    elif isinstance(error, Exception):
        message = f"Something unexpected went wrong ({type(error).__name__}); the log has the details."
        detail = "".join(traceback.format_exception_only(error))
    else:
        message, detail = "Its worker was told to stop.", f"{type(error).__name__}: {error}"
    is_wish = isinstance(error, Cancelled | KeyboardInterrupt)
    journal.note(message, level="warning" if is_wish else "error")
    journal.close(
        Operation.State.CANCELLED if is_wish else Operation.State.FAILED,
        error=f"{message} {journal.consequence}".strip(),
        error_detail=without_passwords(detail),
        blame=_blame(error),
    )


def without_passwords(text: str) -> str:
    """``text`` without the passwords that this site knows."""
    for server in (config.managed_database, config.drill_database):
        with suppress(QradminError):
            password = server().password
            text = text.replace(password, "***") if password else text
    return text


def _blame(error: BaseException) -> str:
    """Whose fault it is: the backup's, the surroundings', the database's, or nobody's."""
    if isinstance(error, BadBackup):
        return "backup"
    if isinstance(error, EnvironmentProblem):
        return "environment"
    if isinstance(error, UnhealthyDatabase):
        return "database"
    return ""
