"""``manage.py worker_alive``: status 0 when a worker on this machine has shown life lately."""

from __future__ import annotations

import socket
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseFailure
from django.utils import timezone

from backups_app.models import WorkerBeat


class Command(BaseCommand):
    help = "Status 0 when a worker on this machine has shown life within the last 30 seconds."
    requires_system_checks: list[str] = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        beats = WorkerBeat.objects.alive(timezone.now())
        try:
            is_alive = beats.filter(name__startswith=f"{socket.gethostname()}:").exists()
        except DatabaseFailure as error:
            raise CommandError("The site's database does not answer.") from error
        if not is_alive:
            raise CommandError("No worker on this machine has shown life within the last 30 seconds.")
