"""What buttons and actions do: one operation for one wish, the state checked again, a refusal in words."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from backups_app.models import Backup, IncidentNote, Operation
from tests.interface.conftest import Log_in, make_backup, make_operation, make_restore, make_user

pytestmark = pytest.mark.django_db


def told(answer: HttpResponse) -> str:
    """The messages of the page that follows."""
    return " ".join(str(message) for message in answer.context["messages"])  # type: ignore[attr-defined]


def test_a_double_click_is_one_operation(staff: Client) -> None:
    first = staff.post("/backups_app/backup/create/")
    second = staff.post("/backups_app/backup/create/")

    operation = Operation.objects.get()
    assert (
        first.headers["Location"]
        == second.headers["Location"]
        == f"/backups_app/operation/{operation.pk}/change/"
    )
    assert (operation.kind, operation.requested_by_name, operation.source) == ("backup", "itstaff", "page")


def test_a_production_safe_backup_without_a_container_says_what_to_set(staff: Client) -> None:
    answer = staff.post("/backups_app/backup/create/", {"stop_api": "1"}, follow=True)

    assert "API_CONTAINER" in told(answer)
    assert not Operation.objects.exists()


@pytest.mark.parametrize(("deed", "kind"), [("validate", "validate_backup"), ("prove", "prove_backup")])
def test_a_button_on_a_backup_asks_for_its_operation(staff: Client, deed: str, kind: str) -> None:
    backup = make_backup()

    staff.post(f"/backups_app/backup/{backup.pk}/{deed}/")

    operation = Operation.objects.get()
    assert (operation.kind, operation.backup_id) == (kind, backup.pk)


@pytest.mark.parametrize("deed", ["validate", "prove", "download"])
def test_a_backup_that_was_removed_meanwhile_is_refused_in_words(staff: Client, deed: str) -> None:
    backup = make_backup(removed_at=timezone.now())

    answer = staff.post(f"/backups_app/backup/{backup.pk}/{deed}/", follow=True)

    assert "removed" in told(answer)
    assert not Operation.objects.active().exists()


@pytest.mark.parametrize(
    ("action", "kind"), [("validate_backups", "validate_backup"), ("prove_backups", "prove_backup")]
)
def test_an_action_works_for_many(staff: Client, action: str, kind: str) -> None:
    backups = [make_backup(f"qrdb_2026052{number}_143022.sql") for number in range(3)]

    staff.post("/backups_app/backup/", {"action": action, "_selected_action": [one.pk for one in backups]})

    assert Operation.objects.filter(kind=kind, state="queued").count() == 3


def test_the_action_to_back_up_needs_no_selection(staff: Client) -> None:
    staff.post("/backups_app/backup/", {"action": "create_backups"})

    assert Operation.objects.get().kind == "backup"


def test_the_undo_action_takes_exactly_one_restore(staff: Client, log_in: Log_in) -> None:
    one, two = (make_restore(make_backup(f"qrdb_2026052{day}_143022.sql")) for day in (5, 6))
    chosen = {"action": "undo_one", "_selected_action": [one.pk, two.pk]}

    refused = staff.post("/backups_app/restoreevent/", chosen, follow=True)
    accepted = staff.post("/backups_app/restoreevent/", {**chosen, "_selected_action": [one.pk]})
    log_in("helpdesk").post("/backups_app/restoreevent/", {**chosen, "_selected_action": [one.pk]})

    assert "exactly one" in told(refused)
    assert accepted.headers["Location"] == f"/backups_app/restoreevent/{one.pk}/undo/"
    assert "Undo the selected" not in log_in("helpdesk").get("/backups_app/restoreevent/").content.decode()
    assert not Operation.objects.filter(kind="undo_restore").exists()


def test_the_restore_action_takes_exactly_one_backup(staff: Client) -> None:
    one, two = make_backup(), make_backup("qrdb_20260526_143022.sql")
    chosen = {"action": "restore_one", "_selected_action": [one.pk, two.pk]}

    refused = staff.post("/backups_app/backup/", chosen, follow=True)
    accepted = staff.post("/backups_app/backup/", {**chosen, "_selected_action": [one.pk]})

    assert "exactly one" in told(refused)
    assert accepted.headers["Location"] == f"/backups_app/backup/{one.pk}/restore/"
    assert not Operation.objects.exists()


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("", "a reason"),
        ("qrdb_20260525_143022", "a reason"),
        ("other.sql", "a reason"),
        (None, ""),
        (None, "   "),
    ],
)
def test_a_restore_needs_the_exact_name_and_a_reason(staff: Client, typed: str | None, reason: str) -> None:
    backup = make_backup()
    given = {"typed": backup.name if typed is None else typed, "reason": reason}

    answer = staff.post(f"/backups_app/backup/{backup.pk}/restore/", given)

    assert answer.status_code == 422
    assert "Nothing was started" in answer.content.decode()
    assert not Operation.objects.exists()


def test_a_confirmed_restore_is_asked_for_with_its_reason(staff: Client) -> None:
    backup = make_backup()

    staff.post(f"/backups_app/backup/{backup.pk}/restore/", {"typed": backup.name, "reason": "codes deleted"})

    operation = Operation.objects.get()
    assert (operation.kind, operation.backup_id, operation.reason) == ("restore", backup.pk, "codes deleted")
    assert operation.parameters == {"run_migrations": False, "without_safety_backup": False}


def test_a_restore_while_another_operation_runs_is_refused_in_words(staff: Client) -> None:
    backup = make_backup()
    make_operation("backup", "running")

    answer = staff.post(f"/backups_app/backup/{backup.pk}/restore/", {"typed": backup.name, "reason": "x"})

    assert "wait for it or cancel it first" in told(answer)
    assert not Operation.objects.filter(kind="restore").exists()


@pytest.mark.parametrize("state", [{"removed_at": timezone.now()}, {"damage": "cut short"}])
def test_a_backup_that_cannot_be_restored_has_no_restore_page(staff: Client, state: dict[str, Any]) -> None:
    backup = make_backup(**state)
    url = f"/backups_app/backup/{backup.pk}/restore/"

    for answer in (staff.get(url), staff.post(url, {"typed": backup.name, "reason": "x"})):
        assert answer.headers["Location"] == f"/backups_app/backup/{backup.pk}/change/"
    assert not Operation.objects.exists()


def test_a_disabled_button_says_why(staff: Client) -> None:
    backup = make_backup(damage="cut short")

    page = staff.get(f"/backups_app/backup/{backup.pk}/change/").content.decode()

    assert "This backup is damaged." in page
    assert f"/backups_app/backup/{backup.pk}/restore/" not in page


def test_an_undo_needs_the_databases_name(staff: Client, settings: Any) -> None:
    event = make_restore(make_backup())
    url = f"/backups_app/restoreevent/{event.pk}/undo/"

    refused = staff.post(url, {"typed": "other", "reason": "wrong backup"})
    accepted = staff.post(url, {"typed": "not_set_by_this_test", "reason": "wrong backup"})

    assert (refused.status_code, accepted.status_code) == (422, 302)
    assert Operation.objects.get(kind="undo_restore").parameters == {"event": event.pk}


@pytest.mark.parametrize(
    "state",
    [
        {"replaced_kept_until": timezone.now() - timedelta(hours=1)},
        {"replaced_dropped_at": timezone.now()},
        {"outcome": "undone"},
    ],
)
def test_an_undo_that_came_too_late_is_refused_in_words(staff: Client, state: dict[str, Any]) -> None:
    event = make_restore(make_backup(), **state)
    given = {"typed": "not_set_by_this_test", "reason": "x"}

    answer = staff.post(f"/backups_app/restoreevent/{event.pk}/undo/", given, follow=True)

    assert told(answer)
    assert not Operation.objects.filter(kind="undo_restore").exists()


def test_a_cancel_is_asked_for_once(staff: Client) -> None:
    operation = make_operation("backup", "running")
    url = f"/backups_app/operation/{operation.pk}/cancel/"

    first, second = staff.post(url, follow=True), staff.post(url, follow=True)

    operation.refresh_from_db()
    assert operation.cancel_requested_by == "itstaff"
    assert "was asked for" in told(first)
    assert "too late" in told(second)


@pytest.mark.parametrize("what", ["stop", "start", "migrate"])
def test_the_api_is_not_touched_without_a_reason(staff: Client, what: str) -> None:
    answer = staff.post(f"/backups_app/operation/api/{what}/", {"reason": ""}, follow=True)

    assert "reason" in told(answer)
    assert not Operation.objects.exists()


def test_an_unknown_deed_on_the_api_is_not_found(staff: Client) -> None:
    assert staff.post("/backups_app/operation/api/explode/", {"reason": "x"}).status_code == 404


def test_a_pin_needs_a_reason_and_leaves_a_line_in_the_trail(staff: Client) -> None:
    made = make_operation("backup")
    backup = make_backup(operation=made)
    url = f"/backups_app/backup/{backup.pk}/pin/"

    staff.post(url, {"reason": ""})
    assert not Backup.objects.get().is_pinned
    staff.post(url, {"reason": "before the upgrade"})
    assert Backup.objects.get().is_pinned
    staff.post(url, {"unpin": "1"})

    assert not Backup.objects.get().is_pinned
    assert [step.what for step in made.steps.all()] == [
        "Pinned by itstaff: before the upgrade",
        "The pin was taken away by itstaff.",
    ]


def test_a_pin_stands_in_the_description_beside_each_copy(
    staff: Client, stored: Backup, tmp_path: Path
) -> None:
    url = f"/backups_app/backup/{stored.pk}/pin/"
    file = tmp_path / "backups" / f"{stored.name}.json"

    staff.post(url, {"reason": "before the upgrade"})
    pinned = json.loads(file.read_text())
    staff.post(url, {"unpin": "1"})
    unpinned = json.loads(file.read_text())
    file.unlink()
    (tmp_path / "backups").rename(tmp_path / "away")
    answer = staff.post(url, {"reason": "again"}, follow=True)

    assert (pinned["is_pinned"], pinned["pin_reason"]) == (True, "before the upgrade")
    assert (unpinned["is_pinned"], unpinned["pin_reason"]) == (False, "")
    assert "could not be written now: the next check of the copies does" in told(answer)
    assert Backup.objects.get().is_pinned


def test_an_incident_note_is_added_and_never_empty(staff: Client) -> None:
    event = make_restore(make_backup())
    url = f"/backups_app/restoreevent/{event.pk}/note/"

    empty = staff.post(url, {"text": " "})
    staff.post(url, {"text": "The import had run <twice>."})

    note = IncidentNote.objects.get()
    assert "Write something first." in empty.content.decode()
    assert (note.author_name, note.text) == ("itstaff", "The import had run <twice>.")
    assert "&lt;twice&gt;" in staff.get(f"/backups_app/restoreevent/{event.pk}/change/").content.decode()


def test_a_note_that_is_too_long_is_not_lost(staff: Client) -> None:
    event = make_restore(make_backup())
    text = "The import had run twice.\r\n" * 200

    answer = staff.post(f"/backups_app/restoreevent/{event.pk}/note/", {"text": text})

    page = answer.content.decode()
    assert answer.status_code == 422
    assert "This is too long: 5199 characters; at most 4000." in page
    assert page.count("The import had run twice.") == 200
    assert not IncidentNote.objects.exists()


@pytest.mark.parametrize(("lines", "is_kept"), [(2000, True), (2001, False)])
def test_a_line_break_counts_once(staff: Client, lines: int, is_kept: bool) -> None:
    event = make_restore(make_backup())

    staff.post(f"/backups_app/restoreevent/{event.pk}/note/", {"text": "\r\n".join("x" * lines) + "x"})

    assert IncidentNote.objects.exists() is is_kept


def test_a_reason_that_is_too_long_is_told_as_that(staff: Client) -> None:
    answer = staff.post("/backups_app/operation/api/stop/", {"reason": "x" * 501}, follow=True)

    assert told(answer) == "This is too long: 501 characters; at most 500."


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"state": "corrupt"}, "No copy of it is known to be intact."),
        ({"state": "missing"}, "No copy of it is known to be intact."),
        ({"location": "given-up"}, "No copy of it is known to be intact."),
        ({}, ""),
    ],
)
def test_a_download_is_offered_only_where_there_is_something_to_hand_out(
    staff: Client, stored: Backup, state: dict[str, str], why: str
) -> None:
    stored.copies.update(**state)

    page = staff.get(f"/backups_app/backup/{stored.pk}/change/").content.decode()

    assert (f'action="/backups_app/backup/{stored.pk}/download/"' in page) is not bool(why)
    assert why in page


def test_a_message_begins_as_it_was_written(staff: Client) -> None:
    gone = make_backup(removed_at=timezone.now())
    chosen = {"action": "validate_backups", "_selected_action": [gone.pk]}

    one = staff.post(f"/backups_app/backup/{gone.pk}/validate/", follow=True).content.decode()
    many = staff.post("/backups_app/backup/", chosen, follow=True).content.decode()

    for page in (one, many):
        assert f"The backup {gone.name} has been removed.</li>" in page


def test_a_download_is_streamed_as_an_attachment_and_written_to_the_trail(
    staff: Client, stored: Backup
) -> None:
    answer = staff.post(f"/backups_app/backup/{stored.pk}/download/")

    assert answer.headers["Content-Disposition"] == f'attachment; filename="{stored.name}"'
    assert answer.streaming
    assert b"".join(answer.streaming_content) == b"hello world"  # type: ignore[attr-defined]
    operation = Operation.objects.get()
    assert (operation.kind, operation.state, operation.requested_by_name) == (
        "download",
        "succeeded",
        "itstaff",
    )


def test_a_download_of_a_changed_file_is_refused_and_written_to_the_trail(
    staff: Client, stored: Backup, settings: Any
) -> None:
    folder = Path(settings.BACKUP_LOCATIONS.partition("=")[2])
    (folder / stored.name).write_bytes(b"cut")

    answer = staff.post(f"/backups_app/backup/{stored.pk}/download/", follow=True)

    assert "differs from its record" in told(answer)
    assert Operation.objects.get().state == "failed"


def test_a_copy_that_is_known_to_be_damaged_is_not_handed_out(staff: Client, stored: Backup) -> None:
    stored.copies.update(state="corrupt")

    answer = staff.post(f"/backups_app/backup/{stored.pk}/download/", follow=True)

    assert "No intact copy" in told(answer)
    assert Operation.objects.get().state == "failed"


@pytest.mark.parametrize("query", ["created_at__year=abc", "nonsense=1"])
def test_an_export_of_a_filter_that_does_not_exist_leads_to_the_list(staff: Client, query: str) -> None:
    assert staff.get(f"/backups_app/operation/export/?{query}").status_code == 302


def test_the_export_holds_what_the_list_shows_and_no_formula(staff: Client) -> None:
    make_operation("restore", reason='=HYPERLINK("http://evil")', created_at=timezone.now())
    make_operation("backup")

    answer = staff.get("/backups_app/operation/export/?kind__exact=restore")

    text = b"".join(answer.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["kind"] == "restore"
    assert row["reason"].startswith("'=")
    assert row["created_at"].endswith("Z")
    assert "attachment" in answer.headers["Content-Disposition"]


@pytest.mark.parametrize(("wanted", "is_found"), [("qrdb_2026", True), ("ITST", True), ("nobody", False)])
def test_the_audit_history_is_searched_by_person_and_by_backup(
    staff: Client, wanted: str, is_found: bool
) -> None:
    operation = make_operation(backup=make_backup(), requested_by_name="itstaff")

    page = staff.get(f"/backups_app/operation/?q={wanted}").content.decode()

    assert (f"/backups_app/operation/{operation.pk}/change/" in page) is is_found


def test_a_superuser_makes_somebody_it_staff(log_in: Log_in) -> None:
    client, somebody = log_in("superuser"), make_user("helpdesk")
    page = f"/auth/user/{somebody.pk}/change/"
    staff = Group.objects.get(name="IT staff")

    assert 'type="checkbox" name="groups"' in client.get(page).content.decode()
    answer = client.post(
        page, {"username": "helpdesk", "is_active": "on", "is_staff": "on", "groups": [staff.pk]}
    )

    assert answer.status_code == 302
    assert somebody.groups.get() == staff
    assert User.objects.get(pk=somebody.pk).has_perm("backups_app.restore_backup")
