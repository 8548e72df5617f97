"""``manage.py wait_for_database``: return as soon as the site's own database answers."""

from __future__ import annotations

import logging
import math
import sys
import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseFailure
from django.db import connection

from qradmin.start import is_refused

PAUSE_SECONDS = 0.5

log = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Wait until the site's own database answers; status 1 when it does not in time."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--seconds", type=float, help="how long to wait")

    def handle(self, *_args: Any, **options: Any) -> None:
        seconds = settings.DATABASE_WAIT_SECONDS if options["seconds"] is None else options["seconds"]
        if not math.isfinite(seconds):
            raise CommandError("The number of seconds has to be finite.")
        if is_refused():
            sys.exit(1)
        deadline = time.monotonic() + seconds
        while (trouble := _trouble()) is not None:
            if time.monotonic() >= deadline:
                log.error(
                    "The site's database did not answer within %g seconds:"
                    " check DATABASE_URL and that the server runs. %s",
                    seconds,
                    trouble,
                )
                sys.exit(1)
            time.sleep(PAUSE_SECONDS)


def _trouble() -> str | None:
    """Why the database cannot be used now, in one line; None when it can."""
    from backups_app.operations.masking import masked

    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseFailure as error:
        connection.close()
        return masked((str(error).splitlines() or [type(error).__name__])[0])
    return None
