"""Blocking requests to other machines: watched while they wait, bounded when they clean up."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import TypeVar

from backups_app.errors import TimeLimitReached
from backups_app.sentences import say

T = TypeVar("T")
Watch = Callable[[], None]
OnBytes = Callable[[int], None]

WATCH_SECONDS = 0.1


def no_watch() -> None:
    """Let the work go on to its end."""


def no_bytes(_moved: int) -> None:
    """Tell nobody of the bytes that moved."""


def patience(seconds: float, what: str) -> Watch:
    """A watch that raises TimeLimitReached, with ``what`` as its subject, when so much time has passed."""
    deadline = time.monotonic() + seconds

    def watch() -> None:
        if time.monotonic() > deadline:
            raise TimeLimitReached(
                say("{what} was given up after {seconds} seconds.", what=what, seconds=f"{seconds:g}")
            )

    return watch


def answer(
    call: Callable[[], T], watch: Watch, *, limit_seconds: float | None = None, farewell_seconds: float = 2.0
) -> T:
    """The answer of one blocking request, while ``watch`` is asked ten times a second.

    TimeoutError after ``limit_seconds``. When the watch ends the work, the request gets
    ``farewell_seconds`` to end by itself and is then left behind: its own time limits end it.
    """
    watch()
    began = time.monotonic()
    coming = started(call)
    try:
        while not wait([coming], timeout=WATCH_SECONDS).done:
            watch()
            if limit_seconds is not None and time.monotonic() - began > limit_seconds:
                raise TimeoutError(say("no answer within {seconds} s", seconds=f"{limit_seconds:g}"))
    except TimeoutError:
        raise
    except BaseException:
        wait([coming], timeout=farewell_seconds)
        raise
    return coming.result()


def give_up_after(seconds: float, call: Callable[[], object]) -> None:
    """Try to clean up, for so long; whatever goes wrong is left to a later sweep."""
    wait([started(call)], timeout=seconds)


def started(call: Callable[[], T]) -> Future[T]:
    """The answer to come of a request that runs beside the caller's own work."""
    coming: Future[T] = Future()

    def work() -> None:
        try:
            coming.set_result(call())
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            coming.set_exception(error)

    Thread(target=work, daemon=True, name="watched-request").start()
    return coming
