"""Calls to a folder that may never come back, as where a network mount has lost its server.

The system lets nobody end such a call: it is left behind in a thread of its own. While it hangs, whoever
asks the same place is told so at once, so that no more than one call after the other is left behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any, TypeVar

from backups_app.sentences import say
from backups_app.systems.vault.location import ConnectionBroken
from backups_app.systems.waiting import WATCH_SECONDS, OnBytes, Watch, started

T = TypeVar("T")

QUICK_SECONDS = 20.0  # to list a folder, to find, remove or write a small file
READ_SECONDS = 60.0  # without a byte
WRITE_SECONDS = 300.0  # without a byte: flushing a large file to a slow disk takes its time
FAREWELL_SECONDS = 5.0

# Place -> the call that it has not answered.
_left_behind: dict[str, Future[Any]] = {}


class _Unwanted(Exception):
    """Ends work that nobody waits for any more."""


def in_time(place: str, call: Callable[[], T], seconds: float) -> T:
    """What ``call`` returns or raises; ConnectionBroken, which names ``place``, after ``seconds``."""
    _insist_on_answers(place)
    coming = started(call)
    if not wait([coming], timeout=seconds).done:
        raise _fell_silent(place, coming)
    return coming.result()


def relayed(
    place: str,
    work: Callable[[Watch, OnBytes], T],
    *,
    watch: Watch,
    on_bytes: OnBytes,
    seconds: float,
) -> T:
    """As `in_time` for work that moves bytes, which takes too long when none has moved for ``seconds``.

    ``work`` runs beside the caller; ``watch`` and ``on_bytes`` are called in the caller's own thread, the
    work waiting for them, and an error of theirs ends it.
    """
    _insist_on_answers(place)
    asked: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
    is_unwanted = Event()

    def ask(call: Callable[[], None]) -> None:
        answer: Future[None] = Future()
        asked.put(lambda: _settle(answer, call))
        while not wait([answer], timeout=WATCH_SECONDS).done:
            if is_unwanted.is_set():
                raise _Unwanted
        answer.result()

    coming = started(lambda: work(lambda: ask(watch), lambda count: ask(lambda: on_bytes(count))))
    coming.add_done_callback(lambda _done: asked.put(None))
    last = time.monotonic()
    try:
        while True:
            try:
                call = asked.get(timeout=WATCH_SECONDS)
            except Empty:
                watch()
                if time.monotonic() - last > seconds:
                    raise _fell_silent(place, coming) from None
                continue
            if call is None:
                return coming.result()
            call()
            last = time.monotonic()
    except BaseException:
        is_unwanted.set()
        wait([coming], timeout=0 if place in _left_behind else FAREWELL_SECONDS)
        raise


def _settle(answer: Future[None], call: Callable[[], None]) -> None:
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - handed to the work, which ends by it
        answer.set_exception(error)
    else:
        answer.set_result(None)


def _insist_on_answers(place: str) -> None:
    before = _left_behind.get(place)
    if before is None:
        return
    if not before.done():
        raise _silence(place)
    _left_behind.pop(place, None)


def _fell_silent(place: str, coming: Future[Any]) -> ConnectionBroken:
    _left_behind[place] = coming
    return _silence(place)


def _silence(place: str) -> ConnectionBroken:
    return ConnectionBroken(say("{place} does not answer: see whether its network mount hangs.", place=place))
