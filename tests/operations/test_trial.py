"""A trial: a backup in a database of its own, kept for a while, with nothing done to the live one."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from backups_app import tasks
from backups_app.errors import Refused
from backups_app.models import Backup, Operation
from backups_app.operations import housekeeping
from backups_app.operations.journal import Journal
from backups_app.systems import vault
from tests.conftest import on_all_majors, url_of
from tests.operations.site import WHO, Site


@on_all_majors
def test_a_trial_holds_what_the_backup_held_and_the_live_database_stays(one_folder: Site) -> None:
    backup = one_folder.backup()
    before = one_folder.rows()
    one_folder.execute("DELETE FROM qr_codes WHERE qr_type = 'dynamic'")
    live = one_folder.rows()

    done = one_folder.attempt(tasks.request_trial(backup, **WHO))

    name = done.result["database"]
    assert done.state == "succeeded", done.error
    assert name.startswith(f"qrdb_trial_{done.pk}_")
    assert one_folder.rows(name) == before
    assert one_folder.rows() == live
    assert one_folder.databases() == {"qrdb", name}


def test_a_trial_of_a_backup_without_a_manifest_does_not_say_that_rows_were_equal(one_folder: Site) -> None:
    backup = one_folder.backup()
    Backup.objects.filter(pk=backup.pk).update(manifest=None, rows=None)

    first, second = (one_folder.attempt(tasks.request_trial(backup, **WHO)) for _ in range(2))

    told = "The backup lies in the database"
    end = "now, with 1337 rows; there was nothing to compare them with."
    assert first.steps.get(what__startswith=told).what.endswith(end)
    assert second.steps.get(what__startswith=told).what.endswith("now, every row and checksum equal.")


def test_a_trial_belongs_to_the_owner_of_the_live_database(
    one_folder: Site, superuser: psycopg.Connection[Any]
) -> None:
    done = one_folder.attempt(tasks.request_trial(one_folder.backup(), **WHO))

    owners = "SELECT count(DISTINCT datdba), count(*) FROM pg_database WHERE datname = ANY(%s)"
    assert superuser.execute(owners, [["qrdb", done.result["database"]]]).fetchone() == (1, 2)


def test_a_trial_goes_when_its_time_is_over_and_not_before(one_folder: Site, settings: Settings) -> None:
    settings.TRIAL_DATABASE_HOURS = 1
    done = one_folder.attempt(tasks.request_trial(one_folder.backup(), **WHO))
    name = done.result["database"]

    housekeeping.keep_house()
    kept = one_folder.databases()
    over = (timezone.now() - timedelta(seconds=1)).isoformat()
    Operation.objects.filter(pk=done.pk).update(leftovers=[{**done.leftovers[0], "kept_until": over}])
    housekeeping.keep_house()

    assert kept == {"qrdb", name}
    assert one_folder.databases() == {"qrdb"}
    assert not Operation.objects.trials().exists()


def test_a_trial_that_has_become_the_live_database_is_never_dropped(
    one_folder: Site, settings: Settings
) -> None:
    done = one_folder.attempt(tasks.request_trial(one_folder.backup(), **WHO))
    name = done.result["database"]
    folder = vault.scratch_path(one_folder.working)
    vault.make_scratch(folder)
    over = (timezone.now() - timedelta(seconds=1)).isoformat()
    leftovers = [{**done.leftovers[0], "kept_until": over}, {"what": "folder", "name": str(folder)}]
    Operation.objects.filter(pk=done.pk).update(leftovers=leftovers)
    settings.MANAGED_DATABASE_URL = url_of(one_folder.server.at(name))

    housekeeping.keep_house()
    housekeeping.keep_house()

    assert one_folder.databases() == {"qrdb", name}
    assert not folder.exists()
    assert done.steps.filter(level="warning", what__startswith=f"{name} is still there").count() == 1
    asked = one_folder.attempt(tasks.request_drop_trial(done, **WHO))
    assert (asked.state, asked.blame) == ("failed", "environment")
    assert name in one_folder.databases()


def test_a_trial_is_dropped_when_somebody_asks_for_it(one_folder: Site) -> None:
    done = one_folder.attempt(tasks.request_trial(one_folder.backup(), **WHO))

    dropped = one_folder.attempt(tasks.request_drop_trial(done, **WHO))

    done.refresh_from_db()
    assert dropped.state == "succeeded", dropped.error
    assert one_folder.databases() == {"qrdb"}
    with pytest.raises(Refused, match="has been dropped"):
        tasks.request_drop_trial(done, **WHO)


def test_the_checks_of_a_trial_say_nothing_of_the_live_database(one_folder: Site) -> None:
    done = one_folder.attempt(tasks.request_trial(one_folder.backup(), **WHO))
    with one_folder.connected(done.result["database"]) as connection:
        connection.execute("ALTER TABLE qr_codes DROP COLUMN fill_color")

    checked = one_folder.attempt(tasks.request_validate_trial(done, **WHO))
    live = one_folder.validate_database()

    assert checked.state == "failed"
    assert "fill_color" in checked.error
    assert live.state == "succeeded", live.error


def test_a_cancelled_trial_leaves_no_database(one_folder: Site, at_step: Any) -> None:
    backup = one_folder.backup()

    def cancel(journal: Journal) -> None:
        assert journal.operation.request_cancel("an operator")
        time.sleep(0.5)

    at_step("Compare every row", cancel)
    done = one_folder.attempt(tasks.request_trial(backup, **WHO))

    assert done.state == "cancelled"
    assert done.error == "It was cancelled by an operator. The live database was not touched."
    assert one_folder.databases() == {"qrdb"}
    assert done.leftovers == []


def test_a_trial_of_a_damaged_backup_fails_and_leaves_no_database(one_folder: Site) -> None:
    backup = one_folder.backup()
    (one_folder.working / backup.name).write_bytes(b"nothing")

    done = one_folder.attempt(tasks.request_trial(backup, **WHO))

    assert done.state == "failed"
    assert one_folder.databases() == {"qrdb"}
    assert done.leftovers == []
