"""The record of an operation is closed whatever happens, by whoever holds it, and loses no line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext, suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone, translation
from pytest_django.fixtures import Settings

from backups_app import tasks
from backups_app.errors import BadBackup, Cancelled, ClaimLost, QradminError, ServerUnavailable
from backups_app.models import Operation, Step
from backups_app.operations import journal as journal_module
from backups_app.operations.journal import Journal, open_journal, patiently
from tests.operations.site import WHO, Site, beside, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def operation() -> Operation:
    """A running operation that this process holds."""
    asked = tasks.request_validate_database(**WHO)
    claimed = Operation.objects.claim(asked.pk, host="here", pid=1)
    assert claimed is not None
    return claimed


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "RETRY_SECONDS", 0.01)


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """A function: the site's database does not answer this thread for so many seconds."""
    monkeypatch.setattr(journal_module, "SILENCE_SECONDS", 5)
    with ExitStack() as wrappers:

        def go(seconds: float) -> None:
            until = time.monotonic() + seconds

            def refuse(execute: Any, *arguments: Any) -> Any:
                if time.monotonic() < until:
                    raise OperationalError("server closed the connection unexpectedly")
                return execute(*arguments)

            wrappers.enter_context(connection.execute_wrapper(refuse))  # this thread's connection alone

        yield go


def test_the_step_in_which_it_broke_stands_before_the_error(operation: Operation) -> None:
    with open_journal(operation) as journal:
        with suppress(BadBackup), journal.stage("One of many"):
            raise BadBackup("left alone")
        with journal.stage("The whole"), journal.stage("Restore into it"):
            try:
                raise OSError("no such file")
            except OSError as cause:
                raise BadBackup("It is truncated.") from cause

    told = [(step.level, step.what) for step in operation.steps.all()]
    assert told == [("error", "Restore into it"), ("error", "It is truncated.")]
    assert operation.steps.get(what="Restore into it").detail["seconds"] >= 0


def test_the_step_that_ended_the_work_is_named_whatever_broke_while_it_was_cleaned_up(
    operation: Operation,
) -> None:
    with open_journal(operation) as journal:
        try:
            with journal.stage("Dump"):
                raise BadBackup("It is truncated.")
        finally:
            with suppress(ServerUnavailable), journal.stage("Start the API"):
                raise ServerUnavailable("It does not come up.")

    told = [(step.level, step.what) for step in operation.steps.all()]
    assert told == [("error", "Dump"), ("error", "It is truncated.")]


def test_a_step_whose_failure_was_told_is_not_told_again_with_what_came_of_it(operation: Operation) -> None:
    with open_journal(operation) as journal:
        try:
            with journal.stage("Start the API"):
                raise BadBackup("It is unwell.")
        except BadBackup as error:
            journal.note_end(error, "So it goes back.", "error", log="last lines")
            with journal.stage("Swap back"):
                pass
            raise BadBackup("It went back.") from error

    told = [step.what for step in operation.steps.all()]
    assert told == ["Start the API", "So it goes back.", "Swap back", "It went back."]
    assert operation.steps.get(what="So it goes back.").detail == {"log": "last lines"}


@pytest.mark.parametrize("error", [None, BadBackup("left alone")], ids=["done", "broken"])
def test_a_step_that_has_ended_is_no_longer_the_present_one(
    operation: Operation, error: BadBackup | None
) -> None:
    seen: list[str] = []

    def look() -> None:
        seen.append(Operation.objects.values_list("current_step", flat=True).get(pk=operation.pk))

    with open_journal(operation) as journal:
        with journal.stage("The whole"):
            with suppress(BadBackup), journal.stage("A part"):
                look()
                if error:
                    raise error
            look()
        look()

    assert seen == ["A part", "The whole", ""]


def test_what_has_to_come_back_begins_although_the_work_has_to_end(operation: Operation) -> None:
    with open_journal(operation) as journal:
        assert operation.request_cancel("tester")
        journal._look()
        with suppress(Cancelled), journal.stage("Dump"):
            raise AssertionError("it was meant to end")
        with journal.stage("Start the API", is_endable=False):
            pass

    assert [step.what for step in operation.steps.all()] == ["Start the API"]


@pytest.mark.parametrize(
    ("error", "state", "told", "blame"),
    [
        (KeyboardInterrupt(), "cancelled", "It was ended at the keyboard.", ""),
        (SystemExit(1), "failed", "Its worker was told to stop.", ""),
        (BadBackup("It is bad."), "failed", "It is bad.", "backup"),
        (ServerUnavailable("no full stop"), "failed", "no full stop.", "environment"),
        (ZeroDivisionError("x"), "failed", "Something unexpected went wrong (ZeroDivisionError);", ""),
        (OperationalError("x"), "failed", "The site's own database, which keeps the audit trail,", ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_the_record_is_closed_on_every_error(
    operation: Operation, error: BaseException, state: str, told: str, blame: str
) -> None:
    passed_on = nullcontext() if isinstance(error, Exception) else pytest.raises(type(error))
    with passed_on, open_journal(operation) as journal:
        journal.consequence = "Nothing was touched."
        raise error

    operation.refresh_from_db()
    assert (operation.state, operation.blame) == (state, blame)
    assert operation.error.startswith(told)
    assert operation.error.endswith(" Nothing was touched.")
    assert operation.finished_at is not None


def test_a_record_that_another_has_closed_is_not_overwritten(operation: Operation) -> None:
    with open_journal(operation) as journal:
        Operation.objects.filter(pk=operation.pk).update(
            state="interrupted", finished_at=timezone.now(), error="Given up."
        )
        journal.note("too late")

    operation.refresh_from_db()
    assert (operation.state, operation.error) == ("interrupted", "Given up.")
    assert not operation.steps.filter(what="too late").exists()


def test_a_worker_that_lost_its_claim_learns_it_and_stops(operation: Operation) -> None:
    ended: list[BaseException] = []
    with open_journal(operation) as journal:
        Operation.objects.filter(pk=operation.pk).update(state="interrupted", finished_at=timezone.now())
        try:
            wait_for(journal.watch, 5)
        except ClaimLost as error:
            ended.append(error)
            raise

    assert len(ended) == 1
    operation.refresh_from_db()
    assert operation.state == "interrupted"


@pytest.mark.parametrize(
    "ask",
    [
        lambda journal: journal.confirm(),
        lambda journal: journal.pass_the_point_of_no_return(),
        lambda journal: journal.will_leave("database", "x"),
    ],
    ids=["confirm", "point of no return", "leftover"],
)
def test_nothing_dangerous_is_begun_without_the_claim(
    operation: Operation, ask: Callable[[Journal], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "HEARTBEAT_SECONDS", 60)
    with open_journal(operation) as journal:
        Operation.objects.filter(pk=operation.pk).update(token="00000000-0000-0000-0000-000000000000")
        with pytest.raises(ClaimLost):
            ask(journal)


def test_the_outcome_waits_for_a_site_s_database_that_is_away(
    operation: Operation, away: Callable[[float], None]
) -> None:
    with open_journal(operation) as journal:
        away(0.3)
        journal.note("said while it was away")
        journal.will_leave("file", "x")
        with journal.stage("A step"):
            journal.left_nothing("file", "x")

    operation.refresh_from_db()
    assert operation.state == "succeeded"
    assert list(Step.objects.values_list("what", flat=True)) == ["said while it was away", "A step"]
    assert operation.leftovers == []


def test_the_patience_ends(away: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    away(60)
    monkeypatch.setattr(journal_module, "SILENCE_SECONDS", 0.1)

    with pytest.raises(OperationalError):
        patiently(Operation.objects.count)


def test_the_heartbeat_goes_on_while_the_work_is_long(operation: Operation) -> None:
    first = operation.heartbeat_at
    with open_journal(operation) as journal:
        journal.progress(5, 10, "rows")
        wait_for(lambda: Operation.objects.get(pk=operation.pk).heartbeat_at > first)
        wait_for(lambda: Operation.objects.get(pk=operation.pk).progress_done == 5)

    operation.refresh_from_db()
    assert operation.progress_share == 0.5


def test_a_wish_to_cancel_ends_the_work(operation: Operation) -> None:
    def cancel() -> None:
        assert Operation.objects.get(pk=operation.pk).request_cancel("somebody")

    with beside(cancel), open_journal(operation) as journal:
        wait_for(journal.watch, 5)

    operation.refresh_from_db()
    assert operation.state == "cancelled"
    assert operation.error == "It was cancelled by somebody. Nothing was changed."


def test_a_wish_to_cancel_that_came_before_the_point_of_no_return_counts(
    operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "HEARTBEAT_SECONDS", 60)
    with open_journal(operation) as journal:
        assert Operation.objects.get(pk=operation.pk).request_cancel("somebody")
        journal.pass_the_point_of_no_return()

    operation.refresh_from_db()
    assert operation.state == "cancelled"


def test_beyond_the_point_of_no_return_nobody_cancels(operation: Operation) -> None:
    with open_journal(operation) as journal:
        journal.pass_the_point_of_no_return()
        assert not Operation.objects.get(pk=operation.pk).request_cancel("somebody")
        journal.watch()

    operation.refresh_from_db()
    assert operation.state == "succeeded"


def test_work_beyond_its_time_limit_ends(operation: Operation, settings: Settings) -> None:
    settings.OPERATION_TIME_LIMIT = 0

    with open_journal(operation) as journal:
        wait_for(journal.watch, 5)

    operation.refresh_from_db()
    assert operation.error.startswith("It took longer than the operation's time limit.")


def test_work_that_stands_still_ends_and_work_that_moves_does_not(
    operation: Operation, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.STALL_TIME_LIMIT = 10
    clock = [1000.0]
    monkeypatch.setattr(journal_module.time, "monotonic", lambda: clock[0])
    journal = Journal(operation)
    errors: list[QradminError] = []
    with journal.stage("Dump"):
        for done in range(5):
            clock[0] += 8
            journal.progress(done + 1)
            journal.watch()
        clock[0] += 8
        journal.progress(5)
        clock[0] += 3
        try:
            journal.watch()
        except QradminError as error:
            errors.append(error)
    monkeypatch.undo()

    assert "Nothing moved for 10 seconds in the step “Dump”" in errors[0].message


def test_a_claim_is_silent_only_after_two_minutes(operation: Operation) -> None:
    now = timezone.now()

    assert not Operation.objects.silent(now).exists()
    assert Operation.objects.silent(now + timedelta(seconds=121)).get() == operation


def test_the_trail_is_english_whoever_asks(one_folder: Site) -> None:
    with translation.override("de"):
        operation = one_folder.attempt(tasks.request_prune(**WHO))

    assert operation.steps.filter(what="Nothing to remove.").exists()


def test_after_an_inner_step_the_outer_one_goes_on(one_folder: Site) -> None:
    seen: list[str] = []
    operation = tasks.request_backup(**WHO)
    claimed = Operation.objects.claim(operation.pk, host="here", pid=1)
    assert claimed is not None

    def step() -> str:
        return str(Operation.objects.values_list("current_step", flat=True).get(pk=operation.pk))

    with open_journal(claimed) as journal, journal.stage("Outer"):
        with journal.stage("Inner"):
            seen.append(step())
        seen.append(step())

    assert seen == ["Inner", "Outer"]
