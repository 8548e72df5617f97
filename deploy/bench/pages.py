"""The site itself: page times over a long trail, click to first step, throughput of the queue."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 15
CLICKS = 20
MESSAGES = 100
PRESENT = 1_000  # of all backups in the trail: far more than any retention keeps


def pages(environment: Mapping[str, str], *, operations: int, backups: int) -> dict[str, dict[str, float]]:
    """Median server time in milliseconds and the queries of each page, in a process of its own."""
    found: dict[str, dict[str, float]] = _in_a_process("pages", environment, str(operations), str(backups))
    return found


def queue(environment: Mapping[str, str]) -> dict[str, list[float]]:
    """Clicks (seconds from each to its first step) and operations a second, with a real worker."""
    worker = subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), "qcluster"],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        found: dict[str, list[float]] = _in_a_process("queue", environment)
        return found
    finally:
        worker.terminate()
        with suppress(subprocess.TimeoutExpired):
            worker.wait(30)
        worker.kill()
        worker.wait()


def _in_a_process(what: str, environment: Mapping[str, str], *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.bench.pages", what, *words],
        cwd=ROOT,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-800:])
    return json.loads(done.stdout.splitlines()[-1])


# --- within that process -----------------------------------------------------------------------------------


def _measure_pages(operations: int, backups: int) -> dict[str, dict[str, float]]:
    from statistics import median

    from django.contrib.auth.models import Group, User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext
    from django.utils import timezone

    from backups_app import roles
    from backups_app.models import Backup, Operation, RestoreEvent
    from backups_app.presentation import runbooks

    _fill_trail(operations, backups)
    group = Group.objects.get(name=roles.IT_STAFF)
    user, _ = User.objects.get_or_create(username="bench", is_staff=True)
    user.groups.add(group)
    # whose permissions are asked of nobody; everybody else's are asked of the database
    superuser, _ = User.objects.get_or_create(username="bench super", is_staff=True, is_superuser=True)
    client, client_of_superuser = (Client(headers={"host": "localhost"}) for _ in range(2))
    client.force_login(user)
    client_of_superuser.force_login(superuser)
    newest = Backup.objects.present().latest("created_at")
    restore = RestoreEvent.objects.undoable(timezone.now()).latest("pk")
    addresses = {
        "overview": "/",
        "backups": "/backups_app/backup/",
        "backups, the last page": f"/backups_app/backup/?p={_last_page(Backup)}",
        "backups, searched": "/backups_app/backup/?q=bench_0",
        "backups, filtered": "/backups_app/backup/?state=validated",
        "one backup": f"/backups_app/backup/{newest.pk}/change/",
        "restore": f"/backups_app/backup/{newest.pk}/restore/",
        "pin": f"/backups_app/backup/{newest.pk}/pin/",
        "clean-up": "/backups_app/backup/prune/",
        "import": "/backups_app/backup/import/",
        "audit history": "/backups_app/operation/",
        "audit history, searched": "/backups_app/operation/?q=bench",
        "audit history, nothing found": "/backups_app/operation/?q=nobody",
        "audit history, of one backup": f"/backups_app/operation/?q={restore.backup}",
        "audit history, the last page": f"/backups_app/operation/?p={_last_page(Operation)}",
        "audit history, filtered": "/backups_app/operation/?state__exact=failed&kind__exact=backup",
        "audit history, 30 days": "/backups_app/operation/?days=30",
        "audit history, one year": f"/backups_app/operation/?{_part(newest.created_at, 'year')}",
        "audit history, one month": f"/backups_app/operation/?{_part(newest.created_at, 'year', 'month')}",
        "audit history exported, to its first rows": "/backups_app/operation/export/",
        "one operation": f"/backups_app/operation/{newest.operation_id}/change/",
        "progress": f"/backups_app/operation/{newest.operation_id}/progress/",
        "restores": "/backups_app/restoreevent/",
        "one restore": f"/backups_app/restoreevent/{restore.pk}/change/",
        "undo": f"/backups_app/restoreevent/{restore.pk}/undo/",
        "morning check": "/morning-check/",
        "schedules": "/schedules/",
        "one schedule": "/schedules/backup/",
        "runbooks": "/runbooks/",
        **{f"runbook {one.slug}": f"/runbooks/{one.slug}/" for one in runbooks.ALL},
        "users": "/auth/user/",
        "one user": f"/auth/user/{user.pk}/change/",
        "a user's password": f"/auth/user/{user.pk}/password/",
        "groups": "/auth/group/",
        "one group": f"/auth/group/{group.pk}/change/",
        "own password": "/password_change/",
        "health": "/health",
    }
    whose = {
        address: client_of_superuser if address.startswith("/auth/") else client
        for address in addresses.values()
    }
    queries = {}
    for name, address in addresses.items():
        with CaptureQueriesContext(connection) as captured:
            response = _seen(whose[address], address)
        queries[name] = len(captured)
        if response.status_code != 200 and name != "health":  # no worker beats here
            raise RuntimeError(f"{address} answered {response.status_code}")
    times: dict[str, list[float]] = {name: [] for name in addresses}
    for _ in range(ROUNDS):  # each page once a round: a busy moment of the machine is no page's own
        for name, address in addresses.items():
            began = time.perf_counter()
            _seen(whose[address], address)
            times[name].append((time.perf_counter() - began) * 1000)
    return {name: {"milliseconds": median(times[name]), "queries": queries[name]} for name in addresses}


def _seen(client: Any, address: str) -> Any:
    """The answer; of one that is streamed its beginning, after which its reader waits no more."""
    response = client.get(address)
    if response.streaming:
        for _ in zip(range(2), response.streaming_content, strict=False):
            pass
        response.close()
    return response


def _last_page(model: Any) -> int:
    from backups_app.admin.base import ReadOnlyAdmin

    count: int = model.objects.count()
    return -(-count // ReadOnlyAdmin.list_per_page)


def _part(moment: datetime, *parts: str) -> str:
    return "&".join(f"created_at__{part}={getattr(moment, part)}" for part in parts)


def _fill_trail(operations: int, backups: int) -> None:
    from datetime import timedelta

    from django.utils import timezone

    from backups_app.models import Backup, BackupCopy, Operation

    now = timezone.now()
    missing = operations - Operation.objects.count()
    Operation.objects.bulk_create(
        (
            Operation(
                kind="backup" if number % 5 == 0 else "validate_database",
                state="succeeded" if number % 9 else "failed",
                source="schedule",
                dedupe_key=f"bench {number}",
                requested_by_name="bench",
                created_at=now - timedelta(minutes=5 * number),
                expires_at=now,
                started_at=now - timedelta(minutes=5 * number),
                finished_at=now - timedelta(minutes=5 * number) + timedelta(seconds=number % 60),
            )
            for number in range(missing)
        ),
        batch_size=5000,
    )
    rows = list(Operation.objects.filter(kind="backup", made_backups=None).order_by("-pk")[:backups])
    made = Backup.objects.bulk_create(
        (
            Backup(
                name=f"bench_{row.pk:08}_000000.sql",
                origin="scheduled",
                created_at=row.created_at,
                operation=row,
                size=100_000 + row.pk,
                sha256="0" * 64,
                rows=1337,
                validated_at=now,
                removed_at=None if number < PRESENT else now,
                removed_reason="" if number < PRESENT else "Older than the 5 newest intact ones.",
                manifest={"format": 1, "tables": {}, "large_objects": None, "revision": None, "taken_at": ""},
            )
            for number, row in enumerate(rows)
        ),
        batch_size=2000,
    )
    BackupCopy.objects.bulk_create(
        (
            BackupCopy(
                backup=backup,
                location=alias,
                state="stored" if backup.is_present else "removed",
                checked_at=now,
            )
            for backup in made
            for alias in ("first", "second")
        ),
        batch_size=5000,
    )


def _measure_queue() -> dict[str, list[float]]:
    from backups_app import tasks
    from backups_app.models import Backup, Operation

    backup = Backup.objects.filter(name__startswith="qrdb_").latest("pk")
    delays = []
    for _ in range(CLICKS):
        operation = tasks.request_validate_backup(backup, by="bench")
        _wait_for([operation.pk])
        operation.refresh_from_db()
        if operation.started_at:
            delays.append((operation.started_at - operation.created_at).total_seconds())
    began = time.monotonic()
    asked = [
        tasks.request(Operation.Kind.VALIDATE_BACKUP, backup=backup, by="bench").pk for _ in range(MESSAGES)
    ]
    _wait_for(asked)
    return {"clicks": delays, "a_second": [MESSAGES / (time.monotonic() - began)]}


def _wait_for(numbers: list[int]) -> None:
    from backups_app.models import Operation

    deadline = time.monotonic() + 120
    while Operation.objects.filter(pk__in=numbers, state__in=["queued", "running"]).exists():
        if time.monotonic() > deadline:
            raise RuntimeError("the worker did not do its work")
        time.sleep(0.01)


def main() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qradmin.settings")
    django.setup()
    what, *words = sys.argv[1:]
    found = _measure_queue() if what == "queue" else _measure_pages(int(words[0]), int(words[1]))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
