"""The API is stopped, started and migrated by hand, behind a filter that allows the listed calls alone."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from backups_app import tasks
from backups_app.errors import Refused
from backups_app.models import Operation
from backups_app.operations import backup as backups
from backups_app.systems.api_container import ApiContainer
from backups_app.systems.postgres import health
from backups_app.systems.waiting import Watch
from tests.docker_engine import TestApi
from tests.end_to_end.api import instead, is_running, keep_house, trail
from tests.operations.site import WHO, Site, beside, cancel_at
from tests.systems.test_api_container import ALLOWED, filtered

pytestmark = pytest.mark.real

MIGRATE = """sh -c 'echo "Running upgrade to 8d13a4dfeb1d" in $(pwd); exit {code}'"""


def test_it_is_stopped_and_started_by_hand_with_a_reason(api_site: Site, api: TestApi) -> None:
    with pytest.raises(Refused, match="reason"):
        tasks.request_api_stop(reason=" ", **WHO)

    stopped = api_site.attempt(tasks.request_api_stop(reason="wrong data comes in", **WHO))
    was_running = is_running()
    keep_house()
    after_housekeeping = is_running()
    started = api_site.attempt(tasks.request_api_start(reason="all clear", **WHO))

    assert (stopped.state, stopped.reason, stopped.result) == (
        "succeeded",
        "wrong data comes in",
        {"api": "stopped"},
    )
    assert (was_running, after_housekeeping) == (False, False)
    assert (started.state, started.result) == ("succeeded", {"api": "running"})
    assert is_running()


def test_a_stop_by_hand_holds_against_operations_that_would_start_it(
    api_site: Site, api: TestApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_by_hand() -> None:
        done = tasks.run_here(tasks.request_api_stop(reason="emergency", **WHO))
        assert done.state == "succeeded", done.error

    instead(monkeypatch, backups, "_read_whole", stop_by_hand)
    operation = api_site.attempt(tasks.request_backup(stop_api=True, **WHO))
    keep_house()

    assert operation.state == "succeeded"
    assert "The API stays stopped, as was asked by hand meanwhile." in trail(operation)
    assert not is_running()


def test_the_api_of_a_dead_operation_is_started_by_the_next_one(api_site: Site, api: TestApi) -> None:
    dead = Operation.objects.get(pk=api_site.validate_database().pk)
    with api.engine.client() as client:
        client.containers.get(api.name).stop(timeout=0)
    Operation.objects.filter(pk=dead.pk).update(api_stop_intended=True)

    operation = api_site.attempt(tasks.request_backup(stop_api=True, **WHO))

    dead.refresh_from_db()
    assert operation.state == "succeeded"
    assert is_running()
    assert not dead.api_stop_intended
    assert trail(dead)[-1] == f"{operation} starts the API in its end."


def test_it_is_not_started_by_hand_on_a_database_that_is_not_valid(api_site: Site, api: TestApi) -> None:
    api_site.attempt(tasks.request_api_stop(reason="test", **WHO))
    api_site.execute("DROP TABLE qr_codes CASCADE")

    operation = api_site.attempt(tasks.request_api_start(reason="test", **WHO))

    assert operation.state == "failed"
    assert "Do not start the API, which would create empty tables" in operation.error
    assert not is_running()


def test_a_database_that_fails_for_its_revision_alone_may_be_migrated(
    api_site: Site, api: TestApi, settings: Settings
) -> None:
    settings.EXPECTED_REVISION = "8d13a4dfeb1d"
    settings.API_MIGRATE_COMMAND = MIGRATE.format(code=0)
    api_site.execute("UPDATE alembic_version SET version_num = 'd59b26b7dd93'")
    assert api_site.validate_database().state == "failed"
    api_site.attempt(tasks.request_api_stop(reason="test", **WHO))

    too_early = api_site.attempt(tasks.request_migrate_database(reason="test", **WHO))
    started = api_site.attempt(tasks.request_api_start(reason="test", **WHO))
    api_site.execute("UPDATE alembic_version SET version_num = '8d13a4dfeb1d'")  # as alembic would
    operation = api_site.attempt(tasks.request_migrate_database(reason="test", **WHO))
    settings.API_MIGRATE_COMMAND = MIGRATE.format(code=3)
    failed = api_site.attempt(tasks.request_migrate_database(reason="test", **WHO))

    assert "which is stopped: start it first." in too_early.error
    assert started.state == "succeeded", started.error
    assert operation.state == "succeeded", operation.error
    output = operation.steps.get(what="Output of the migrations").detail
    assert output == {"output": "Running upgrade to 8d13a4dfeb1d in /app\n", "exit_code": 0}
    assert failed.error.startswith("The migrations failed with status 3; their output is in the trail.")


def test_an_older_backup_is_restored_with_its_migrations_and_nothing_is_stamped(
    api_site: Site, api: TestApi, settings: Settings
) -> None:
    settings.API_MIGRATE_COMMAND = MIGRATE.format(code=0)
    api_site.execute("UPDATE alembic_version SET version_num = 'd59b26b7dd93'")
    backup = api_site.backup()
    api_site.execute("UPDATE alembic_version SET version_num = '8d13a4dfeb1d'")

    with filtered(api.engine, ALLOWED) as (host, filter_):
        settings.DOCKER_HOST = host
        operation = api_site.restore(backup, run_migrations=True)

    assert operation.state == "succeeded", operation.error
    assert "Output of the migrations" in trail(operation)
    with api_site.connected() as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("d59b26b7dd93",)]
    event = api_site.event()
    assert (event.revision_before, event.revision_after) == ("8d13a4dfeb1d", "d59b26b7dd93")
    for call in filter_.calls:
        assert any(re.fullmatch(pattern, call) for pattern in ALLOWED), call


def test_migrations_after_which_the_database_is_not_valid_fail_the_restore_in_words(
    api_site: Site, api: TestApi, settings: Settings
) -> None:
    settings.EXPECTED_REVISION = "8d13a4dfeb1d"
    settings.API_MIGRATE_COMMAND = MIGRATE.format(code=0)
    api_site.execute("UPDATE alembic_version SET version_num = 'd59b26b7dd93'")
    backup = api_site.backup()

    operation = api_site.restore(backup, run_migrations=True)

    assert operation.state == "failed"
    assert operation.error.startswith("The database is not valid. Migration revision:")
    assert "The database was replaced; what was live before is kept" in operation.error
    assert api_site.event().outcome == "restored"
    assert is_running()


def test_migrations_are_refused_where_more_than_the_revision_is_wrong(
    api_site: Site, api: TestApi, settings: Settings
) -> None:
    settings.API_MIGRATE_COMMAND = MIGRATE.format(code=0)
    api_site.execute("ALTER TABLE qr_codes DROP COLUMN fill_color")

    operation = api_site.attempt(tasks.request_migrate_database(reason="test", **WHO))

    assert operation.state == "failed"
    assert "qr_codes.fill_color" in operation.error
    assert "Nothing was changed." in operation.error
    assert "Output of the migrations" not in trail(operation)


def test_a_stop_by_hand_that_is_cancelled_does_not_say_that_nothing_was_changed(
    api_site: Site, api: TestApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ApiContainer.stop

    def take_long(container: ApiContainer, watch: Watch) -> None:
        real(container)
        time.sleep(2)
        watch()

    monkeypatch.setattr(ApiContainer, "stop", take_long)
    with beside(cancel_at("Stop the API")):
        operation = api_site.attempt(tasks.request_api_stop(reason="emergency", **WHO))

    assert operation.state == "cancelled"
    assert not is_running()
    assert "Nothing was changed" not in operation.error
    assert "the overview" in operation.error


def test_what_had_just_asked_before_the_stop_by_hand_does_not_win(
    api_site: Site, api: TestApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its start lands after the stop: between its question and its start the intent was withdrawn."""
    real = ApiContainer.stop
    landed: list[None] = []

    def stop_then_start(container: ApiContainer, *arguments: Any) -> None:
        real(container, *arguments)
        if not landed:
            landed.append(None)
            container.start()

    monkeypatch.setattr(ApiContainer, "stop", stop_then_start)
    operation = api_site.attempt(tasks.request_api_stop(reason="emergency", **WHO))

    assert operation.state == "succeeded", operation.error
    assert landed
    assert not is_running()


def test_an_api_is_not_started_on_a_database_whose_revision_is_locked(
    api_site: Site, api: TestApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api_site.attempt(tasks.request_api_stop(reason="test", **WHO))
    monkeypatch.setattr(health, "LOCK_WAIT_SECONDS", 1)

    with api_site.connected() as connection, connection.transaction():
        connection.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
        operation = api_site.attempt(tasks.request_api_start(reason="test", **WHO))

    assert operation.state == "failed"
    assert "Could not be checked: a table was locked" in operation.error
    assert not is_running()
