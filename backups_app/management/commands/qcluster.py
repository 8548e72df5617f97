"""``manage.py qcluster``: the worker; what ends one of its processes is a line of the log."""

from __future__ import annotations

import logging
import sys
from multiprocessing.context import ForkContext, ForkProcess
from typing import Any

from django_q import cluster
from django_q.management.commands import qcluster

log = logging.getLogger(__name__)


class LoggedProcess(ForkProcess):
    """A process of the cluster; by itself it would print its traceback beside the log."""

    def run(self) -> None:
        try:
            super().run()
        except Exception:
            log.critical("A process of the worker ended with an error", exc_info=True)
            sys.exit(1)


class LoggedContext(ForkContext):
    Process = LoggedProcess


class Command(qcluster.Command):  # type: ignore[misc]
    def handle(self, *args: Any, **options: Any) -> None:
        cluster.get_mp_context = LoggedContext
        try:
            super().handle(*args, **options)
        except RuntimeError as error:
            log.critical("The worker ended: %s", error)
            sys.exit(1)
