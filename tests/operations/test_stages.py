"""The stages that a page shows as coming are those that a real run goes through, in their order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.utils import translation

from backups_app import tasks
from backups_app.models import Operation
from backups_app.operations import api as lifecycle
from backups_app.operations import stages
from backups_app.operations.journal import Journal
from backups_app.presentation.retelling import in_words
from tests.operations.fake_api import FakeApi
from tests.operations.site import WHO, Site, change_bytes


@pytest.fixture
def gone_through(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that were entered since the last look."""
    found: list[str] = []
    real = Journal.stage

    @contextmanager
    def stage(journal: Journal, name: str, **options: Any) -> Iterator[None]:
        found.append(name)
        with real(journal, name, **options):
            yield

    monkeypatch.setattr(Journal, "stage", stage)
    return found


def backup(site: Site, **parameters: Any) -> Operation:
    return tasks.request_backup(**parameters, **WHO)


def drill(site: Site) -> Operation:
    return tasks.request_prove_backup(site.backup(), **WHO)


def restore(site: Site, **parameters: Any) -> Operation:
    return tasks.request_restore(site.backup(), reason="a test", **parameters, **WHO)


def undo(site: Site) -> Operation:
    assert site.restore(site.backup()).state == "succeeded"
    return tasks.request_undo_restore(site.event(), reason="a test", **WHO)


ASKED: dict[str, tuple[Callable[[Site], Operation], bool]] = {
    "backup": (backup, False),
    "backup with the API stopped": (lambda site: backup(site, stop_api=True), True),
    "drill": (drill, False),
    "restore": (restore, False),
    "restore with an API": (restore, True),
    "restore without a safety backup": (lambda site: restore(site, without_safety_backup=True), False),
    "restore with migrations": (lambda site: restore(site, run_migrations=True), True),
    "undo": (undo, False),
    "undo with an API": (undo, True),
}


@pytest.fixture
def fake_api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    made = FakeApi(is_managed=False, is_running=False)
    monkeypatch.setattr("backups_app.config.api", lambda: made)
    monkeypatch.setattr(lifecycle, "SETTLING_SECONDS", 0)
    return made


@pytest.mark.parametrize(("ask", "is_managed"), ASKED.values(), ids=ASKED)
def test_the_stages_ahead_are_those_of_a_real_run(
    site: Site, gone_through: list[str], fake_api: FakeApi, ask: Callable[[Site], Operation], is_managed: bool
) -> None:
    fake_api.is_managed = fake_api.is_running = is_managed
    operation = ask(site)
    foreseen = stages.ahead(operation, [])
    gone_through.clear()

    done = site.attempt(operation)

    assert done.state == "succeeded", done.error
    assert gone_through == foreseen
    with translation.override("de"):
        assert not [stage for stage in foreseen if in_words(stage) == stage]


def test_only_what_follows_the_last_stage_is_ahead(site: Site) -> None:
    operation = backup(site)

    assert stages.ahead(operation, ["Dump and count in one snapshot", "something else"]) == [
        "Read the whole archive",
        "Copy to second",
        "Remove what is no longer needed",
    ]
    assert stages.ahead(operation, ["Remove what is no longer needed"]) == []
    assert stages.ahead(tasks.request_validate_database(**WHO), []) == []


def test_nothing_is_ahead_of_an_operation_that_has_failed_and_brings_the_api_back(
    site: Site, fake_api: FakeApi
) -> None:
    fake_api.is_managed = True
    starting = "Start the API and wait until it is healthy"
    asked = backup(site, stop_api=True)
    assert stages.ahead(asked, ["Stop the API", starting]) == []
    assert stages.ahead(asked, ["Read the whole archive", starting]) == [
        "Copy to second",
        "Remove what is no longer needed",
    ]
    asked.request_cancel("tester")

    asked = restore(site)
    assert stages.ahead(asked, ["Read the whole archive", starting]) == []
    assert stages.ahead(asked, ["Swap the databases", starting]) == ["Compare before with after"]
    assert stages.ahead(asked, ["Swap the databases", starting, "Swap back"]) == []


def test_while_the_api_comes_up_this_is_the_present_step(site: Site, fake_api: FakeApi) -> None:
    fake_api.is_managed = fake_api.is_running = True
    seen: list[str] = []
    fake_api.meanwhile = lambda: seen.extend(
        Operation.objects.running().values_list("current_step", flat=True)
    )

    site.attempt(backup(site, stop_api=True))

    assert seen == ["Start the API and wait until it is healthy"]


def test_a_restore_that_is_swapped_back_tells_each_step_where_it_happened(
    site: Site, fake_api: FakeApi
) -> None:
    fake_api.is_managed = fake_api.is_running = True
    fake_api.sick_starts = 1

    operation = site.attempt(restore(site))

    lines = list(operation.steps.values_list("level", "what"))
    swapped = next(place for place, (_level, what) in enumerate(lines) if what == "Swap the databases")
    assert lines[swapped + 1 :] == [
        ("info", "Check the database before the API starts"),
        ("info", "Started the API"),
        ("error", "Start the API and wait until it is healthy"),
        ("error", "The API did not become healthy on the restored database: The API is unhealthy."),
        ("info", "Swap back"),
        ("info", "Swapped back: the database that was live before is live again."),
        ("info", "Check the database before the API starts"),
        ("info", "Started the API"),
        ("info", "Start the API and wait until it is healthy"),
        ("info", "The API is healthy."),
        (
            "error",
            "The API did not become healthy on the restored database, so the restore was rolled back.",
        ),
    ]


def test_a_copy_that_is_ruined_names_the_step_in_which_that_was_found_and_both_checksums(site: Site) -> None:
    made = site.backup()
    for folder in (site.working, site.second):
        change_bytes(folder / made.name, lambda data: data.__setitem__(-100, data[-100] ^ 1))

    operation = site.prove(made)

    found = hashlib.sha256((site.second / made.name).read_bytes()).hexdigest()
    assert operation.steps.filter(level="error").values_list("what", flat=True)[0] == "Find an intact copy"
    assert operation.error_detail.splitlines() == [
        f"{location}: Expected: {made.size} bytes, SHA-256 {made.sha256}."
        f" Found: {made.size} bytes, SHA-256 {found}."
        for location in ("working", "second")
    ]
