"""Signs of life: each worker process writes a beat, so that pages can say when none is there."""

from __future__ import annotations

import logging
import mmap
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from django.db import DatabaseError, connections
from django.utils import timezone

from backups_app.models import Operation, WorkerBeat
from backups_app.sentences import in_english

BEAT_SECONDS = 10
PARENT_SECONDS = 0.5
CLOCK_TOLERANCE_SECONDS = 30

log = logging.getLogger(__name__)

# One byte that a cluster's processes share: they are forked from the one that loads this module.
_stop_announced = mmap.mmap(-1, 1)
_work = threading.Lock()


def beat(name: str) -> None:
    """Say once that the worker ``name`` lives."""
    WorkerBeat.objects.update_or_create(name=name, defaults={"at": timezone.now()})


def start_beat(*beside: Callable[[], None]) -> threading.Thread:
    """Beat every ten seconds for as long as this process lives, and call all ``beside`` after each beat.

    Each has a thread of its own and may take its time: it is not called again before it is done.
    """
    name = f"{socket.gethostname()}:{os.getpid()}"
    thread = threading.Thread(target=_keep_beating, args=(name, beside), name="worker-beat", daemon=True)
    thread.start()
    return thread


def is_process_gone(operation: Operation) -> bool:
    """Whether the process that claimed ``operation`` on this machine has ended; False when in doubt."""
    if operation.host != socket.gethostname() or not operation.pid or operation.started_at is None:
        return False
    if not Path("/proc/self/stat").exists():
        return False
    began = _process_start(operation.pid)
    # After a reboot, or a restart of the container, another process may have its number.
    return began is None or began > operation.started_at.timestamp() + CLOCK_TOLERANCE_SECONDS


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


def _keep_beating(name: str, beside: tuple[Callable[[], None], ...]) -> None:
    pause = threading.Event()
    helpers: dict[Callable[[], None], threading.Thread] = {}
    while True:
        try:
            beat(name)
        except DatabaseError:
            log.warning("The worker's sign of life could not be written", exc_info=True)
        finally:
            connections.close_all()
        for call in beside:
            if call not in helpers or not helpers[call].is_alive():
                helpers[call] = threading.Thread(target=_call, args=(call,), name="beside-beat", daemon=True)
                helpers[call].start()
        pause.wait(BEAT_SECONDS)


def _call(beside: Callable[[], None]) -> None:
    try:
        with in_english():
            beside()
    except Exception:
        log.exception("What goes on beside the worker's sign of life failed")
    finally:
        connections.close_all()


def _process_start(pid: int) -> float | None:
    """When the process began, in seconds since 1970; None when it is not there or has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return None
    if fields[0] in "ZX":
        return None
    return time.time() - uptime + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    with _work:
        log.error("The cluster's guard is gone: process %s ends too", os.getpid())
        os._exit(1)
