"""Signs of life: each worker process writes a beat, so that pages can say when none is there."""

from __future__ import annotations

import logging
import mmap
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import DatabaseError, connections
from django.utils import timezone

from backups_app.models import WorkerBeat

BEAT_SECONDS = 10
PARENT_SECONDS = 0.5

log = logging.getLogger(__name__)

# One byte that a cluster's processes share: they are forked from the one that loads this module.
_stop_announced = mmap.mmap(-1, 1)
_work = threading.Lock()


def beat(name: str) -> None:
    """Say once that the worker ``name`` lives."""
    WorkerBeat.objects.update_or_create(name=name, defaults={"at": timezone.now()})


def start_beat() -> threading.Thread:
    """Beat every ten seconds for as long as this process lives."""
    name = f"{socket.gethostname()}:{os.getpid()}"
    thread = threading.Thread(target=_keep_beating, args=(name,), name="worker-beat", daemon=True)
    thread.start()
    return thread


def announce_stop() -> None:
    """Tell every process of this cluster that no further operation is to be started."""
    _stop_announced[0] = 1


def is_stopping() -> bool:
    return bool(_stop_announced[0])


@contextmanager
def at_work() -> Iterator[None]:
    """While the block lasts, this process does not end with its parent."""
    with _work:
        yield


def end_with_parent() -> None:
    """End this process of a cluster soon after the one that made it, but no work in the middle.

    When the cluster's guard is killed, its children live on: nobody ends their hung work, and they go on
    taking messages, which a new cluster then waits for.
    """
    threading.Thread(target=_watch_parent, args=(os.getppid(),), name="parent", daemon=True).start()


def is_any_worker_alive() -> bool:
    return WorkerBeat.objects.alive(timezone.now()).exists()


def forget_dead_workers() -> None:
    """Remove the beats of processes that ended long ago."""
    WorkerBeat.objects.filter(at__lt=timezone.now() - timedelta(days=1)).delete()


def _keep_beating(name: str) -> None:
    pause = threading.Event()
    while True:
        try:
            beat(name)
        except DatabaseError:
            log.warning("The worker's sign of life could not be written", exc_info=True)
        finally:
            connections.close_all()
        pause.wait(BEAT_SECONDS)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    with _work:
        log.error("The cluster's guard is gone: process %s ends too", os.getpid())
        os._exit(1)
