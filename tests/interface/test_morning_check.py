"""The morning check: each thing that may be out of order is found, said, and leads to the way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import DatabaseError, InterfaceError, OperationalError
from django.test import Client
from django.utils import timezone
from django_q.models import Schedule

from backups_app import schedules
from backups_app.management.commands import morning_check
from backups_app.models import Backup, BackupCopy, WorkerBeat
from backups_app.presentation import morning, surroundings
from backups_app.presentation.morning import Finding, Severity
from backups_app.presentation.standing import standing
from tests.interface.conftest import make_backup, make_beat, make_operation

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def in_order(tmp_path: Path, settings: Any) -> Backup:
    """A site in which nothing is wrong."""
    (tmp_path / "nas").mkdir()
    settings.BACKUP_LOCATIONS = f"working={tmp_path},nas={tmp_path / 'nas'}"
    make_beat()
    backup = make_backup(size=41_000, proven_at=timezone.now() - timedelta(days=2))
    make_operation(
        "validate_database", result={"exposure": {"backup": backup.name, "scans": 412, "codes": 3}}
    )
    Schedule.objects.update(next_run=timezone.now() + timedelta(hours=1))
    Schedule.objects.filter(name="Housekeeping").update(next_run=timezone.now() + timedelta(minutes=1))
    return backup


def test_backups_in_one_place_alone_are_a_warning(tmp_path: Path, settings: Any) -> None:
    settings.BACKUP_LOCATIONS = f"working={tmp_path}"

    found = findings()["copies"]

    assert found.severity == Severity.WARNING
    assert found.message.startswith("Every backup lies in one place alone")


def test_copies_in_a_location_that_was_taken_away_are_one_warning(in_order: Backup) -> None:
    for alias in ("old", "older"):
        BackupCopy.objects.create(backup=in_order, location=alias, state="stored")
    BackupCopy.objects.create(backup=make_backup("qrdb_20260524_143022.sql"), location="old", state="stored")

    found = findings()["copies"]

    assert found.severity == Severity.WARNING
    assert found.message.startswith("Copies lie in old, older, no longer named")


@pytest.mark.parametrize("told", [[], ["nas holds another file."]])
def test_what_the_check_of_the_copies_found_of_the_sites_backup_counts(told: list[str]) -> None:
    make_operation("backup_site", result={"file": "a.dump", "warnings": ["nas does not answer."]})
    make_operation("check_copies", result={"site_backup": "a.dump", "site_warnings": told})

    found = findings()["schedules"]

    assert (found.severity, "nas holds" in found.message) == (int(bool(told)), bool(told))


def test_what_is_wrong_in_a_location_that_was_taken_away_is_no_warning_for_ever(in_order: Backup) -> None:
    for alias, state in (("old", "pending"), ("older", "missing"), ("oldest", "unreadable")):
        BackupCopy.objects.create(backup=in_order, location=alias, state=state)

    assert findings()["copies"].severity == Severity.OK


def findings() -> dict[str, Finding]:
    return {finding.name: finding for finding in morning.judge(standing())}


def check(**options: Any) -> tuple[int, str]:
    """The command's exit status and what it printed."""
    printed = StringIO()
    try:
        call_command("morning_check", stdout=printed, **options)
    except SystemExit as end:
        return int(str(end.code)), printed.getvalue()
    return 0, printed.getvalue()


def test_when_all_is_in_order_every_check_says_so() -> None:
    assert {finding.name: finding.message for finding in findings().values() if finding.severity} == {}
    assert morning.summary(list(findings().values())) == "in order"
    assert check()[0] == 0


def make_older(backup: Backup, **changes: Any) -> None:
    Backup.objects.filter(pk=backup.pk).update(**changes)


def make_newest(**facts: Any) -> Backup:
    return make_backup("qrdb_20260525_150000.sql", size=41_000, created_at=timezone.now(), **facts)


def set_next_run(name: str, moment: datetime) -> None:
    Schedule.objects.filter(name=name).update(next_run=moment)


def test_a_failed_backup_is_over_when_a_good_one_was_taken_since() -> None:
    make_operation("backup", "failed")
    make_newest(origin="safety", operation=make_operation("restore"))
    make_operation("backup", "cancelled")

    assert findings()["age"].severity == Severity.OK


def test_a_failed_backup_leads_to_its_steps() -> None:
    failed = make_operation("backup", "failed", error="The disk is full.")

    assert findings()["age"].url == f"/backups_app/operation/{failed.pk}/change/"


NO_LONGER_IN_ORDER: list[tuple[str, str, Severity, Callable[[Backup], Any], str]] = [
    (
        "too old",
        "age",
        Severity.CRITICAL,
        lambda backup: make_older(backup, created_at=timezone.now() - 2 * DAY),
        "is too old: it was taken 2\xa0days ago",
    ),
    (
        "nothing validated",
        "age",
        Severity.CRITICAL,
        lambda backup: make_older(backup, validated_at=None),
        "There is no validated backup.",
    ),
    (
        "no intact copy",
        "age",
        Severity.CRITICAL,
        lambda backup: backup.copies.update(state="missing"),
        "No copy of the last validated backup",
    ),
    (
        "not validated",
        "validated",
        Severity.WARNING,
        lambda _: make_backup("qrdb_20990101_000000.sql", created_at=timezone.now(), validated_at=None),
        "has not been validated",
    ),
    (
        "damaged",
        "validated",
        Severity.WARNING,
        lambda backup: make_older(backup, damage="It is cut short."),
        "It is cut short.",
    ),
    ("small", "size", Severity.WARNING, lambda backup: make_older(backup, size=29_999), "less than 29.3"),
    (
        "content",
        "content",
        Severity.WARNING,
        lambda backup: make_older(backup, warnings=["qr_codes has 40 % fewer rows."]),
        "qr_codes has 40 % fewer rows.",
    ),
    (
        "never proven",
        "proven",
        Severity.WARNING,
        lambda backup: make_older(backup, proven_at=None),
        "No backup has been proven",
    ),
    (
        "proven long ago",
        "proven",
        Severity.WARNING,
        lambda backup: make_older(backup, proven_at=timezone.now() - 9 * DAY),
        "too long ago",
    ),
    (
        "drill failed for the backup",
        "proven",
        Severity.CRITICAL,
        lambda _: make_operation("prove_backup", "failed", blame="backup", error="Rows differ."),
        "Rows differ.",
    ),
    (
        "drill failed for its bench",
        "proven",
        Severity.WARNING,
        lambda _: make_operation("prove_backup", "failed", blame="environment", error="No room."),
        "No room.",
    ),
    (
        "damaged copy",
        "copies",
        Severity.WARNING,
        lambda backup: BackupCopy.objects.create(backup=backup, location="nas", state="corrupt"),
        "1 copy is missing or damaged.",
    ),
    (
        "unreadable copy",
        "copies",
        Severity.WARNING,
        lambda backup: BackupCopy.objects.create(backup=backup, location="nas", state="unreadable"),
        "1 copy could not be read.",
    ),
    (
        "waiting copy",
        "copies",
        Severity.WARNING,
        lambda backup: BackupCopy.objects.create(backup=backup, location="nas", state="pending"),
        "1 copy waits for its location.",
    ),
    (
        "copy check failed",
        "copies",
        Severity.WARNING,
        lambda _: make_operation("check_copies", "failed", error="second is away."),
        "second is away.",
    ),
    (
        "location not read",
        "copies",
        Severity.WARNING,
        lambda _: make_operation("check_copies", result={"unreachable": ["nas", "second"]}),
        "these locations could not be read: nas, second.",
    ),
    (
        "copy check failed and location not read",
        "copies",
        Severity.WARNING,
        lambda _: make_operation(
            "check_copies", "failed", error="No copy is left.", result={"unreachable": ["nas"]}
        ),
        "No copy is left. At the last check of the copies, these locations could not be read: nas.",
    ),
    (
        "no other backup than one from the future",
        "age",
        Severity.CRITICAL,
        lambda backup: make_older(backup, created_at=timezone.now() + DAY),
        "bears a time in the future, so nobody knows how old it is",
    ),
    (
        "backup from the future",
        "age",
        Severity.WARNING,
        lambda _: make_backup("qrdb_20990101_000000.sql", created_at=timezone.now() + DAY),
        "qrdb_20990101_000000.sql bears a time in the future and does not count as the newest",
    ),
    (
        "too old beside one from the future",
        "age",
        Severity.CRITICAL,
        lambda backup: (
            make_older(backup, created_at=timezone.now() - 2 * DAY),
            make_backup("qrdb_20990101_000000.sql", created_at=timezone.now() + DAY),
        ),
        "is too old: it was taken 2\xa0days ago",
    ),
    (
        "check from the future",
        "database",
        Severity.WARNING,
        lambda _: make_operation("validate_database", finished_at=timezone.now() + DAY),
        "bears a time in the future: the clock seems to have been set back",
    ),
    (
        "housekeeping far ahead",
        "schedules",
        Severity.WARNING,
        lambda _: set_next_run("Housekeeping", timezone.now() + timedelta(minutes=10)),
        "further ahead than it should be: Housekeeping; the clock seems to have been set back",
    ),
    (
        "backup far ahead",
        "schedules",
        Severity.WARNING,
        lambda _: set_next_run("backup", timezone.now() + 3 * DAY),
        "further ahead than it should be: Backup; the clock seems to have been set back",
    ),
    (
        "the last backup failed after a good one",
        "age",
        Severity.WARNING,
        lambda _: make_operation(error="The disk is full.", state="failed"),
        "failed: The disk is full.",
    ),
    (
        "the last backup failed and one was imported since",
        "age",
        Severity.WARNING,
        lambda _: (
            make_operation(error="The disk is full.", state="interrupted"),
            make_newest(operation=make_operation("import"), imported_at=timezone.now()),
        ),
        "failed: The disk is full.",
    ),
    (
        "no schedules",
        "schedules",
        Severity.CRITICAL,
        lambda _: Schedule.objects.filter(name="backup").delete(),
        "Missing: Backup. Run manage.py migrate",
    ),
    (
        "late schedules",
        "schedules",
        Severity.CRITICAL,
        lambda _: Schedule.objects.filter(name="backup").update(next_run=timezone.now() - DAY),
        "What should have run by itself 1\xa0day ago has not",
    ),
    (
        "paused",
        "schedules",
        Severity.WARNING,
        lambda _: Schedule.objects.filter(name="backup").update(repeats=0, next_run=None),
        "Paused: Backup.",
    ),
    (
        "site backup failed",
        "schedules",
        Severity.WARNING,
        lambda _: make_operation("backup_site", "failed", error="working is full."),
        "working is full.",
    ),
    (
        "site backup in one place only",
        "schedules",
        Severity.WARNING,
        lambda _: make_operation("backup_site", result={"warnings": ["second does not answer."]}),
        "The last backup of the site's own database: second does not answer.",
    ),
    (
        "worker dead since before the clock was set back",
        "worker",
        Severity.CRITICAL,
        lambda _: WorkerBeat.objects.update(at=timezone.now() + DAY),
        "No worker is alive",
    ),
    (
        "invalid database",
        "database",
        Severity.CRITICAL,
        lambda _: make_operation("validate_database", "failed", blame="database"),
        "not valid",
    ),
    (
        "unreachable database",
        "database",
        Severity.CRITICAL,
        lambda _: make_operation("validate_database", "failed", error="No answer."),
        "could not be checked: No answer.",
    ),
    (
        "old check",
        "database",
        Severity.WARNING,
        lambda _: make_operation("validate_database", finished_at=timezone.now() - 2 * DAY),
        "but that was checked 2\xa0days ago",
    ),
]


@pytest.mark.parametrize(
    ("name", "severity", "spoil", "told"),
    [pytest.param(*case[1:], id=case[0]) for case in NO_LONGER_IN_ORDER],
)
def test_what_is_not_in_order_is_found(
    in_order: Backup, name: str, severity: Severity, spoil: Callable[[Backup], Any], told: str
) -> None:
    spoil(in_order)

    found = findings()[name]

    assert (found.severity, told in found.message) == (severity, True), found.message
    status, printed = check()
    assert status >= severity
    assert found.message in printed


@pytest.mark.parametrize(
    ("name", "severity", "spoil", "told"),
    [pytest.param(*case[1:], id=case[0]) for case in NO_LONGER_IN_ORDER],
)
def test_the_way_out_is_there_and_an_alarm_is_a_banner(
    staff: Client, in_order: Backup, name: str, severity: Severity, spoil: Callable[[Backup], Any], told: str
) -> None:
    spoil(in_order)

    found = findings()[name]

    assert staff.get(found.url).status_code == 200
    assert found.link
    banners = [banner.text for banner in staff.get("/").context["banners"]]
    assert (found.message in banners) == (severity is Severity.CRITICAL)
    assert told in staff.get("/morning-check/").context["findings"][list(findings()).index(name)].message


def test_a_schedule_that_skips_the_run_of_a_day_that_had_one_is_in_order() -> None:
    """As after a change of its time: then the next run is that of the next day."""
    row = Schedule.objects.get(name="backup")
    set_next_run("backup", list(islice(schedules.runs_after(row.cron, timezone.now()), 2))[1])

    assert findings()["schedules"].severity is Severity.OK


def test_a_paused_schedule_is_never_too_far_ahead() -> None:
    Schedule.objects.filter(name="backup").update(repeats=0, next_run=timezone.now() + 30 * DAY)

    assert findings()["schedules"].message == "Paused: Backup."


@pytest.mark.parametrize("full", [{}, {"only_pending": False}])
def test_a_check_of_waiting_copies_does_not_stand_for_the_last_full_one(full: dict[str, bool]) -> None:
    before = timezone.now() - timedelta(hours=2)
    make_operation("check_copies", created_at=before, parameters=full, result={"unreachable": ["nas"]})
    make_operation("check_copies", parameters={"only_pending": True}, result={"unreachable": []})

    assert "could not be read: nas." in findings()["copies"].message

    make_operation("check_copies", parameters=full, result={"unreachable": []})

    assert findings()["copies"].message.startswith("All are intact")


def test_a_pin_answers_the_alarm_of_the_content(in_order: Backup) -> None:
    make_older(in_order, warnings=["qr_codes has 40 % fewer rows."], is_pinned=True)

    assert findings()["content"].severity is Severity.OK


def test_no_worker_is_an_alarm(in_order: Backup) -> None:
    from backups_app.models import WorkerBeat

    WorkerBeat.objects.update(at=timezone.now() - timedelta(hours=1))

    assert findings()["worker"].severity is Severity.CRITICAL


def test_a_location_out_of_reach_is_an_alarm(settings: Any) -> None:
    settings.BACKUP_LOCATIONS = "working=/nonexistent/folder"

    assert findings()["space"].severity is Severity.CRITICAL


@pytest.mark.parametrize(
    ("state", "severity"),
    [
        (surroundings.ApiState(False, False, "not managed", "quiet"), Severity.OK),
        (surroundings.ApiState(True, True, "healthy", "good"), Severity.OK),
        (surroundings.ApiState(True, True, "unhealthy", "warn"), Severity.WARNING),
        (surroundings.ApiState(True, False, "stopped", "bad"), Severity.CRITICAL),
    ],
)
def test_the_api(monkeypatch: pytest.MonkeyPatch, state: surroundings.ApiState, severity: Severity) -> None:
    monkeypatch.setattr(surroundings, "api", lambda *_: state)

    assert findings()["api"].severity is severity


def test_an_api_that_an_operation_stopped_is_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = surroundings.ApiState(True, False, "stopped", "bad")
    monkeypatch.setattr(surroundings, "api", lambda *_: stopped)
    operation = make_operation("restore", "running", api_stop_intended=True)

    assert findings()["api"].message == f"{operation} stopped it and will start it again."


def test_the_limits_are_settings(in_order: Backup, settings: Any) -> None:
    make_older(in_order, created_at=timezone.now() - timedelta(hours=30), size=5_000)
    settings.HEALTH_BACKUP_HOURS, settings.MINIMUM_BACKUP_BYTES, settings.DRILL_OVERDUE_DAYS = 48, 4_000, 1

    found = findings()

    assert found["age"].severity is Severity.OK
    assert found["size"].severity is Severity.OK
    assert found["proven"].severity is Severity.WARNING


def test_the_exposure_is_told_until_a_newer_backup_is_there(in_order: Backup) -> None:
    assert findings()["exposure"].message.startswith(
        "412 scans and 3 QR codes since the last validated backup"
    )

    make_backup("qrdb_20990101_000000.sql", created_at=timezone.now(), size=41_000)

    assert findings()["exposure"].message == "Counted at the next check of the live database."


def test_the_overview_has_a_card_of_each(staff: Client) -> None:
    cards = {card.title: card for card in staff.get("/").context["cards"]}

    assert cards["New since then"].value == "412 scans and 3 QR codes"
    assert (cards["Morning check"].value, cards["Morning check"].tone) == ("in order", "good")
    assert staff.get(cards["Morning check"].url).status_code == 200


def test_with_nothing_there_yet_it_answers_and_no_banner_blames_the_first_day(
    staff: Client, in_order: Backup
) -> None:
    make_older(in_order, removed_at=timezone.now())

    assert findings()["age"].severity is Severity.CRITICAL
    assert findings()["size"].message == "There is no backup yet."
    assert "There is no validated backup." not in [b.text for b in staff.get("/").context["banners"]]


def test_as_json_it_is_one_object(in_order: Backup) -> None:
    make_older(in_order, proven_at=None)

    status, printed = check(json=True)

    answer = json.loads(printed)
    assert (status, answer["severity"], answer["summary"]) == (1, "warning", "1 warning")
    assert [one["severity"] for one in answer["checks"] if one["name"] == "proven"] == ["warning"]
    assert {frozenset(one) for one in answer["checks"]} == {
        frozenset({"name", "title", "severity", "message"})
    }


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OperationalError("no such table"), "The site's own database is not ready"),
        (DatabaseError("file is not a database"), "The site's own database is not ready"),
        (InterfaceError("connection already closed"), "The site's own database is not ready"),
        (KeyError("checks"), "How things stand could not be found out (KeyError): look into the log."),
    ],
    ids=lambda value: type(value).__name__,
)
def test_without_an_answer_it_is_no_success(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(morning_check, "standing", fail)

    status, printed = check(json=True)

    assert (status, json.loads(printed)["state"]) == (2, "refused")
    assert json.loads(printed)["error"].startswith(told)


def test_settings_in_which_nothing_starts_are_an_alarm(settings: Any) -> None:
    settings.BACKUP_KEEP = "none"

    with pytest.raises(SystemCheckError) as caught:
        call_command("morning_check", skip_checks=False)

    assert caught.value.returncode == 2
