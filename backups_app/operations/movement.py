"""Long work on a server or a file: whether it moves, so that only what stands still is ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg.rows import TupleRow

from backups_app.operations.journal import Journal
from backups_app.systems.postgres import activity
from backups_app.systems.postgres.connections import Server, connect
from backups_app.systems.waiting import OnBytes, Watch

LOOK_SECONDS = 0.5

OnLook = Callable[[psycopg.Connection[TupleRow]], None]


@contextmanager
def followed(journal: Journal, server: Server, on_look: OnLook | None = None) -> Iterator[Watch]:
    """A watch for statements and programs that work in ``server``'s database.

    Building an index or summing up a large table moves no row for a long time: as long as the server
    works on it, that is no standstill. ``on_look`` gets the same connection to tell of the progress.
    """
    with connect(server, application_name=journal.operation.application_name) as monitor:
        last = time.monotonic()

        def watch() -> None:
            nonlocal last
            journal.watch()
            if time.monotonic() - last < LOOK_SECONDS:
                return
            last = time.monotonic()
            if on_look is not None:
                on_look(monitor)
            if activity.is_at_work(monitor):
                journal.moved()

        yield watch


def bytes_moved(journal: Journal, total: int | None = None) -> OnBytes:
    """Tells of a file's bytes as progress of the present step; ``total`` is how many there are, if known."""
    done = 0

    def moved(count: int) -> None:
        nonlocal done
        done += count
        journal.moved()
        journal.progress(done if total is None else min(done, total), total, "bytes")

    return moved
