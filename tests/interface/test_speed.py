"""The number of queries of each page does not grow with the trail."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from backups_app import roles
from backups_app.models import IncidentNote
from tests.interface.conftest import (
    Log_in,
    make_backup,
    make_beat,
    make_operation,
    make_restore,
    make_sighting,
)

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
    "backups_app/operation/999/change/",
    "backups_app/operation/999/progress/",
    "backups_app/operation/998/change/",
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
    "auth/user/",
    "auth/user/add/",
    "auth/group/",
    "auth/group/add/",
    "auth/user/{user}/change/",
    "auth/user/{user}/password/",
    "auth/user/{user}/history/",
    "auth/user/{user}/delete/",
    "auth/group/{group}/change/",
    "auth/group/{group}/history/",
    "auth/group/{group}/delete/",
]


RUNNING, QUEUED = 999, 998


def make_trail() -> None:
    make_beat()
    make_sighting()
    for number in range(1, 21):
        when = timezone.now() - timedelta(days=number)
        backup = make_backup(f"qrdb_202605{number:02}_143022.sql", pk=number, created_at=when)
        operation = make_operation(pk=1000 * number, backup=backup, created_at=when)
        operation.note("Dump", seconds=1)
        event = make_restore(backup, pk=number, safety_backup=backup)
        IncidentNote.objects.create(event=event, author_name="itstaff", text="x")
    make_backup("qrdb_20260401_143022.sql", damage="It ends too early.", validated_at=None)


def make_work() -> None:
    running = make_operation(
        "backup", "running", pk=RUNNING, progress_done=5, progress_total=10, progress_unit="rows"
    )
    running.note("Connect", seconds=1)
    make_operation("prove_backup", "queued", pk=QUEUED)


def insist_on_few_queries(client: Client, address: str) -> None:
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(f"/{address}")
        b"".join(answer)

    assert answer.status_code == 200
    assert len(queries) <= AT_MOST, "\n".join(query["sql"][:160] for query in queries)


@pytest.fixture(autouse=True)
def _one_place(tmp_path: Path, settings: Any) -> None:
    settings.BACKUP_LOCATIONS, settings.API_CONTAINER = f"working={tmp_path}", "qr_generator_api"


@pytest.mark.parametrize("address", PAGES)
def test_a_page_takes_few_queries_while_work_goes_on(log_in: Log_in, address: str) -> None:
    make_trail()
    make_work()
    # not a superuser, whose permissions nobody asks the database for
    insist_on_few_queries(log_in("itstaff"), address)


@pytest.mark.parametrize(
    "address", [page for page in PAGES if f"/{RUNNING}/" not in page and f"/{QUEUED}/" not in page]
)
def test_a_page_takes_few_queries_at_rest(log_in: Log_in, address: str) -> None:
    make_trail()

    insist_on_few_queries(log_in("itstaff"), address)


@pytest.mark.parametrize("address", OF_PEOPLE)
def test_a_page_about_accounts_takes_few_queries(log_in: Log_in, address: str) -> None:
    client, _ = log_in("superuser"), log_in("itstaff")
    people = {
        "user": User.objects.get(username="itstaff").pk,
        "group": Group.objects.get(name=roles.IT_STAFF).pk,
    }

    insist_on_few_queries(client, address.format(**people))
