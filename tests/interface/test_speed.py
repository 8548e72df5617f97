"""The number of queries of each page does not grow with the trail."""

from __future__ import annotations

import re
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
from backups_app.models import IncidentNote, RestoreEvent
from backups_app.presentation.standing import TELLING, _telling_operations, standing
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


@pytest.mark.parametrize("address", [page for page in PAGES if page == "" or page.startswith("runbooks/")])
def test_a_page_takes_few_queries_when_an_undo_made_the_live_database(log_in: Log_in, address: str) -> None:
    make_trail()
    make_work()
    restore = RestoreEvent.objects.latest("pk")
    restore.change(outcome="undone")
    make_restore(restore.backup, undoes=restore, safety_backup=restore.backup)
    left = {"what": "trial", "name": "qrdb_trial_7_a1b2c3", "kept_until": timezone.now().isoformat()}
    make_operation("trial", backup=restore.backup, leftovers=[left])

    insist_on_few_queries(log_in("itstaff"), address)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL goes by its statistics")
@pytest.mark.django_db
def test_the_last_operations_are_found_without_reading_or_sorting_the_trail() -> None:
    asked = _telling_operations()
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {asked.raw_query}", asked.params)
        steps = [row[3] for row in cursor.fetchall()]

    assert "SEARCH U0 USING INDEX by_kind_and_state (kind=? AND state=?)" in steps, "the trials"
    assert steps.count("SEARCH U0 USING INDEX by_kind (kind=?)") == len(TELLING)
    assert "USE TEMP B-TREE FOR ORDER BY" not in steps


def pages_of_the_audit_history(client: Client, *, last: int) -> tuple[list[int], list[str]]:
    """The operations on its pages in their order, and the queries that asked for them."""
    shown: list[int] = []
    with CaptureQueriesContext(connection) as queries:
        for number in range(1, last + 1):
            page = client.get(f"/backups_app/operation/?p={number}").content.decode()
            shown += [
                int(pk) for pk in re.findall(r'<a href="/backups_app/operation/(\d+)/change/"><strong>', page)
            ]
    return shown, [query["sql"] for query in queries if "OFFSET" in query["sql"]]


def test_the_pages_of_a_list_have_every_row_once_and_in_order(log_in: Log_in) -> None:
    when = timezone.now()
    made = [make_operation(created_at=when).pk for _ in range(45)]

    shown, _queries = pages_of_the_audit_history(log_in("helpdesk"), last=3)

    assert shown == sorted(made, reverse=True)


@pytest.mark.parametrize(("made", "asked"), [(0, 1), (3, 1), (20, 1), (21, 4), (45, 4)])
def test_a_search_reads_the_trail_once_where_one_page_holds_what_it_finds(
    log_in: Log_in, made: int, asked: int
) -> None:
    """Else its first page, its number and both ends of its dates, of which the first alone read it whole."""
    for _ in range(made):
        make_operation(reason="exams")
    make_operation(reason="holidays")
    client = log_in("helpdesk")

    with CaptureQueriesContext(connection) as queries:
        page = client.get("/backups_app/operation/?q=exams").content.decode()

    assert len([query for query in queries if "exams" in query["sql"].lower()]) == asked
    assert page.count("<strong>Backup ") == min(made, 20)
    assert (f"{made} entr" in page) == (made > 0)


def test_what_a_search_finds_is_shown_on_one_page_on_demand(log_in: Log_in) -> None:
    for _ in range(45):
        make_operation(reason="exams")
    client = log_in("helpdesk")

    pages = [
        client.get(f"/backups_app/operation/?q=exams&{which}").content.decode() for which in ("p=3", "all=")
    ]

    assert [page.count("<strong>Backup ") for page in pages] == [5, 45]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL goes by its statistics")
def test_a_page_far_behind_reads_the_numbers_of_those_before_alone(log_in: Log_in) -> None:
    for _ in range(45):
        make_operation()

    _shown, queries = pages_of_the_audit_history(log_in("helpdesk"), last=3)

    assert len(queries) == 2
    for query in queries:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {query}")
            steps = [row[3] for row in cursor.fetchall()]
        assert "SCAN U0 USING COVERING INDEX by_time" in steps


@pytest.mark.django_db
def test_how_things_stand_is_told_anew_each_time() -> None:
    before = standing()
    running = make_operation("backup", "running")
    failed = make_operation("prune", "failed")
    backup = make_backup()

    after = standing()

    assert (before.active, before.latest, before.newest) == ([], {}, None)
    assert (after.active, after.latest, after.newest) == ([running], {"prune": failed}, backup)


@pytest.mark.django_db
def test_a_restore_that_comes_in_between_two_queries_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    event = make_restore(make_backup())
    monkeypatch.setattr("backups_app.presentation.standing._telling_operations", list)

    assert standing().restores == [event]


@pytest.mark.parametrize("address", OF_PEOPLE)
def test_a_page_about_accounts_takes_few_queries(log_in: Log_in, address: str) -> None:
    client, _ = log_in("superuser"), log_in("itstaff")
    people = {
        "user": User.objects.get(username="itstaff").pk,
        "group": Group.objects.get(name=roles.IT_STAFF).pk,
    }

    insist_on_few_queries(client, address.format(**people))
