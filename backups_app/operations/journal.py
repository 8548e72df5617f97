"""The record of a running operation: opens it, tells of steps and progress, closes it whatever happens."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

from django.db import Error as RecordsError
from django.db import InterfaceError, OperationalError, connection, connections, transaction
from django.utils import timezone

from backups_app import config, log_context
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
from backups_app.operations.log_lines import log_end, log_failure, log_note
from backups_app.operations.masking import masked
from backups_app.sentences import say

UNTOUCHED = say("The live database was not touched.")
HEARTBEAT_SECONDS = 1.0
SILENCE_SECONDS = 60.0
REMEMBERED = 10
RETRY_SECONDS = 1.0
AWAY = (OperationalError, InterfaceError)
WISHES = (Cancelled, KeyboardInterrupt)

log = logging.getLogger(__name__)

Result = TypeVar("Result")
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
        self.consequence = say("Nothing was changed.")
        self.result: dict[str, Any] = {}
        self._on_note = on_note
        self._on_progress = on_progress
        self._unwritten: list[Step] = []
        self._deadlines = [(time.monotonic() + config.limits().operation, "the operation's time limit")]
        self._stall_seconds = config.limits().stall
        self._moved_at = time.monotonic()
        self._progress: tuple[int, int | None, str] = (0, None, "")
        self._step = ""
        self._outer = ""
        self._broken: deque[tuple[BaseException, str, float]] = deque(maxlen=REMEMBERED)
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
            raise _claim_lost()
        if self._is_cancelled and not self._is_past_cancelling:
            who = self.operation.cancel_requested_by
            raise Cancelled(say("It was cancelled by {who}.", who=who) if who else "It was cancelled.")
        now = time.monotonic()
        for deadline, name in self._deadlines:
            if now > deadline:
                raise TimeLimitReached(say("It took longer than {limit}.", limit=name))
        if now - self._moved_at > self._stall_seconds:
            raise Stalled(
                say(
                    "Nothing moved for {seconds} seconds in the step “{step}”:"
                    " see which sessions block the database, or whether a storage location is silent.",
                    seconds=self._stall_seconds,
                    step=self._step,
                )
            )

    @contextmanager
    def time_limit(self, seconds: float, name: str) -> Iterator[None]:
        """Within this block the work may take so long; ``name`` stands in the error's sentence."""
        limit = (
            time.monotonic() + seconds,
            say("{name} of {seconds} seconds", name=name, seconds=f"{seconds:g}"),
        )
        self._deadlines.append(limit)
        try:
            yield
        finally:
            self._deadlines.remove(limit)

    def confirm(self) -> None:
        """Ask the database, now, whether this operation is still ours; ClaimLost when it is not."""
        self.insist_on_claim()
        self.watch()

    def insist_on_claim(self) -> None:
        """The same, where neither a wish nor a time limit may end the work."""
        if not patiently(lambda: self.operation.update_held(heartbeat_at=timezone.now())):
            self._is_lost = True
            raise _claim_lost()

    def pass_the_point_of_no_return(self) -> None:
        """From here on a wish to cancel comes too late; Cancelled when it came in time."""
        held = Operation.objects.running().filter(pk=self.operation.pk, token=self.operation.token)
        wanted = held.filter(cancel_requested_at=None)
        if patiently(lambda: wanted.update(is_past_cancelling=True, heartbeat_at=timezone.now())):
            self.operation.is_past_cancelling = True
            self._is_past_cancelling = True
            return
        patiently(self._look)
        self.watch()
        raise _claim_lost()

    # --- what is told ---------------------------------------------------------------------------------

    def note(self, what: str, *, level: str = "info", **detail: Any) -> None:
        """Write a line into the trail; kept for later when the site's database does not answer."""
        self.moved()
        what, detail = masked(what), masked(detail)
        log_note(self.operation, what, level=level, step=self._step or what, seconds=detail.get("seconds"))
        self._unwritten.append(Step(operation=self.operation, level=level, what=what, detail=detail))
        try:
            self._write_notes()
        except AWAY:
            log.warning("%s: a step could not be written yet", self.operation, exc_info=True)
            connection.close_if_unusable_or_obsolete()
        if self._on_note:
            self._on_note(level, what)

    def warn(self, what: str, **detail: Any) -> None:
        self.note(what, level="warning", **detail)

    def note_end(self, error: BaseException, message: str, level: str, **detail: Any) -> None:
        """What ends the work early, after the step in which it happened."""
        causes = list(_with_causes(error))
        for found in [found for found in self._broken if found[0] in causes]:
            self._broken.remove(found)  # it is told once
            self.note(found[1], level=level, seconds=found[2])
        self.note(message, level=level, **detail)

    def keep_warnings(self, *told: str) -> None:
        """Let warnings, which stand in the trail already, stand in the outcome too."""
        self.result["warnings"] = [*self.result.get("warnings", []), *told]

    @contextmanager
    def stage(self, name: str, *, is_endable: bool = True) -> Iterator[None]:
        """A step with a duration; it is written when it ends, or with the error that ends the operation.

        One that is not ``is_endable`` begins although the work has to end: it brings something back.
        """
        if is_endable:
            self.watch()
        self.moved()
        outer = self._outer
        self._show_step(name)
        self._outer = name
        began = time.monotonic()
        try:
            yield
        except BaseException as error:
            if all(error is not known for known, *_ in self._broken):  # the innermost step broke
                self._broken.append((error, name, round(time.monotonic() - began, 3)))
            raise
        else:
            self.note(name, seconds=round(time.monotonic() - began, 3))
        finally:
            self._outer = outer
            self._show_step(outer)

    def _show_step(self, name: str) -> None:
        self._step, self._progress = name, (0, None, "")
        with suppress(RecordsError):  # only shown; what has to be stored waits for the database
            self.operation.update_held(
                current_step=name, progress_done=0, progress_total=None, progress_unit=""
            )

    def progress(self, done: int, total: int | None = None, unit: str = "") -> None:
        """So much of the present step is done; written with the next heartbeat."""
        if done != self._progress[0]:
            self.moved()
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
        if not patiently(lambda: self.operation.update_held(leftovers=leftovers)):
            self._is_lost = True
            self.watch()

    def moved(self) -> None:
        """The work is not stuck: `watch` counts its time limit for standing still from here."""
        self._moved_at = time.monotonic()

    # --- the heartbeat ----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Show life, and see whether the row is still ours and whether somebody wants it to end."""
        done, total, unit = self._progress
        held = Operation.objects.running().filter(pk=self.operation.pk, token=self.operation.token)
        now = timezone.now()
        if not held.update(
            heartbeat_at=now,
            moved_at=now - timedelta(seconds=time.monotonic() - self._moved_at),
            progress_done=done,
            progress_total=total,
            progress_unit=unit,
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
            except RecordsError:
                log.warning("%s: the heartbeat could not be written", self.operation, exc_info=True)
                if time.monotonic() - answered > SILENCE_SECONDS:
                    self._is_lost = True
            finally:
                connections.close_all()

    # --- opening and closing ------------------------------------------------------------------------------

    def _write_notes(self) -> None:
        """Write what is not yet written, in its order.

        What the database refuses is left to the log, and so is what a worker has to say that lost its
        claim: the trail of an operation that housekeeping has given up is closed.
        """
        while self._unwritten:
            try:
                self._write(self._unwritten[0])
            except AWAY:
                raise
            except RecordsError:
                log.exception("%s: a step was refused: %s", self.operation, self._unwritten[0].what)
            self._unwritten.pop(0)

    def _write(self, step: Step) -> None:
        with transaction.atomic():
            if not self.operation.update_held(heartbeat_at=timezone.now()):
                self._is_lost = True
                return
            # A new row for each attempt: one that was rolled back left its marks on the old one.
            Step.objects.create(
                operation=self.operation, at=step.at, level=step.level, what=step.what, detail=step.detail
            )

    def close(self, state: str, **changes: Any) -> None:
        """Write the outcome, with patience: the site's database may be down for a moment."""
        try:
            is_closed = patiently(lambda: self._close(state, changes))
        except RecordsError:
            log.exception("%s: the outcome %s could not be written", self.operation, state)
            return
        if not is_closed:
            log.error("%s: the record was closed by somebody else", self.operation)
            return
        log_end(self.operation, state)

    def _close(self, state: str, changes: dict[str, Any]) -> bool:
        self._write_notes()
        return self.operation.end(state, current_step="", result=masked(self.result), **changes)


def _claim_lost() -> ClaimLost:
    return ClaimLost(say("This operation was given up by housekeeping; this worker stops."))


def patiently(write: Callable[[], Result]) -> Result:
    """``write`` to the site's database, again for up to a minute while that does not answer.

    ``write`` has to do no harm when it is done twice.
    """
    deadline = time.monotonic() + SILENCE_SECONDS
    while True:
        try:
            return write()
        except AWAY:
            if time.monotonic() > deadline or connection.in_atomic_block:
                raise
            log.warning("The site's database does not answer; trying again", exc_info=True)
            connection.close_if_unusable_or_obsolete()
            time.sleep(RETRY_SECONDS)


@contextmanager
def open_journal(
    operation: Operation, *, on_note: OnNote | None = None, on_progress: OnProgress | None = None
) -> Iterator[Journal]:
    """The journal of a claimed operation, with its heartbeat; the record is closed in every case.

    Errors end here, in the record: read ``operation.state`` afterwards. Only what is no Exception (a
    time-out of the queue, Ctrl-C) goes on to the caller.
    """
    with log_context.about(operation=operation.pk, user=operation.requested_by_name or None):
        yield from _opened(Journal(operation, on_note=on_note, on_progress=on_progress))


def _opened(journal: Journal) -> Iterator[Journal]:
    operation = journal.operation
    ended = threading.Event()
    look = contextvars.copy_context().run
    heart = threading.Thread(
        target=look,
        args=(journal._keep_looking, ended),  # noqa: SLF001
        daemon=True,
        name="heartbeat",
    )
    heart.start()
    try:
        yield journal
    except BaseException as error:
        log_failure(operation, error)
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
    message, detail = _told(error)
    is_wish = isinstance(error, WISHES)
    journal.note_end(error, message, "warning" if is_wish else "error")
    journal.close(
        Operation.State.CANCELLED if is_wish else Operation.State.FAILED,
        error=masked(f"{_sentence(message)} {journal.consequence}".strip()),
        error_detail=masked(detail),
        blame=_blame(error),
    )


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _sentence(text: str) -> str:
    """With a full stop, which the programs' own messages lack."""
    return text if text.endswith((".", "!", "?", ";")) else f"{text}."


def _told(error: BaseException) -> tuple[str, str]:
    """What is said to the operator, and the detail."""
    if isinstance(error, QradminError):
        return error.message, error.detail
    if isinstance(error, KeyboardInterrupt):
        return say("It was ended at the keyboard."), ""
    detail = "".join(traceback.format_exception_only(error)).strip()
    if isinstance(error, RecordsError):
        return say("The site's own database, which keeps the audit trail, could not be used."), detail
    if isinstance(error, Exception):
        name = type(error).__name__
        return say("Something unexpected went wrong ({name}); the log has the details.", name=name), detail
    return say("Its worker was told to stop."), detail


def _blame(error: BaseException) -> str:
    """Whose fault it is: the backup's, the surroundings', the database's, or nobody's."""
    if isinstance(error, BadBackup):
        return "backup"
    if isinstance(error, EnvironmentProblem):
        return "environment"
    if isinstance(error, UnhealthyDatabase):
        return "database"
    return ""
