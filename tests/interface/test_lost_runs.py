"""A run that was due is not lost when the worker that fetched its message is killed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from django.utils import timezone
from django_q.brokers import get_broker
from django_q.models import OrmQ, Schedule
from django_q.scheduler import scheduler
from pytest_django.fixtures import Settings

from backups_app import schedules, tasks
from backups_app.models import Operation
from backups_app.schedules import JOBS
from tests.interface.conftest import make_backup, make_operation, make_user

MANAGED = "postgresql://nobody:nothing@127.0.0.1:1/qrdb"
Call = Callable[..., datetime]


@pytest.fixture
def call(transactional_db: None, settings: Settings) -> Call:
    """A function: that schedule is due and calls; its message is fetched by a worker that is then killed.

    It returns when the run was due. Only this schedule is there.
    """
    settings.MANAGED_DATABASE_URL = MANAGED
    schedules.make_schedules()

    def due(key: str) -> datetime:
        Schedule.objects.exclude(name=key).delete()
        row = Schedule.objects.get()
        last = schedules.run_before(str(row.cron), timezone.now())
        Schedule.objects.update(next_run=last)
        scheduler()
        assert len(get_broker().dequeue()) == 1
        return last

    return due


def slots(key: str) -> list[str]:
    found = Operation.objects.filter(kind=key, source="schedule").exclude(dedupe_key="").order_by("pk")
    return list(found.values_list("dedupe_key", flat=True))


@pytest.mark.parametrize("key", list(JOBS))
def test_housekeeping_asks_for_a_run_whose_message_was_lost_and_asks_once(call: Call, key: str) -> None:
    make_backup()
    due = call(key)

    for _ in range(3):
        scheduler()
        tasks.keep_house()
        Operation.objects.active().update(state="succeeded", finished_at=timezone.now())

    assert slots(key) == [schedules.slot_of(JOBS[key], due)]


def test_the_message_that_comes_after_all_asks_for_nothing_more(call: Call) -> None:
    due = call("backup")
    tasks.make_up_for_lost_runs()
    Operation.objects.update(state="failed", finished_at=timezone.now())

    tasks.request_scheduled("backup", due.isoformat())
    tasks.make_up_for_lost_runs()

    assert len(slots("backup")) == 1


def test_a_schedule_that_was_never_called_has_lost_nothing(transactional_db: None) -> None:
    schedules.make_schedules()
    Schedule.objects.update(task=None)

    tasks.make_up_for_lost_runs()

    assert not Operation.objects.exists()


def test_a_schedule_that_is_due_calls_by_itself(call: Call) -> None:
    due = call("backup")
    Schedule.objects.update(next_run=due)

    tasks.make_up_for_lost_runs()

    assert not Operation.objects.exists()


def test_what_fell_into_a_pause_is_not_made_up_for(call: Call) -> None:
    call("backup")
    Schedule.objects.update(repeats=schedules.PAUSED)
    tasks.make_up_for_lost_runs()
    asked_while_paused = slots("backup")
    row = Schedule.objects.get()
    timing = schedules.timing_of(row)
    resumed = schedules.Timing(timing.at, timing.days, is_paused=False)
    assert schedules.change(row, resumed, user=make_user("superuser"))

    tasks.make_up_for_lost_runs()

    assert asked_while_paused == slots("backup") == []


def test_days_that_were_missed_are_made_up_for_once(call: Call) -> None:
    """Down for three days: the run made up for bears the first day's key, and no second one is asked for."""
    due = call("backup")

    tasks.request_scheduled("backup", (due - timedelta(days=3)).isoformat())
    Operation.objects.update(state="succeeded", finished_at=timezone.now())
    tasks.make_up_for_lost_runs()

    assert len(slots("backup")) == 1


def test_what_was_made_up_for_before_does_not_take_the_place_of_the_days_own(call: Call) -> None:
    due = call("backup")
    yesterday = schedules.slot_of(JOBS["backup"], due - timedelta(days=1))
    make_operation("backup", source="schedule", dedupe_key=yesterday, created_at=due - timedelta(minutes=10))

    tasks.make_up_for_lost_runs()

    assert slots("backup") == [yesterday, schedules.slot_of(JOBS["backup"], due)]


def test_a_run_of_the_day_that_failed_is_not_asked_for_again(call: Call) -> None:
    due = call("backup")
    slot = schedules.slot_of(JOBS["backup"], due)
    make_operation("backup", "cancelled", source="schedule", dedupe_key=slot, created_at=due)

    tasks.make_up_for_lost_runs()

    assert slots("backup") == [slot]


def test_a_run_that_could_not_be_asked_for_is_so_once_it_can_and_is_told_of_once(
    call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    due = call("prove_backup")
    with caplog.at_level(logging.WARNING):
        tasks.make_up_for_lost_runs()
    assert (slots("prove_backup"), caplog.records) == ([], [])
    make_backup()

    tasks.make_up_for_lost_runs()

    assert slots("prove_backup") == [schedules.slot_of(JOBS["prove_backup"], due)]
    assert OrmQ.objects.count() == 1


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("cron", ["0 4 * * *", "30 2 * * *", "0 2 * * *", "0 5 * * 0"])
def test_the_last_run_is_the_one_that_was_called_all_year_round(
    settings: Settings, zone: str, cron: str
) -> None:
    settings.TIME_ZONE = zone
    job, begin = JOBS["backup"], datetime(2025, 1, 1, 12, tzinfo=UTC)

    for run in islice(schedules.runs_after(cron, begin), 370):
        before = schedules.run_before(cron, run.astimezone(UTC) + timedelta(minutes=1))
        assert schedules.slot_of(job, before) == schedules.slot_of(job, run), run


@pytest.mark.parametrize("begin", [datetime(2025, 3, 29, tzinfo=UTC), datetime(2025, 10, 25, tzinfo=UTC)])
def test_the_last_hour_is_found_when_the_clocks_change(settings: Settings, begin: datetime) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    job = JOBS["validate_database"]

    for run in islice(schedules.runs_after(job.cron, begin), 48):
        before = schedules.run_before(job.cron, run.astimezone(UTC) + timedelta(minutes=1))
        assert schedules.slot_of(job, before) == schedules.slot_of(job, run), run
