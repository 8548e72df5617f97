"""The worker's container is healthy while a worker on its own machine shows life."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from backups_app.models import WorkerBeat

pytestmark = pytest.mark.django_db


def test_a_worker_of_this_machine_that_beats_is_alive() -> None:
    WorkerBeat.objects.create(name=f"{socket.gethostname()}:7", at=timezone.now())

    call_command("worker_alive")


@pytest.mark.parametrize(
    ("host", "silent_seconds"), [(None, 0), ("another-machine", 0), (socket.gethostname(), 31)],
    ids=["never", "elsewhere", "silent"],
)  # fmt: skip
def test_no_worker_of_this_machine_is_a_failure_in_words(host: str | None, silent_seconds: int) -> None:
    if host is not None:
        WorkerBeat.objects.create(name=f"{host}:7", at=timezone.now() - timedelta(seconds=silent_seconds))

    with pytest.raises(CommandError, match="No worker on this machine"):
        call_command("worker_alive")
