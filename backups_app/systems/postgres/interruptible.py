"""Long statements that end on the server as soon as the work is told to stop."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TypeVar

import psycopg
from psycopg.rows import TupleRow

from backups_app.systems.waiting import Watch

Result = TypeVar("Result")


def interruptible(
    connection: psycopg.Connection[TupleRow],
    work: Callable[[], Result],
    *,
    watch: Watch,
    interval: float = 0.1,
) -> Result:
    """Call ``work`` on ``connection`` in a thread, and ``watch`` every ``interval`` seconds beside it.

    When ``watch`` raises, the statement that runs on the server is cancelled, the thread is awaited,
    and what ``watch`` raised goes on to the caller.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="statement") as pool:
        future = pool.submit(work)
        try:
            while not _is_done(future, interval):
                watch()
        except BaseException:
            _cancel_until_done(connection, future)
            raise
        return future.result()


def _is_done(future: Future[Result], seconds: float) -> bool:
    return bool(wait([future], timeout=seconds).done)


def _cancel_until_done(connection: psycopg.Connection[TupleRow], future: Future[Result]) -> None:
    """Cancel again and again: a cancel that arrives between two statements ends neither of them."""
    attempts = 0
    while not future.done():
        attempts += 1
        with suppress(psycopg.Error):
            connection.cancel_safe(timeout=2)
        if not _is_done(future, 0.2) and attempts == 20:
            connection.close()
