"""What runs by itself: made once, asked for once a day, changed by IT staff alone and in the trail."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from django_q.models import Schedule
from django_q.scheduler import scheduler
from pytest_django.fixtures import Settings

from backups_app import schedules, tasks
from backups_app.models import Operation
from backups_app.schedules import JOBS
from tests.interface.conftest import Log_in, make_backup, make_operation, make_user

MANAGED = "postgresql://nobody:nothing@127.0.0.1:1/qrdb"


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function: it is this moment now."""

    def set_clock(moment: datetime) -> None:
        monkeypatch.setattr(timezone, "now", lambda: moment)

    return set_clock


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What django-q2's scheduler gives to the queue."""
    found: list[tuple[Any, ...]] = []

    def take(*call: Any, **_options: Any) -> str:
        found.append(call)
        return "0" * 32

    monkeypatch.setattr("django_q.scheduler.async_task", take)
    return found


@pytest.fixture
def sent_with(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options that django-q2's scheduler gives to the queue."""
    found: list[dict[str, Any]] = []

    def take(*_call: Any, **options: Any) -> str:
        found.append(options)
        return "0" * 32

    monkeypatch.setattr("django_q.scheduler.async_task", take)
    return found


def days_of(schedule: Schedule, count: int) -> Iterator[datetime]:
    from croniter import croniter

    runs = croniter(schedule.cron, timezone.localtime())
    return (runs.get_next(datetime) for _ in range(count))


def test_each_job_is_scheduled_after_migrate(db: None) -> None:
    found = {row.name: row for row in Schedule.objects.all()}

    assert set(found) == {schedules.HOUSEKEEPING, *JOBS}
    assert str(schedules.timing_of(found["backup"])) == "Each day at 04:00"
    assert str(schedules.timing_of(found["prove_backup"])) == "Sunday at 05:00"
    assert str(schedules.timing_of(found["validate_database"])) == "Each hour"
    lately = timezone.now() - timedelta(hours=1)  # the tests' tables may have been made before an hour's end
    assert all(row.next_run > lately for name, row in found.items() if name in JOBS)
    assert set(tasks._SCHEDULED) == set(JOBS)
    assert not {"restore", "undo_restore"} & set(JOBS)


def test_an_operator_s_time_and_pause_survive_the_next_migrate(db: None) -> None:
    Schedule.objects.filter(name="backup").update(cron="30 22 * * 1", repeats=0)

    schedules.make_schedules()

    row = Schedule.objects.get(name="backup")
    assert (row.cron, row.repeats) == ("30 22 * * 1", 0)
    assert Schedule.objects.count() == len(JOBS) + 1


@pytest.mark.parametrize("key", list(JOBS))
def test_a_due_schedule_asks_for_its_operation_once_a_day(db: None, settings: Settings, key: str) -> None:
    settings.MANAGED_DATABASE_URL = MANAGED
    backup = make_backup()

    for _ in range(3):
        assert tasks.request_scheduled(key).startswith("operation ")
        Operation.objects.filter(kind=key).update(state="succeeded", finished_at=timezone.now())

    operation = Operation.objects.get(kind=key)
    assert (operation.source, operation.requested_by_name) == ("schedule", "schedule")
    assert operation.backup == (backup if key == "prove_backup" else None)


def test_the_next_day_and_the_next_hour_are_asked_for_again(db: None, at: Any) -> None:
    for hours in (0, 1, 24):
        at(datetime(2026, 5, 25, 4, 0, tzinfo=UTC) + timedelta(hours=hours))
        for key in ("backup", "validate_database"):
            tasks.request_scheduled(key)
        Operation.objects.update(state="succeeded", finished_at=timezone.now())

    assert Operation.objects.filter(kind="backup").count() == 2
    assert Operation.objects.filter(kind="validate_database").count() == 3


def test_a_missed_run_does_not_take_the_place_of_the_days_own(db: None, settings: Settings) -> None:
    """Down from Monday to Tuesday at 03:50: the backup made up for then, and Tuesday's at 04:00."""
    settings.TIME_ZONE = "Europe/Berlin"

    for due in ("2026-05-24T02:00:00+00:00", "2026-05-25T22:30:00+00:00", "2026-05-26T02:00:00+00:00"):
        tasks.request_scheduled("backup", due)
        Operation.objects.update(state="succeeded", finished_at=timezone.now())

    found = Operation.objects.order_by("pk").values_list("dedupe_key", flat=True)
    assert list(found) == ["backup:2026-05-24", "backup:2026-05-26"]


def test_the_queue_is_told_when_a_run_was_meant_to_be(
    transactional_db: None, sent_with: list[dict[str, Any]]
) -> None:
    schedules.make_schedules()
    Schedule.objects.exclude(name="backup").delete()
    missed = timezone.now() - timedelta(days=3)
    Schedule.objects.update(next_run=missed)

    scheduler()

    assert [call["due"] for call in sent_with] == [missed.isoformat()]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("cron", ["30 2 * * *", "0 2 * * *", "30 1 * * *", "0 3 * * *"])
def test_each_day_has_one_run_even_in_the_hour_that_is_skipped_or_comes_twice(
    settings: Settings, zone: str, cron: str
) -> None:
    settings.TIME_ZONE = zone
    job, begin = JOBS["backup"], datetime(2025, 1, 1, 12, tzinfo=UTC)

    found = {schedules.slot_of(job, run) for run in islice(schedules.runs_after(cron, begin), 370)}

    days = {f"backup:{begin.date() + timedelta(days=day)}" for day in range(1, 366)}
    assert days <= found


def test_the_hour_that_comes_twice_is_validated_twice(settings: Settings) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    job, begin = JOBS["validate_database"], datetime(2025, 10, 25, 22, tzinfo=UTC)

    found = [schedules.slot_of(job, run) for run in islice(schedules.runs_after(job.cron, begin), 25)]

    assert len(set(found)) == 25


def test_a_schedule_that_was_bent_calls_ours_again_after_migrate(db: None) -> None:
    """One with malformed arguments would hold up all others."""
    Schedule.objects.filter(name="backup").update(func="os.system", args="(", intended_date_kwarg=None)

    schedules.make_schedules()

    row = Schedule.objects.get(name="backup")
    assert (row.func, row.args) == ("backups_app.tasks.request_scheduled", "('backup',)")
    assert row.intended_date_kwarg == "due"


def test_a_clean_up_that_is_set_wrong_fails_where_everybody_sees_it(db: None, settings: Settings) -> None:
    settings.BACKUP_KEEP = "many"

    tasks.request_scheduled("prune")
    tasks.run(Operation.objects.get().pk)

    operation = Operation.objects.get(kind="prune")
    assert operation.state == "failed"
    assert "BACKUP_KEEP has to be a whole number" in operation.error


def test_without_a_backup_a_drill_asks_for_nothing(db: None) -> None:
    assert tasks.request_scheduled("prove_backup") == "There is no validated backup to prove."
    assert not Operation.objects.exists()


def test_a_run_that_was_missed_is_made_up_for_once(
    transactional_db: None, sent: list[tuple[Any, ...]]
) -> None:
    schedules.make_schedules()
    Schedule.objects.exclude(name="backup").delete()
    Schedule.objects.update(next_run=timezone.now() - timedelta(days=3))

    scheduler()
    scheduler()

    assert sent == [("backups_app.tasks.request_scheduled", "backup")]
    assert Schedule.objects.get().next_run > timezone.now()


def test_four_o_clock_is_local_time_all_year_round(db: None, settings: Settings) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    with timezone.override("Europe/Berlin"):
        runs = list(days_of(Schedule.objects.get(name="backup"), 366))

    assert {run.hour for run in runs} == {4}
    assert len({run.date() for run in runs}) == 366


# --- the page -----------------------------------------------------------------------------------------------


def test_everyone_sees_when_what_runs(log_in: Log_in) -> None:
    page = log_in("helpdesk").get("/schedules/").content.decode()

    assert "Each day at 04:00" in page
    assert "Sunday at 05:00" in page
    assert "Change…" not in page
    assert "Change…" in log_in("itstaff").get("/schedules/").content.decode()


def test_time_and_days_are_changed_and_the_change_is_in_the_trail(staff: Client) -> None:
    answer = staff.post("/schedules/backup/", {"at": "22:30", "days": ["1", "5"]}, follow=True)

    row = Schedule.objects.get(name="backup")
    assert row.cron == "30 22 * * 1,5"
    assert timezone.localtime(row.next_run).strftime("%H:%M") == "22:30"
    assert "Changed: Monday, Friday at 22:30." in answer.content.decode()
    operation = Operation.objects.get(kind="change_schedule")
    assert operation.requested_by_name == "itstaff"
    assert operation.result == {
        "schedule": "backup",
        "before": "Each day at 04:00",
        "after": "Monday, Friday at 22:30",
    }
    assert [step.what for step in operation.steps.all()] == [
        "Backup: Monday, Friday at 22:30; before: Each day at 04:00."
    ]


def test_a_schedule_is_paused_and_resumed(staff: Client) -> None:
    staff.post("/schedules/validate_database/", {"is_paused": "on"})
    assert Schedule.objects.get(name="validate_database").repeats == 0
    assert "paused" in staff.get("/schedules/").content.decode()

    staff.post("/schedules/validate_database/", {})
    row = Schedule.objects.get(name="validate_database")
    assert row.repeats == -1
    assert row.next_run > timezone.now()


def test_a_paused_schedule_does_not_run(transactional_db: None, sent: list[tuple[Any, ...]]) -> None:
    schedules.make_schedules()
    Schedule.objects.update(next_run=timezone.now() - timedelta(hours=1), repeats=0)

    scheduler()

    assert sent == []


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ({"at": "25:00", "days": ["1"]}, "A time of day is needed"),
        ({"at": "", "days": ["1"]}, "This field is required"),
        ({"at": "04:00"}, "At least one day is needed"),
        ({"at": "04:00", "days": ["9"]}, "Select a valid choice"),
    ],
)
def test_a_wrong_timing_is_said_and_changes_nothing(
    staff: Client, typed: dict[str, Any], complaint: str
) -> None:
    page = staff.post("/schedules/backup/", typed)

    assert page.status_code == 200
    assert complaint in page.content.decode()
    assert Schedule.objects.get(name="backup").cron == "0 4 * * *"
    assert not Operation.objects.exists()


def test_saving_without_a_change_leaves_no_trace(staff: Client) -> None:
    staff.post("/schedules/backup/", {"at": "04:00", "days": list(schedules.DAYS)})

    assert not Operation.objects.exists()


def test_the_overview_says_what_runs_next_and_that_the_backup_is_paused(staff: Client) -> None:
    tomorrow = timezone.localtime() + timedelta(days=1)
    Schedule.objects.update(next_run=tomorrow + timedelta(days=1))
    Schedule.objects.filter(name="backup").update(next_run=tomorrow.replace(hour=4, minute=0))

    assert "04:00" in staff.get("/").content.decode()

    Schedule.objects.filter(name="backup").update(repeats=0)

    assert "The daily backup is paused." in staff.get("/").content.decode()


def test_the_overview_names_what_is_paused(staff: Client) -> None:
    Schedule.objects.filter(name__in=["prune", "prove_backup"]).update(repeats=0)

    card = next(one for one in staff.get("/").context["cards"] if one.title == "Next scheduled run")

    assert "paused: " in card.detail
    assert {"Clean-up", "Restore drill"} == set(card.detail.partition("paused: ")[2].split(", "))
    assert card.tone == "warn"


def test_a_later_time_on_a_day_that_has_its_backup_means_the_next_day(staff: Client, at: Any) -> None:
    at(datetime(2026, 5, 25, 12, 0, tzinfo=UTC))
    tasks.request_scheduled("backup", "2026-05-25T04:00:00+00:00")

    staff.post("/schedules/backup/", {"at": "22:30", "days": list(schedules.DAYS)})

    assert Schedule.objects.get(name="backup").next_run == datetime(2026, 5, 26, 22, 30, tzinfo=UTC)


def test_a_change_looks_at_what_stands_there_now(staff: Client) -> None:
    """Somebody else has paused it since this page was opened, and the scheduler has set the next run."""
    stale = Schedule.objects.get(name="backup")
    Schedule.objects.filter(name="backup").update(repeats=0, task="1" * 32)
    later = schedules.timing_of(stale)

    operation = schedules.change(stale, later, user=make_user("other"))

    assert operation is not None
    assert operation.result["before"] == "Each day at 04:00, paused"
    assert Schedule.objects.get(name="backup").task == "1" * 32


def test_the_last_result_is_the_schedules_own(staff: Client) -> None:
    """Housekeeping brings copies that waited in the schedule's name too."""
    own = make_operation("check_copies", "failed", source="schedule", dedupe_key="check_copies:2026-05-25")
    other = make_operation("check_copies", source="schedule")

    page = staff.get("/schedules/").content.decode()

    assert f"/backups_app/operation/{own.pk}/change/" in page
    assert f"/backups_app/operation/{other.pk}/change/" not in page
    assert "Times are those of UTC." in page


@pytest.fixture
def made_now(db: None) -> None:
    """The schedules as `migrate` makes them at this moment."""
    Schedule.objects.all().delete()
    schedules.make_schedules()


def test_a_clock_that_was_ahead_holds_no_schedule_up(made_now: None) -> None:
    now = timezone.now()
    before = dict(Schedule.objects.values_list("name", "next_run"))
    Schedule.objects.update(next_run=now + timedelta(days=30))
    paused = Schedule.objects.get(name="prune")
    Schedule.objects.filter(pk=paused.pk).update(repeats=schedules.PAUSED)

    schedules.pull_back()

    after = dict(Schedule.objects.values_list("name", "next_run"))
    assert after[schedules.HOUSEKEEPING] <= timezone.now()
    for key in JOBS:
        assert abs(after[key] - before[key]) <= timedelta(hours=1), key
    assert Schedule.objects.get(name="prune").repeats == schedules.PAUSED
    schedules.pull_back()
    assert dict(Schedule.objects.values_list("name", "next_run")) == after


def test_a_schedule_that_waits_for_its_next_free_day_is_left_to_wait(made_now: None) -> None:
    row = Schedule.objects.get(name="backup")
    waits_until = row.next_run + timedelta(days=1)
    make_operation("backup", dedupe_key=schedules.slot_of(JOBS["backup"], row.next_run))
    Schedule.objects.filter(pk=row.pk).update(next_run=waits_until)

    schedules.pull_back()

    assert Schedule.objects.get(pk=row.pk).next_run == waits_until
