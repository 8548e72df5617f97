"""A test restore tells a bad backup from a bad test bench, and leaves no database behind."""

from __future__ import annotations

import functools
import json
from typing import Any

import psycopg
import pytest
from django.test import Client
from django.urls import reverse
from pytest_django.fixtures import Settings

from backups_app.errors import ServerUnavailable
from backups_app.models import Backup, Operation
from backups_app.operations import housekeeping, movement, staging
from backups_app.operations.journal import Journal
from backups_app.systems.postgres import clients, databases
from backups_app.systems.processes import Finished
from tests.conftest import on_all_majors
from tests.operations.site import Site, beside, wait_for
from tests.real_world import need
from tests.systems.pg_tools import HOSTILE_SETTINGS, create_peculiar_tables


@on_all_majors
def test_a_backup_of_whatever_a_database_may_hold_is_proven_and_restored(
    one_folder: Site, superuser: psycopg.Connection[Any]
) -> None:
    for setting in HOSTILE_SETTINGS:
        superuser.execute(f"ALTER DATABASE qrdb SET {setting}")
    with one_folder.connected() as connection:
        create_peculiar_tables(connection)
    backup = one_folder.backup()
    before = one_folder.rows()
    assert len(before) > 12

    proof = one_folder.prove(backup)
    one_folder.execute("DROP TABLE types, generated, events CASCADE")
    restored = one_folder.restore(backup)

    assert proof.state == "succeeded", f"{proof.error} {proof.error_detail}"
    assert restored.state == "succeeded", f"{restored.error} {restored.error_detail}"
    assert one_folder.rows() == before
    with one_folder.connected() as connection:
        assert connection.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone() == (3,)
        assert connection.execute("SELECT count FROM summary").fetchone() == (2,)


def test_a_proof_is_recorded_and_leaves_no_database(one_folder: Site) -> None:
    backup = one_folder.backup()

    operation = one_folder.prove(backup)

    backup.refresh_from_db()
    assert operation.state == "succeeded"
    assert backup.state == "proven"
    assert (backup.proof["tables"], backup.proof["rows"]) == (3, 1337)
    assert one_folder.databases() == {"qrdb"}
    assert operation.leftovers == []


def test_without_a_manifest_a_proof_says_that_nothing_could_be_compared(
    one_folder: Site, admin_client: Client
) -> None:
    backup = one_folder.backup()
    Backup.objects.filter(pk=backup.pk).update(manifest=None, rows=None)
    page = reverse("admin:backups_app_backup_change", args=[backup.pk])
    description = one_folder.working / f"{backup.name}.json"
    compared = "every row and checksum equal."

    first = one_folder.prove(backup)
    first_page = admin_client.get(page).content.decode()
    first_proof = json.loads(description.read_text())["proof"]
    second = one_folder.prove(backup)

    told = first.steps.get(what__startswith="Restored in").what
    end = " s: its 1337 rows are the measure from now on, for there was nothing to compare with."
    assert told.endswith(end)
    assert not first.steps.filter(what__contains=compared).exists()
    assert "with 1,337 rows, which are the measure from now on" in first_page
    assert compared not in first_page
    assert (first.result["is_measure"], first_proof["is_measure"]) == (True, True)
    assert second.steps.filter(what__endswith=compared).exists()
    assert compared in admin_client.get(page).content.decode()
    assert "is_measure" not in json.loads(description.read_text())["proof"]


@on_all_majors
def test_the_manifest_equals_the_archive_while_writers_insert(one_folder: Site) -> None:
    one_folder.execute(
        "INSERT INTO scan_logs (id, qr_code_id)"
        " SELECT 'more-' || n, (SELECT id FROM qr_codes LIMIT 1) FROM generate_series(1, 20000) n"
    )
    rows_at_first = len(one_folder.rows()["public.scan_logs"])
    ended: list[bool] = []

    def write() -> None:
        number = 0
        with one_folder.connected() as connection:
            while not ended:
                number += 1
                connection.execute(
                    "INSERT INTO scan_logs (id, qr_code_id) SELECT %s, id FROM qr_codes LIMIT 1",
                    (f"w-{number}",),
                )
                connection.execute("UPDATE qr_codes SET scan_count = scan_count + 1 WHERE qr_type = 'static'")

    with beside(write):
        wait_for(lambda: len(one_folder.rows()["public.scan_logs"]) > rows_at_first)
        try:
            backup = one_folder.backup()
        finally:
            ended.append(True)

    rows_in_the_end = len(one_folder.rows()["public.scan_logs"])
    assert backup.manifest is not None
    in_backup = backup.manifest["tables"]["public.scan_logs"]["rows"]
    assert rows_at_first < in_backup < rows_in_the_end
    operation = one_folder.prove(backup)
    assert operation.state == "succeeded", operation.error


def test_one_checksum_that_differs_makes_a_bad_backup(one_folder: Site) -> None:
    backup = one_folder.backup()
    assert backup.manifest is not None
    backup.manifest["tables"]["public.scan_logs"]["checksum"] = "0"
    backup.save()

    operation = one_folder.prove(backup)

    backup.refresh_from_db()
    assert (operation.state, operation.blame, backup.state) == ("failed", "backup", "damaged")
    assert "table public.scan_logs: 1002 rows as expected, but their contents differ" in operation.error
    assert one_folder.databases() == {"qrdb"}


def bench_s_fault(site: Site, backup: Backup, operation: Operation) -> str:
    """The error, of an operation that must not have blamed the backup nor left anything."""
    backup.refresh_from_db()
    assert (operation.state, operation.blame, backup.state) == ("failed", "environment", "validated")
    assert operation.error.endswith("The live database was not touched.")
    return operation.error


def test_without_the_right_to_create_databases_the_bench_is_to_blame(
    one_folder: Site, superuser: psycopg.Connection[Any]
) -> None:
    backup = one_folder.backup()
    superuser.execute("ALTER ROLE qr_owner NOCREATEDB")

    error = bench_s_fault(one_folder, backup, one_folder.prove(backup))

    assert "let a superuser run ALTER ROLE" in error


def test_a_server_that_is_gone_is_the_bench_s_fault(one_folder: Site, settings: Settings) -> None:
    backup = one_folder.backup()
    settings.DRILL_DATABASE_URL = "postgresql://someone:secret@127.0.0.1:1/qrdb"

    error = bench_s_fault(one_folder, backup, one_folder.prove(backup))

    assert error.startswith("PostgreSQL at 127.0.0.1:1 cannot be reached")


def test_without_a_client_the_bench_is_to_blame(one_folder: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    backup = one_folder.backup()
    monkeypatch.setattr(clients, "installed", lambda *_: [])

    error = bench_s_fault(one_folder, backup, one_folder.prove(backup))

    assert "install the package postgresql-client-16" in error


def test_a_client_that_cannot_be_started_is_the_bench_s_fault(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = one_folder.backup()
    real = clients.installed
    monkeypatch.setattr(clients, "installed", lambda *which: [c for c in real(*which) if c.major == 15])

    error = bench_s_fault(one_folder, backup, one_folder.prove(backup))

    assert "pg_restore 16 is not installed" in error


def test_sessions_that_an_administrator_ends_are_the_bench_s_fault(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch, superuser: psycopg.Connection[Any]
) -> None:
    backup = one_folder.backup()
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname ~ 'staging'"
    real = databases.analyze

    def analyze_and_be_ended(*arguments: Any, **options: Any) -> None:
        superuser.execute(end)
        real(*arguments, **options)
        options["watch"]()

    monkeypatch.setattr(databases, "analyze", analyze_and_be_ended)
    monkeypatch.setattr(movement, "LOOK_SECONDS", 0)

    error = bench_s_fault(one_folder, backup, one_folder.prove(backup))

    assert "connection to PostgreSQL" in error
    assert one_folder.databases() == {"qrdb"}


def test_an_extension_that_the_server_lacks_is_the_bench_s_fault(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pg_restore says it: servers without one of their extensions are not at hand."""

    backup = one_folder.backup()
    said = (
        'pg_restore: error: could not execute query: ERROR:  extension "pgcrypto" is not available\n'
        'DETAIL:  Could not open extension control file "/usr/share/extension/pgcrypto.control"'
    )
    monkeypatch.setattr(staging, "run", lambda *_, **__: Finished(1, said, b"", 0.1, 0))

    error = bench_s_fault(one_folder, backup, one_folder.prove(backup))

    assert "An extension that the backup needs is not installed on the server" in error
    assert "pgcrypto" in error


@pytest.mark.parametrize("pg_major", [15], indirect=True)
def test_a_database_with_an_extension_is_proven_and_restored(one_folder: Site) -> None:
    with one_folder.connected() as connection:
        query = "SELECT count(*) FROM pg_available_extensions WHERE name = 'pgcrypto'"
        need(connection.execute(query).fetchone() == (1,), "this server has no pgcrypto")
        connection.execute("CREATE EXTENSION pgcrypto")
        connection.execute("CREATE TABLE keys (id int, hash text DEFAULT encode(digest('x', 'sha1'), 'hex'))")
        connection.execute("INSERT INTO keys VALUES (1)")
    backup = one_folder.backup()

    proof = one_folder.prove(backup)
    one_folder.execute("DROP EXTENSION pgcrypto CASCADE")
    restored = one_folder.restore(backup)

    assert proof.state == "succeeded", f"{proof.error} {proof.error_detail}"
    assert restored.state == "succeeded", f"{restored.error} {restored.error_detail}"
    one_folder.execute("INSERT INTO keys VALUES (2)")
    assert len(one_folder.rows()["public.keys"]) == 2


def test_a_cancelled_proof_leaves_no_database(one_folder: Site, at_step: Any) -> None:
    backup = one_folder.backup()

    def cancel(journal: Journal) -> None:
        journal.operation.request_cancel("an operator")
        journal._look()

    at_step("Restore into it", cancel)

    operation = one_folder.prove(backup)

    backup.refresh_from_db()
    assert (operation.state, backup.state) == ("cancelled", "validated")
    assert one_folder.databases() == {"qrdb"}


def test_a_database_that_cannot_be_dropped_now_is_left_to_housekeeping(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:

    backup = one_folder.backup()
    real = databases.drop

    def fail(*_: Any) -> bool:
        raise ServerUnavailable("It is away.")

    monkeypatch.setattr(databases, "drop", fail)
    operation = one_folder.prove(backup)
    monkeypatch.setattr(databases, "drop", functools.partial(real))

    assert operation.state == "succeeded"
    assert operation.steps.filter(level="warning", what__contains="is dropped later").exists()
    assert len(one_folder.databases()) == 2
    housekeeping.keep_house()
    assert one_folder.databases() == {"qrdb"}
    operation.refresh_from_db()
    assert operation.leftovers == []
