"""The log of an operation: each line with its number, an error with its cause, the end with its duration."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from backups_app import tasks
from backups_app.errors import ProgramFailed, QradminError
from backups_app.models import Operation
from backups_app.operations import housekeeping, interruption, leftovers
from backups_app.operations.journal import Journal
from backups_app.systems.postgres import databases
from qradmin.logs import JsonLines, OperationNames, TextLines
from tests.operations.site import WHO

pytestmark = pytest.mark.django_db(transaction=True)


class Kept(logging.Handler):
    """The lines of a level and above, as the site writes them."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.addFilter(OperationNames())
        self.lines: list[dict[str, Any]] = []
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(JsonLines().format(record)))
        self.texts.append(TextLines().format(record))


@pytest.fixture
def log() -> Iterator[Kept]:
    kept, logger = Kept(), logging.getLogger("backups_app")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(kept)
    yield kept
    logger.removeHandler(kept)
    logger.setLevel(level)


def run_to(end: BaseException | None, monkeypatch: pytest.MonkeyPatch) -> Operation:
    def work(journal: Journal) -> None:
        with journal.stage("Count the codes"):
            if end is not None:
                raise end

    monkeypatch.setitem(tasks.RUNNERS, Operation.Kind.VALIDATE_DATABASE, work)
    return tasks.run_here(tasks.request_validate_database(**WHO))


def died(**changes: Any) -> Operation:
    """An operation whose worker was killed a while ago."""
    long_ago = timezone.now() - timedelta(minutes=5)
    operation = tasks.request_validate_database(**WHO)
    claimed = Operation.objects.claim(operation.pk, host="elsewhere", pid=1)
    assert claimed is not None
    facts = {"heartbeat_at": long_ago, "started_at": long_ago, **changes}
    Operation.objects.filter(pk=claimed.pk).update(**facts)
    return claimed


def test_a_failure_is_an_error_with_its_cause_in_a_field_of_its_own(
    log: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = run_to(ZeroDivisionError("by zero"), monkeypatch)

    (line,) = [line for line in log.lines if "error" in line]
    assert line["level"] == "ERROR"
    assert "ZeroDivisionError: by zero" in line["error"]
    assert "Traceback" not in line["message"]
    assert line["operation"] == operation.pk
    (text,) = [text for text in log.texts if "Traceback" in text]
    assert text.endswith("ZeroDivisionError: by zero")


def test_what_a_program_said_stands_in_the_log(log: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "pg_dump: error: query failed\npg_dump: detail: Query was: SELECT 1"

    operation = run_to(ProgramFailed("pg_dump failed.", detail=said), monkeypatch)

    (line,) = [line for line in log.lines if "detail" in line]
    assert (line["detail"], line["operation"], line["level"]) == (said, operation.pk, "ERROR")
    assert any(said in text for text in log.texts)


@pytest.mark.parametrize(
    ("error", "is_told"), [(QradminError("It broke."), False), (ValueError("unexpected"), True)]
)
def test_where_it_broke_is_told_at_every_level_when_nobody_expected_it(
    log: Kept, monkeypatch: pytest.MonkeyPatch, error: Exception, is_told: bool
) -> None:
    logging.getLogger("backups_app").setLevel(logging.ERROR)

    run_to(error, monkeypatch)

    assert [line["level"] for line in log.lines] == ["ERROR", "ERROR", "ERROR"]
    assert ("Traceback" in str(log.lines)) is is_told


def test_a_wish_to_end_is_no_error(log: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    from backups_app.errors import Cancelled

    run_to(Cancelled("It was cancelled by Ann."), monkeypatch)

    assert {line["level"] for line in log.lines} == {"INFO", "WARNING"}
    assert not [line for line in log.lines if "error" in line]


@pytest.mark.parametrize(("end", "state"), [(None, "succeeded"), (QradminError("It broke."), "failed")])
def test_the_last_line_says_how_it_ended_and_after_how_long(
    log: Kept, monkeypatch: pytest.MonkeyPatch, end: Exception | None, state: str
) -> None:
    operation = run_to(end, monkeypatch)

    last = log.lines[-1]
    assert last["state"] == state
    assert last["seconds"] >= 0
    assert (last["operation"], last["user"]) == (operation.pk, "tester")


def test_a_dead_workers_operation_ends_as_an_error_with_user_and_duration(
    log: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "end_sessions", lambda *_words, **_more: 0)
    operation = died()

    assert interruption.close_dead_operations()

    (told,) = [line for line in log.lines if interruption.NO_SIGN_OF_LIFE in line["message"]]
    assert (told["level"], told["operation"], told["user"]) == ("ERROR", operation.pk, "tester")
    assert told["step"] == interruption.NO_SIGN_OF_LIFE
    assert (log.lines[-1]["state"], log.lines[-1]["operation"]) == ("interrupted", operation.pk)
    assert log.lines[-1]["seconds"] >= 300


def test_every_line_that_names_an_operation_carries_its_number(
    log: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_words: object, **_more: object) -> None:
        raise QradminError("The server does not answer.")

    monkeypatch.setattr(databases, "end_sessions", fail)
    monkeypatch.setattr(leftovers, "_clean_up", fail)
    monkeypatch.setattr("django_q.tasks.async_task", fail)
    operation = died(leftovers=[{"what": "file", "name": "half"}])
    queued = tasks.request_check_copies(by="tester")
    interruption.close_dead_operations()
    leftovers.clean_up()
    housekeeping.expire_overdue()
    Operation.objects.filter(pk=queued.pk).update(expires_at=timezone.now())
    housekeeping.expire_overdue()

    for one in (operation, queued):
        naming = [line for line in log.lines if str(one) in line["message"]]
        assert len(naming) >= 2
        assert [line for line in naming if line.get("operation") != one.pk] == []
