"""Signs of life: each worker process writes a beat, so that pages can say when none is there."""

from __future__ import annotations

import logging
import os
import socket
import threading
from datetime import timedelta

from django.db import DatabaseError, connections
from django.utils import timezone

from backups_app.models import WorkerBeat

BEAT_SECONDS = 10

log = logging.getLogger(__name__)


def beat(name: str) -> None:
    """Say once that the worker ``name`` lives."""
    WorkerBeat.objects.update_or_create(name=name, defaults={"at": timezone.now()})


def start_beat() -> threading.Thread:
    """Beat every ten seconds for as long as this process lives."""
    name = f"{socket.gethostname()}:{os.getpid()}"
    thread = threading.Thread(target=_keep_beating, args=(name,), name="worker-beat", daemon=True)
    thread.start()
    return thread


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
