"""Accounts of each role, and a trail to look at."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.management.color import no_style
from django.db import connection, models
from django.test import Client
from django.utils import timezone

from backups_app import roles
from backups_app.models import ApiSighting, Backup, BackupCopy, Operation, RestoreEvent, WorkerBeat

Log_in = Callable[[str], Client]
MANIFEST = {
    "format": 1,
    "taken_at": "2026-05-25T14:30:22+00:00",
    "revision": "8d13a4dfeb1d",
    "tables": {
        "public.qr_codes": {"rows": 334, "checksum": "1"},
        "public.scan_logs": {"rows": 5, "checksum": "2"},
    },
    "large_objects": None,
}


def make_user(role: str) -> User:
    user = User.objects.create_user(role, password="pw", is_staff=True, is_superuser=role == "superuser")
    group = {"itstaff": roles.IT_STAFF, "helpdesk": roles.HELP_DESK}.get(role)
    if group:
        if not Group.objects.filter(name=group).exists():
            roles.make_groups(apps)  # a test that commits has emptied the database before
        user.groups.add(Group.objects.get(name=group))
    return user


@pytest.fixture
def log_in(db: None) -> Log_in:
    """A function: role -> its client; `anonymous` is nobody."""

    def log_in(role: str, **options: Any) -> Client:
        client = Client(**options)
        if role != "anonymous":
            client.force_login(User.objects.filter(username=role).first() or make_user(role))
        return client

    return log_in


@pytest.fixture
def staff(log_in: Log_in) -> Client:
    return log_in("itstaff")


def count_on(*of: type[models.Model]) -> None:
    """Numbers that a test has given are left behind: PostgreSQL's sequences do not notice them."""
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), list(of)):
            cursor.execute(statement)


def make_backup(name: str = "qrdb_20260525_143022.sql", **changes: Any) -> Backup:
    now = timezone.now()
    facts: dict[str, Any] = {
        "origin": "manual",
        "created_at": now - timedelta(hours=3),
        "created_by": "itstaff",
        "size": 11,
        "sha256": "0" * 64,
        "seconds": 0.4,
        "rows": 339,
        "revision": "8d13a4dfeb1d",
        "manifest": MANIFEST,
        "validated_at": now,
    }
    backup = Backup.objects.create(name=name, **facts | changes)
    if changes.get("pk"):
        count_on(Backup)
    BackupCopy.objects.create(backup=backup, location="working")
    return backup


def make_operation(kind: str = "backup", state: str = "succeeded", **changes: Any) -> Operation:
    now = timezone.now()
    ended = None if state in {"queued", "running"} else now
    facts: dict[str, Any] = {
        "created_at": now,
        "expires_at": now + timedelta(hours=1),
        "started_at": None if state == "queued" else now,
        "heartbeat_at": None if state == "queued" else now,
        "finished_at": ended,
        "requested_by_name": "itstaff",
        "is_exclusive": kind in Operation.EXCLUSIVE,
    }
    operation = Operation.objects.create(kind=kind, state=state, **facts | changes)
    if changes.get("pk"):
        count_on(Operation)
    return operation


def make_restore(backup: Backup, *, operation_pk: int | None = None, **changes: Any) -> RestoreEvent:
    facts: dict[str, Any] = {
        "outcome": "restored",
        "replaced_database": "qrdb_replaced_1",
        "replaced_kept_until": timezone.now() + timedelta(hours=20),
        "rows_before": {"public.qr_codes": 300},
        "rows_after": {"public.qr_codes": 334},
    }
    operation = make_operation("restore", pk=operation_pk, backup=backup, reason="codes were deleted")
    event = RestoreEvent.objects.create(operation=operation, backup=backup, **facts | changes)
    if changes.get("pk"):
        count_on(RestoreEvent)
    return event


def make_beat() -> None:
    WorkerBeat.objects.create(name="worker:1", at=timezone.now())


def make_sighting(*, seconds_ago: float = 5, **seen: Any) -> None:
    """How a worker saw the API's container; running and healthy unless told otherwise."""
    facts: dict[str, Any] = {
        "container": settings.API_CONTAINER,
        "at": timezone.now() - timedelta(seconds=seconds_ago),
        "is_there": True,
        "is_running": True,
        "health": "healthy",
    }
    ApiSighting.objects.create(**facts | seen)


@pytest.fixture
def stored(db: None, tmp_path: Path, settings: Any) -> Backup:
    """A backup whose file lies in the working location."""
    folder = tmp_path / "backups"
    folder.mkdir(mode=0o700)
    settings.BACKUP_LOCATIONS = f"working={folder}"
    backup = make_backup()
    (folder / backup.name).write_bytes(b"hello world")
    return backup
