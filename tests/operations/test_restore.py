"""A restore replaces the live database whole, or leaves every row as it was; an undo brings all back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import OperationalError
from django.utils import timezone
from pytest_django.fixtures import Settings

from backups_app import tasks
from backups_app.errors import Busy, Refused
from backups_app.models import Backup, Operation, RestoreEvent
from backups_app.operations import copy_check, housekeeping, journal
from tests.conftest import on_all_majors, url_of
from tests.operations.site import WHO, Site

ACCESS = """
SELECT c.relname, c.relowner::regrole::text, c.relacl::text FROM pg_class c
 WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1
"""
DATABASE = """
SELECT d.datdba::regrole::text, d.datacl::text, d.datconnlimit, pg_encoding_to_char(d.encoding), d.datcollate,
       (SELECT array_agg(s.setrole::text || ' ' || s.setconfig::text ORDER BY s.setrole)
          FROM pg_db_role_setting s WHERE s.setdatabase = d.oid)
  FROM pg_database d WHERE d.datname = 'qrdb'
"""


def damage(site: Site) -> None:
    """What a bad day does to the live database."""
    site.execute("DELETE FROM qr_codes WHERE id IN (SELECT id FROM qr_codes ORDER BY id LIMIT 20)")
    site.execute("UPDATE qr_codes SET title = 'gone wrong'")


@on_all_majors
def test_a_restore_brings_back_every_row_with_owners_privileges_and_settings(
    site: Site, superuser: psycopg.Connection[Any]
) -> None:
    superuser.execute("CREATE ROLE reporting")
    superuser.execute("GRANT CONNECT ON DATABASE qrdb TO reporting")
    superuser.execute("ALTER DATABASE qrdb SET work_mem = '5MB'")
    superuser.execute("ALTER ROLE qr_owner IN DATABASE qrdb SET TimeZone = 'Asia/Tokyo'")
    superuser.execute("ALTER DATABASE qrdb CONNECTION LIMIT 90")
    site.execute("GRANT SELECT ON qr_codes TO reporting")
    backup = site.backup()
    before = site.rows(), _asked(site, ACCESS), _asked(site, DATABASE)
    damage(site)
    damaged = site.rows()

    operation = site.restore(backup)

    assert operation.state == "succeeded", f"{operation.error} {operation.error_detail}"
    assert (site.rows(), _asked(site, ACCESS), _asked(site, DATABASE)) == before
    event = site.event()
    assert event.outcome == "restored"
    assert event.rows_before["public.qr_codes"] == 314
    assert event.rows_after["public.qr_codes"] == 334
    assert site.rows(event.replaced_database) == damaged
    assert event.safety_backup is not None
    assert event.safety_backup.name.endswith("_before_restore.sql")
    assert site.databases() == {"qrdb", event.replaced_database}
    assert operation.result["rows"]["public.qr_codes"] == [314, 334]
    assert operation.leftovers == []


def test_an_undo_brings_back_exactly_the_rows_before_the_restore(one_folder: Site) -> None:
    backup = one_folder.backup()
    damage(one_folder)
    before = one_folder.rows()
    one_folder.restore(backup)

    operation = one_folder.undo(one_folder.event())

    assert operation.state == "succeeded", f"{operation.error} {operation.error_detail}"
    assert one_folder.rows() == before
    undo, restore = RestoreEvent.objects.order_by("-pk")
    assert (undo.outcome, restore.outcome) == ("restored", "undone")
    assert undo.undoes == restore


def test_an_undo_can_itself_be_undone(one_folder: Site) -> None:
    backup = one_folder.backup()
    restored = one_folder.rows()
    damage(one_folder)
    one_folder.restore(backup)
    one_folder.undo(one_folder.event())

    operation = one_folder.undo(one_folder.event())

    assert operation.state == "succeeded", f"{operation.error} {operation.error_detail}"
    assert one_folder.rows() == restored
    assert len(one_folder.databases()) == 2
    assert list(RestoreEvent.objects.order_by("pk").values_list("outcome", flat=True)) == [
        "undone",
        "undone",
        "restored",
    ]


def test_a_restore_that_was_undone_is_not_undone_again(one_folder: Site) -> None:
    one_folder.restore(one_folder.backup())
    event = one_folder.event()
    one_folder.undo(event)
    event.refresh_from_db()

    with pytest.raises(Refused, match="nothing to undo"):
        one_folder.undo(event)


def test_an_undo_is_refused_when_its_time_is_over(one_folder: Site) -> None:
    one_folder.restore(one_folder.backup())
    event = one_folder.event()
    event.change(replaced_kept_until=timezone.now() - timedelta(seconds=1))

    with pytest.raises(Refused, match="time for an undo is over"):
        one_folder.undo(event)


def test_an_undo_whose_database_was_dropped_by_hand_leaves_the_live_one(one_folder: Site) -> None:
    one_folder.restore(one_folder.backup())
    event = one_folder.event()
    before = one_folder.rows()
    with one_folder.connected("postgres") as connection:
        connection.execute(f'DROP DATABASE "{event.replaced_database}"')

    operation = one_folder.undo(event)

    assert operation.state == "failed"
    assert operation.error.startswith(f"There is no database {event.replaced_database}")
    assert "The live database was not touched." in operation.error
    assert one_folder.rows() == before
    assert one_folder.event().outcome == "untouched"


def test_a_restore_without_a_safety_backup_keeps_the_replaced_database(one_folder: Site) -> None:
    backup = one_folder.backup()

    operation = one_folder.restore(backup, without_safety_backup=True)

    event = one_folder.event()
    assert operation.state == "succeeded"
    assert event.safety_backup is None
    assert Backup.objects.count() == 1
    event.change(replaced_kept_until=timezone.now() - timedelta(days=1))
    housekeeping.keep_house()
    assert event.replaced_database in one_folder.databases()


def test_no_other_location_holds_up_a_restore(site: Site) -> None:
    """The safety backup gets there by housekeeping, as soon as the restore is over."""
    backup = site.backup()

    done = site.restore(backup)

    safety = Backup.objects.get(name=done.result["safety_backup"])
    assert not any(step.startswith("Copy to") for step in done.steps.values_list("what", flat=True))
    assert dict(safety.copies.values_list("location", "state")) == {"working": "stored", "second": "pending"}
    assert copy_check.is_retry_due(timezone.now())
    site.check_copies(only_pending=True)
    assert set(safety.copies.values_list("state", flat=True)) == {"stored"}
    assert (site.second / safety.name).read_bytes() == (site.working / safety.name).read_bytes()


def test_a_restore_of_an_emptied_live_database_works(one_folder: Site) -> None:
    backup = one_folder.backup()
    before = one_folder.rows()
    one_folder.execute("DROP TABLE scan_logs, qr_codes, alembic_version")

    operation = one_folder.restore(backup)

    assert operation.state == "succeeded", operation.error
    assert one_folder.rows() == before


def test_a_dropped_live_database_is_said_with_what_to_do(one_folder: Site) -> None:
    backup = one_folder.backup()
    before = one_folder.rows()
    with one_folder.connected("postgres") as connection:
        connection.execute("DROP DATABASE qrdb")

    refused = one_folder.restore(backup)
    with one_folder.connected("postgres") as connection:
        connection.execute("CREATE DATABASE qrdb TEMPLATE template0")
    restored = one_folder.restore(backup)

    assert refused.state == "failed"
    assert "If it was dropped, create an empty one of that name" in refused.error
    assert restored.state == "succeeded", restored.error
    assert one_folder.rows() == before


def test_a_live_database_that_cannot_be_read_is_replaced_when_no_safety_backup_is_asked_for(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backups_app.systems.postgres import manifest

    monkeypatch.setitem(manifest._PATIENCE_SETTINGS, "lock_timeout", "300ms")
    backup = one_folder.backup()
    before = one_folder.rows()
    one_folder.execute("UPDATE qr_codes SET title = 'damaged'")

    # The swap ends the session that holds the lock.
    with pytest.raises(psycopg.OperationalError), one_folder.locked():  # noqa: PT012
        failed = one_folder.restore(backup)
        done = one_folder.restore(backup, without_safety_backup=True)

    assert failed.state == "failed"
    assert "waited too long for a lock" in failed.error
    assert done.state == "succeeded", done.error
    assert one_folder.rows() == before


def test_only_one_operation_works_on_the_managed_database(one_folder: Site) -> None:
    backup = one_folder.backup()
    running = tasks.request_validate_database(**WHO)
    Operation.objects.claim(running.pk, host="here", pid=1)

    with pytest.raises(Busy, match=f"Validate database {running.pk} is running"):
        tasks.request_restore(backup, reason="a test", **WHO)


def test_a_second_click_is_the_same_restore(one_folder: Site) -> None:
    backup = one_folder.backup()

    first = tasks.request_restore(backup, reason="a test", **WHO)
    second = tasks.request_restore(backup, reason="a test", **WHO)
    tasks.run_here(first)

    assert first == second
    with pytest.raises(Busy, match="already been started"):
        tasks.run_here(second)
    assert RestoreEvent.objects.count() == 1


def test_a_restore_without_a_reason_is_refused(one_folder: Site) -> None:
    backup = one_folder.backup()

    with pytest.raises(Refused, match="reason"):
        one_folder.restore(backup, reason="  ")


def test_the_replaced_database_is_dropped_only_when_its_time_is_over_and_its_safety_backup_is_sound(
    one_folder: Site,
) -> None:
    one_folder.restore(one_folder.backup())
    event = one_folder.event()
    assert event.safety_backup is not None

    housekeeping.keep_house()
    assert event.replaced_database in one_folder.databases()

    event.change(replaced_kept_until=timezone.now() - timedelta(seconds=1))
    event.safety_backup.mark_damaged("a test")
    housekeeping.keep_house()
    assert event.replaced_database in one_folder.databases()

    event.safety_backup.mark_validated()
    busy = tasks.request_validate_database(**WHO)
    Operation.objects.claim(busy.pk, host="here", pid=1)
    housekeeping.keep_house()
    assert event.replaced_database in one_folder.databases()

    busy.refresh_from_db()
    busy.end("cancelled")
    housekeeping.keep_house()
    event.refresh_from_db()
    assert one_folder.databases() == {"qrdb"}
    assert event.replaced_dropped_at is not None
    with pytest.raises(Refused, match="no longer there"):
        one_folder.undo(event)


def test_a_replaced_database_that_has_become_the_live_one_is_never_dropped(
    one_folder: Site, settings: Settings
) -> None:
    backup = one_folder.backup()
    one_folder.restore(backup)
    first = one_folder.event()
    one_folder.restore(backup)
    second = one_folder.event()
    for event in (first, second):
        event.change(replaced_kept_until=timezone.now() - timedelta(seconds=1))
    settings.MANAGED_DATABASE_URL = url_of(one_folder.server.at(second.replaced_database))

    housekeeping.keep_house()
    housekeeping.keep_house()

    assert one_folder.databases() == {"qrdb", second.replaced_database}
    told = f"{second.replaced_database} is still there"
    assert second.operation.steps.filter(level="warning", what__startswith=told).count() == 1


def test_an_undo_is_told_of_both_restores_though_the_site_s_database_is_away_in_between(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_folder.restore(one_folder.backup())
    restored, real, tries = one_folder.event(), RestoreEvent.change, []

    def be_away_once(event: RestoreEvent, **changes: Any) -> None:
        if event.pk == restored.pk:
            tries.append(RestoreEvent.objects.exclude(pk=restored.pk).get().outcome)
            if len(tries) == 1:
                raise OperationalError("away")
        real(event, **changes)

    monkeypatch.setattr(journal, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(RestoreEvent, "change", be_away_once)

    assert one_folder.undo(restored).state == "succeeded"

    restored.refresh_from_db()
    assert tries == ["restored", "restored"]
    assert (one_folder.event().outcome, restored.outcome) == ("restored", "undone")


def test_the_api_s_writes_between_staging_and_swap_are_in_the_replaced_database(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backups_app.operations import restore

    backup = one_folder.backup()
    real = restore._put_in_place

    def write_then_swap(*arguments: Any) -> None:
        one_folder.execute("INSERT INTO qr_codes (id, content, file_format) VALUES ('late', 'x', 'png')")
        real(*arguments)

    monkeypatch.setattr(restore, "_put_in_place", write_then_swap)

    operation = one_folder.restore(backup)

    assert operation.result["rows"]["public.qr_codes"] == [335, 334]
    assert any(
        "late" in row for row in one_folder.rows(one_folder.event().replaced_database)["public.qr_codes"]
    )


def test_a_restore_whose_last_count_fails_is_still_a_restore(one_folder: Site, broken: Any) -> None:
    from backups_app.errors import ServerUnavailable
    from backups_app.operations import restore

    backup = one_folder.backup()
    broken(restore, "_revision_of", ServerUnavailable("It is away."))

    operation = one_folder.restore(backup)

    assert operation.state == "succeeded"
    assert operation.steps.filter(level="warning", what__contains="It is away.").exists()
    assert one_folder.event().rows_before["public.qr_codes"] == 334


def test_building_an_index_is_no_standstill(one_folder: Site, settings: Settings) -> None:
    one_folder.execute(
        "CREATE FUNCTION slow(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_catalog.pg_sleep(0.005); RETURN $1; END'"
    )
    one_folder.execute("CREATE INDEX slow ON qr_codes (slow(id))")
    backup = one_folder.backup()
    settings.STALL_TIME_LIMIT = 1

    operation = one_folder.prove(backup)

    assert operation.state == "succeeded", operation.error


def test_a_dump_that_waits_for_a_lock_is_a_standstill(one_folder: Site, settings: Settings) -> None:
    settings.STALL_TIME_LIMIT = 1

    with one_folder.locked():
        operation = one_folder.try_backup()

    assert operation.state == "failed"
    assert "Nothing moved for 1 seconds in the step “Dump and count in one snapshot”" in operation.error
    assert one_folder.files() == set()


def _asked(site: Site, query: str) -> list[tuple[Any, ...]]:
    with site.connected() as connection:
        return connection.execute(query).fetchall()
