"""The page of an operation: how far it is, what is still to come, and how it ended."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from backups_app.models import Operation
from tests.interface.conftest import Log_in, make_backup, make_beat, make_operation, make_restore

pytestmark = pytest.mark.django_db


def test_the_progress_of_an_operation_tells_only_what_is_new(staff: Client) -> None:
    operation = make_operation(
        "backup", "running", progress_done=600, progress_total=1200, progress_unit="rows", current_step="Dump"
    )
    operation.note("first")
    shown = operation.steps.get().pk
    operation.note("second", seconds=2.5)

    report = staff.get(f"/backups_app/operation/{operation.pk}/progress/?after={shown}").json()

    assert (report["state"], report["percent"], report["step"]) == ("running", 50, "Dump")
    assert report["amount"] == "600 of 1,200 rows"
    assert [(step["what"], step["seconds"]) for step in report["steps"]] == [("second", "2.5 s")]


def test_the_stages_that_are_still_to_come_are_shown_in_the_readers_language(staff: Client) -> None:
    operation = make_operation("backup", "running", current_step="Dump and count in one snapshot")
    operation.note("Check server, client program and room", seconds=0.1)
    address = f"/backups_app/operation/{operation.pk}"

    page = staff.get(f"{address}/change/").content.decode()
    report = staff.get(f"{address}/progress/").json()
    german = staff.get(f"{address}/progress/", headers={"accept-language": "de"}).json()
    Operation.objects.update(state="succeeded", finished_at=timezone.now())
    ended = staff.get(f"{address}/progress/").json()

    assert report["ahead"] == ["Read the whole archive", "Remove what is no longer needed"]
    assert '<span class="what quiet">Read the whole archive</span>' in page
    assert german["ahead"][0] == "Das ganze Archiv lesen"
    assert ended["ahead"] == []


def test_without_javascript_a_page_that_asks_for_a_reason_is_not_loaded_anew_by_itself(
    staff: Client,
) -> None:
    operation = make_operation("backup", "running", moved_at=timezone.now())
    address = f"/backups_app/operation/{operation.pk}/change/"

    moving = staff.get(address).content.decode()
    Operation.objects.update(moved_at=timezone.now() - timedelta(hours=1))
    held_up = staff.get(address).content.decode()

    assert ('http-equiv="refresh"' in moving, 'http-equiv="refresh"' in held_up) == (True, False)


def test_between_two_steps_the_page_does_not_say_that_it_starts(staff: Client) -> None:
    operation = make_operation("backup", "running")
    address = f"/backups_app/operation/{operation.pk}/progress/"

    first = staff.get(address).json()["step"]
    operation.note("Check server, client program and room", seconds=0.1)
    between = staff.get(address).json()["step"]

    assert (first, between) == ("Starting", "On to the next step")


def test_where_nothing_is_known_the_bar_is_honest(staff: Client) -> None:
    operation = make_operation("backup", "running")

    report = staff.get(f"/backups_app/operation/{operation.pk}/progress/").json()
    page = staff.get(f"/backups_app/operation/{operation.pk}/change/").content.decode()

    assert report["percent"] is None
    assert '<progress max="100" aria' in page


def test_a_bar_beyond_its_estimate_claims_no_share(staff: Client) -> None:
    operation = make_operation(
        "backup", "running", progress_done=1300, progress_total=1200, progress_unit="rows"
    )

    report = staff.get(f"/backups_app/operation/{operation.pk}/progress/").json()

    assert report["percent"] is None
    assert report["amount"] == "1,300 rows so far"


def test_an_error_can_be_opened_whole_and_shows_no_markup(log_in: Log_in) -> None:
    operation = make_operation("backup", "failed", error="It broke.", error_detail="pg_dump: <error>")

    page = log_in("helpdesk").get(f"/backups_app/operation/{operation.pk}/change/").content.decode()

    assert "It broke." in page
    assert "pg_dump: &lt;error&gt;" in page


@pytest.mark.parametrize("detail", ["", "pg_dump: error"])
def test_the_sentence_of_a_failure_can_be_copied(staff: Client, detail: str) -> None:
    operation = make_operation("backup", "failed", error="It broke.", error_detail=detail)

    page = staff.get(f"/backups_app/operation/{operation.pk}/change/").content.decode()

    assert '<span class="copyable">It broke.</span>' in page


def test_a_restore_that_was_rolled_back_acquits_nobody(staff: Client) -> None:
    event = make_restore(make_backup(), outcome="rolled_back")
    Operation.objects.filter(pk=event.operation_id).update(state="failed", blame="environment", error="So.")

    page = staff.get(f"/backups_app/operation/{event.operation_id}/change/").content.decode()

    assert "this says nothing against the backup" not in page
    assert "The cause may lie in the API, in its surroundings or in the data" in page


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("backup", "from then on the backup is kept"),
        ("trial", "The trial database is dropped again"),
        ("start_api", "is not broken off"),
        ("check_copies", "what has been done so far stays"),
    ],
)
def test_a_cancel_promises_what_it_does(staff: Client, kind: str, said: str) -> None:
    operation = make_operation(kind, "running")

    assert said in staff.get(f"/backups_app/operation/{operation.pk}/change/").content.decode()


def test_a_start_of_the_api_that_has_begun_says_why_it_cannot_be_cancelled(staff: Client) -> None:
    operation = make_operation("start_api", "running", is_past_cancelling=True)

    page = staff.get(f"/backups_app/operation/{operation.pk}/change/").content.decode()

    assert "the API is being started" in page
    assert "the databases are being swapped" not in page


@pytest.mark.parametrize(
    ("kind", "parameters", "said"),
    [
        ("backup", {"stop_api": True}, "production-safe: the API is stopped meanwhile"),
        ("backup", {"stop_api": False}, "the API keeps serving"),
        ("restore", {"without_safety_backup": True}, "without a safety backup"),
        ("restore", {"run_migrations": True}, "the migrations run afterwards"),
    ],
)
def test_what_was_chosen_is_among_the_facts(
    staff: Client, kind: str, parameters: dict[str, bool], said: str
) -> None:
    operation = make_operation(kind, parameters=parameters)

    assert said in staff.get(f"/backups_app/operation/{operation.pk}/change/").content.decode()


def test_what_waits_for_a_free_worker_says_so_after_a_moment(staff: Client) -> None:
    make_beat()
    running = make_operation("check_copies", "running")
    young = make_operation("validate_backup", "queued")
    old = make_operation("validate_database", "queued", created_at=timezone.now() - timedelta(minutes=2))

    fresh, stale = (
        staff.get(f"/backups_app/operation/{one.pk}/change/").content.decode() for one in (young, old)
    )

    assert "A worker takes it within a moment." in fresh
    assert f"Every worker is busy, with {running}" in stale
