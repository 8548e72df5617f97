"""``manage.py check_start``: what ``check --deploy`` finds, a line of the log each; status 1 for an error."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from qradmin.start import is_refused


class Command(BaseCommand):
    help = "Look at the settings, folders and files as a worker's container does before it starts."
    requires_system_checks: list[str] = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        if is_refused(on_this_machine=True):
            sys.exit(1)
