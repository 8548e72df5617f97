"""The number of queries of each page does not grow with the trail."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from backups_app import roles
from backups_app.models import IncidentNote
from tests.interface.conftest import Log_in, make_backup, make_beat, make_operation, make_restore

AT_MOST = 15
PAGES = [
    "",
    "backups_app/backup/",
    "backups_app/backup/?q=qrdb&state=validated",
    "backups_app/backup/1/change/",
    "backups_app/backup/1/restore/",
    "backups_app/operation/",
    "backups_app/operation/?created_at__year=2026&created_at__month=5",
    "backups_app/operation/1000/change/",
    "backups_app/operation/1000/progress/",
    "backups_app/operation/export/",
    "backups_app/restoreevent/",
    "backups_app/restoreevent/1/change/",
    "backups_app/restoreevent/1/undo/",
    "backups_app/backup/prune/",
    "backups_app/backup/import/",
    "backups_app/backup/1/pin/",
    "backups_app/operation/?q=qrdb",
    "schedules/",
    "schedules/backup/",
    "auth/user/",
    "auth/user/add/",
    "auth/group/",
    "auth/group/add/",
    "password_change/",
    "password_change/done/",
    "backups_app/backup/?e=1",
    "morning-check/",
    "runbooks/",
    "runbooks/accidental-deletion/",
    "runbooks/no-backups/",
    "runbooks/new-server/",
    "runbooks/corruption/",
    "runbooks/hung-backup/",
    "runbooks/failed-validation/",
    "runbooks/upgrade/",
    "runbooks/api-down/",
]
OF_PEOPLE = [
    "auth/user/{user}/change/",
    "auth/user/{user}/password/",
    "auth/user/{user}/history/",
    "auth/user/{user}/delete/",
    "auth/group/{group}/change/",
    "auth/group/{group}/history/",
    "auth/group/{group}/delete/",
]


@pytest.mark.django_db
@pytest.mark.parametrize("address", [*PAGES, *OF_PEOPLE])
def test_a_page_takes_few_queries(log_in: Log_in, address: str, tmp_path: Path, settings: Any) -> None:
    settings.BACKUP_LOCATIONS = f"working={tmp_path}"
    make_beat()
    for number in range(1, 21):
        when = timezone.now() - timedelta(days=number)
        backup = make_backup(f"qrdb_202605{number:02}_143022.sql", pk=number, created_at=when)
        operation = make_operation(pk=1000 * number, backup=backup, created_at=when)
        operation.note("Dump", seconds=1)
        event = make_restore(backup, pk=number, safety_backup=backup)
        IncidentNote.objects.create(event=event, author_name="itstaff", text="x")
    make_operation("backup", "running")
    make_operation("prove_backup", "queued")
    client = log_in("superuser")
    people = {"user": User.objects.get().pk, "group": Group.objects.get(name=roles.IT_STAFF).pk}

    with CaptureQueriesContext(
        connection,
    ) as queries:
        answer = client.get(f"/{address.format(**people)}")
        b"".join(answer)

    assert answer.status_code == 200
    assert len(queries) <= AT_MOST, "\n".join(query["sql"][:160] for query in queries)
