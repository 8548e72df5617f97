"""What holds an operation up is shown, may be ended by name, and does not hold it up for ever."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest
from django.db import connections
from pytest_django.fixtures import Settings

from backups_app import tasks
from backups_app.errors import Refused
from backups_app.models import Operation
from backups_app.operations import blocking
from tests.conftest import url_of
from tests.operations.site import WHO, Site, wait_for

OLD_REPORT = "LOCK TABLE qr_codes IN ACCESS EXCLUSIVE MODE"


class HeldUp:
    """A backup that runs beside the test and waits for a table that somebody else has locked."""

    def __init__(self, site: Site) -> None:
        self.holder = self._session(site, "old report")
        self.bystander = self._session(site, "bystander")
        self.holder.execute(OLD_REPORT)
        self.operation = tasks.request_backup(**WHO)
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def wait_for_end(self) -> Operation:
        self._thread.join(30)
        self.operation.refresh_from_db()
        return self.operation

    def close(self) -> None:
        self.holder.close()
        self.bystander.close()
        self._thread.join(30)

    def _work(self) -> None:
        try:
            tasks.run_here(self.operation)
        finally:
            connections.close_all()

    def _session(self, site: Site, name: str) -> psycopg.Connection[Any]:
        return psycopg.connect(url_of(site.server), application_name=name)


@pytest.fixture
def held_up(plain_site: Site) -> Any:
    made = HeldUp(plain_site)
    yield made
    made.close()


def test_who_blocks_is_told_and_ended_and_nobody_else(plain_site: Site, held_up: HeldUp) -> None:
    operation = held_up.operation
    blocker = wait_for(lambda: (blocking.blockers_of(operation) or [None])[0])
    holder, bystander = held_up.holder.info.backend_pid, held_up.bystander.info.backend_pid
    operation.refresh_from_db()

    ended = tasks.run_here(
        tasks.request_end_sessions([holder, bystander], operation=operation, reason="hung report", **WHO)
    )
    backup = held_up.wait_for_end()

    assert (blocker.session.pid, blocker.is_root, blocker.is_endable) == (holder, True, True)
    assert "qr_owner (old report" in blocker.describe()
    assert f", process {holder}) since 20" in blocker.describe()
    assert f"idle in transaction: {OLD_REPORT}" in blocker.describe()
    assert (ended.state, ended.result["ended"], ended.result["left"]) == ("succeeded", [holder], [bystander])
    assert f"tester ended what blocked: process {holder}." in list(
        backup.steps.values_list("what", flat=True)
    )
    assert backup.state == "succeeded", backup.error
    assert held_up.bystander.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError):
        held_up.holder.execute("SELECT 1")
    assert blocking.blockers_of(operation) == []


def test_ending_sessions_needs_a_reason_and_a_running_operation(plain_site: Site) -> None:
    done = plain_site.validate_database()

    for pids, reason, sentence in (
        ([1], " ", "reason"),
        ([], "x", "at least one"),
        ([1], "x", "not running"),
    ):
        with pytest.raises(Refused, match=sentence):
            tasks.request_end_sessions(pids, operation=done, reason=reason, **WHO)

    assert Operation.objects.count() == 1


def test_an_operation_that_stands_still_fails_by_itself(
    settings: Settings, plain_site: Site, request: pytest.FixtureRequest
) -> None:
    settings.STALL_TIME_LIMIT = 2
    held_up: HeldUp = request.getfixturevalue("held_up")

    operation = held_up.wait_for_end()

    assert operation.state == "failed"
    assert operation.error.startswith("Nothing moved for 2 seconds in the step")
    assert 2 < (operation.duration.total_seconds() if operation.duration else 0) < 12
    assert list(plain_site.working.iterdir()) == []
