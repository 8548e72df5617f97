"""Thirty days of backups that were never taken, so that the pictures show a site in use."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any

FAILED_DAYS_AGO = 17
KEPT_DAYS = 3
ERROR = "The server at 127.0.0.1 refused the connection. Nothing was written; start it, then back up again."


def pretend() -> None:
    """One scheduled backup a day, the last days' files still there; one of them failed."""
    from django.utils import timezone

    midnight = timezone.make_aware(datetime.combine(timezone.localdate(), time(4)))
    for days_ago in range(30, 0, -1):
        _one_day(midnight - timedelta(days=days_ago), days_ago)


def _one_day(at: datetime, days_ago: int) -> None:
    from backups_app.models import Backup, BackupCopy, Operation

    seconds = 4.9 + (days_ago * 7 % 5) / 10
    operation: dict[str, Any] = {
        "kind": "backup",
        "source": "schedule",
        "created_at": at,
        "started_at": at,
        "expires_at": at + timedelta(hours=1),
        "finished_at": at + timedelta(seconds=seconds),
        "host": "backup-1",
        "pid": 4100 + days_ago,
    }
    if days_ago == FAILED_DAYS_AGO:
        Operation.objects.create(state="failed", error=ERROR, blame="environment", **operation)
        return
    asked = Operation.objects.create(state="succeeded", **operation)
    is_kept = days_ago <= KEPT_DAYS
    backup = Backup.objects.create(
        name=f"qrdb_{at:%Y%m%d_%H%M%S}.sql",
        origin="scheduled",
        created_at=at,
        operation=asked,
        seconds=seconds,
        size=51_300_000 + 120_000 * (30 - days_ago),
        sha256=f"{days_ago:064x}",
        compression="zstd",
        rows=752_000 + 1_770 * (30 - days_ago),
        revision="8d13a4dfeb1d",
        validated_at=at + timedelta(seconds=seconds),
        removed_at=None if is_kept else at + timedelta(days=KEPT_DAYS),
        removed_reason="" if is_kept else "Newer backups take its place.",
    )
    BackupCopy.objects.create(
        backup=backup,
        location="working",
        state=BackupCopy.State.STORED if is_kept else BackupCopy.State.REMOVED,
    )
