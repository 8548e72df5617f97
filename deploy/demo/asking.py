"""Ask the site for an operation and wait until its worker has done it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deploy.demo.stack import DemoError, Stack, Wish

if TYPE_CHECKING:
    from backups_app.models import Operation

PATIENCE_SECONDS = 120


def take_first_backup(stack: Stack, wish: Wish) -> str | None:
    """Have the worker take a backup unless there is one; returns its file name."""
    from backups_app import tasks
    from backups_app.models import Backup

    if Backup.objects.exists():
        return None
    operation = wait_for(
        tasks.request_backup(by="make demo", source="command", reason="The demo's first backup"), stack, wish
    )
    if operation.state != "succeeded":
        raise DemoError(f"The first backup did not succeed: {operation.error or operation.state}")
    return Backup.objects.latest("pk").name


def wait_for(operation: Operation, stack: Stack, wish: Wish) -> Operation:
    """Wait until the operation has ended in whatever way."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        operation.refresh_from_db()
        if operation.state not in ("queued", "running"):
            return operation
        stack.check()
        wish.sleep(0.1)
    raise DemoError(f"Nothing came of operation {operation.pk} within {PATIENCE_SECONDS} seconds.")
