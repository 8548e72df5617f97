"""Each log line is one JSON object that names its operation and holds no secret."""

from __future__ import annotations

import json
import logging
import threading

import pytest
from pytest_django.fixtures import Settings

from backups_app import log_context, tasks
from backups_app.models import Operation
from backups_app.operations.journal import Journal
from qradmin.logs import JsonLines, OperationNames, TextLines
from tests.site.conftest import Run


class Kept(logging.Handler):
    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.addFilter(OperationNames())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def log() -> logging.Logger:
    logger = logging.getLogger("tests.some_part")
    logger.setLevel(logging.INFO)
    logger.handlers.clear()
    return logger


def told(log: logging.Logger, formatter: logging.Formatter) -> Kept:
    kept = Kept(formatter)
    log.addHandler(kept)
    return kept


def test_a_line_is_one_json_object_with_time_level_and_logger(log: logging.Logger) -> None:
    kept = told(log, JsonLines())

    log.warning("line one\nline two: %s", "ü", extra={"request": object(), "seconds": 1.5})

    (line,) = kept.lines
    assert "\n" not in line
    found = json.loads(line)
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "WARNING",
        "logger": "tests.some_part",
        "message": "line one\nline two: ü",
        "seconds": 1.5,
    }


def test_an_error_keeps_its_traceback_in_the_same_line(log: logging.Logger) -> None:
    kept = told(log, JsonLines())

    try:
        raise ValueError("boom")
    except ValueError:
        log.exception("it failed")

    (line,) = kept.lines
    assert "ValueError: boom" in json.loads(line)["error"]


@pytest.mark.parametrize("formatter", [JsonLines, TextLines])
def test_a_secret_is_hidden_wherever_it_stands(
    log: logging.Logger, settings: Settings, formatter: type[logging.Formatter]
) -> None:
    settings.MANAGED_DATABASE_URL = "postgresql://qr:hunter2-hunter2@db:5432/qrdb"
    settings.SECRET_KEY = "the-sites-own-key"
    kept = told(log, formatter())

    try:
        raise ValueError("password=hunter2-hunter2")
    except ValueError:
        log.exception("with %s and %s", "hunter2-hunter2", "the-sites-own-key")

    assert "hunter2" not in kept.lines[0]
    assert "the-sites-own-key" not in kept.lines[0]
    assert kept.lines[0].count("***") >= 3


def test_every_line_within_an_operation_names_it_in_other_threads_too(log: logging.Logger) -> None:
    import contextvars

    kept = told(log, JsonLines())

    with log_context.about(operation=12, user="Ann"):
        log.info("deep down in some library")
        thread = threading.Thread(target=contextvars.copy_context().run, args=(log.info, "beside"))
        thread.start()
        thread.join()
    log.info("afterwards")

    found = [json.loads(line) for line in kept.lines]
    assert [(line.get("operation"), line.get("user")) for line in found] == [
        (12, "Ann"),
        (12, "Ann"),
        (None, None),
    ]


def test_a_line_for_people_begins_with_its_operation(log: logging.Logger) -> None:
    kept = told(log, TextLines())

    with log_context.about(operation=12):
        log.info("counted")

    assert kept.lines[0].endswith("INFO tests.some_part: [operation 12] counted")


@pytest.mark.django_db(transaction=True)
def test_the_steps_of_an_operation_are_found_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(journal: Journal) -> None:
        with journal.stage("Count the codes"):
            pass

    monkeypatch.setitem(tasks.RUNNERS, Operation.Kind.VALIDATE_DATABASE, work)
    root = logging.getLogger("backups_app")
    kept = Kept(JsonLines())
    root.addHandler(kept)
    level = root.level
    root.setLevel(logging.INFO)
    try:
        operation = tasks.run_here(tasks.request_validate_database(by="Ann", is_queued=False))
    finally:
        root.removeHandler(kept)
        root.setLevel(level)

    lines = [json.loads(line) for line in kept.lines]
    (step,) = [line for line in lines if line.get("step") == "Count the codes"]
    assert (step["operation"], step["user"]) == (operation.pk, "Ann")
    assert step["seconds"] >= 0


def test_logs_are_json_in_production_and_text_where_debug_is_on(run: Run) -> None:
    code = "import django; django.setup(); import logging; logging.getLogger('x').warning('hello')"

    shipped = run("-c", code).stderr
    debugging = run("-c", code, DEBUG="True").stderr
    chosen = run("-c", code, DEBUG="True", LOG_FORMAT="json").stderr

    assert json.loads(shipped)["message"] == "hello"
    assert debugging.endswith("WARNING x: hello\n")
    assert json.loads(chosen)["message"] == "hello"
