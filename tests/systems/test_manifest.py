"""What a manifest sees, and that nothing but the rows themselves changes it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backups_app.errors import BadBackup, Cancelled, MissingPrivilege
from backups_app.systems.postgres import manifest, tables
from backups_app.systems.postgres.connections import Server
from backups_app.systems.postgres.databases import row_counts
from backups_app.systems.postgres.manifest import Manifest, TableState, compare, snapshot, take, take_of
from deploy.demo import embedded, sample
from tests.conftest import connect_as_superuser, on_all_majors
from tests.patience import wait_until
from tests.systems.pg_tools import HOSTILE_SETTINGS, create_peculiar_tables, dumped, restored, url

Connection = psycopg.Connection[Any]

DIFFER = "but their contents differ from the backup's manifest"


def taken(server: Server) -> Manifest:
    return take_of(server, application_name="test")


@on_all_majors
def test_the_sample_is_counted_and_its_revision_read(managed: Server) -> None:
    seen = taken(managed)

    assert {name: state.rows for name, state in seen.tables.items()} == {
        "public.alembic_version": 1,
        "public.qr_codes": 334,
        "public.scan_logs": 1002,
    }
    assert seen.rows == 1337
    assert seen.revision == sample.HEAD
    assert seen.large_objects is None
    assert seen.taken_at.endswith("+00:00")


@on_all_majors
def test_a_restored_dump_has_the_same_manifest_whatever_the_tables_are(
    managed: Server, owner: Connection, pg_major: int, tmp_path: Path
) -> None:
    create_peculiar_tables(owner)
    before = taken(managed)

    copy = restored(managed, pg_major, dumped(managed, pg_major, tmp_path / "archive"))

    after = taken(copy)
    assert compare(before, after) == []
    assert after.tables == before.tables
    assert after.large_objects == before.large_objects


@on_all_majors
def test_every_kind_of_table_with_rows_of_its_own_is_in_the_manifest(
    managed: Server, owner: Connection
) -> None:
    create_peculiar_tables(owner)

    seen = taken(managed)

    rows = {name: state.rows for name, state in seen.tables.items()}
    assert rows == {
        '"Mixed Case"."Odd.Name ""quoted"""': 2,
        '"select"."user"': 3,
        "public.alembic_version": 1,
        "public.child": 1,
        "public.empty_table": 0,
        "public.events_2025": 1,
        "public.events_rest": 1,
        "public.generated": 20,
        "public.guarded": 2,
        "public.no_columns": 2,
        "public.parent": 1,
        "public.qr_codes": 334,
        "public.scan_logs": 1002,
        "public.trees": 1,
        "public.types": 1,
        "public.unlogged": 1,
    }
    assert seen.large_objects is not None
    assert seen.large_objects.rows == 3
    assert row_counts(managed) == rows


@on_all_majors
def test_hostile_settings_of_the_database_do_not_change_the_manifest(
    managed: Server, owner: Connection
) -> None:
    create_peculiar_tables(owner)
    before = taken(managed)

    for setting in HOSTILE_SETTINGS:
        owner.execute(f"ALTER DATABASE qrdb SET {setting}")

    after = taken(managed)
    assert compare(before, after) == []
    assert after == Manifest(before.tables, before.large_objects, before.revision, after.taken_at)


def test_money_does_not_depend_on_the_locale(managed: Server, owner: Connection) -> None:
    create_peculiar_tables(owner)
    before = taken(managed)

    owner.execute("ALTER DATABASE qrdb SET lc_monetary TO 'C.UTF-8'")

    assert compare(before, taken(managed)) == []


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (
            "UPDATE qr_codes SET title = title || '.' WHERE id = (SELECT min(id) FROM qr_codes)",
            f"table public.qr_codes: 334 rows as expected, {DIFFER}",
        ),
        (
            "DELETE FROM scan_logs WHERE id = (SELECT min(id) FROM scan_logs)",
            "table public.scan_logs: 1001 rows, the backup's manifest says 1002",
        ),
        ("CREATE TABLE extra (id int)", "table public.extra: not in the backup's manifest"),
        ("DROP TABLE notes", "table public.notes: missing, although the backup's manifest lists it"),
        (
            "UPDATE notes SET a = b, b = a",
            f"table public.notes: 2 rows as expected, {DIFFER}",
        ),
        (
            "UPDATE notes SET a = (SELECT a FROM notes o WHERE o.id <> notes.id)",
            f"table public.notes: 2 rows as expected, {DIFFER}",
        ),
        (
            "UPDATE notes SET a = NULL WHERE a = ''",
            f"table public.notes: 2 rows as expected, {DIFFER}",
        ),
        (
            "UPDATE alembic_version SET version_num = 'd59b26b7dd93'",
            "the migration revision is d59b26b7dd93, the backup's manifest says 8d13a4dfeb1d",
        ),
        (
            "DELETE FROM alembic_version",
            "the migration revision 8d13a4dfeb1d of the backup's manifest is missing",
        ),
        ("SELECT lo_create(0)", "large objects: not in the backup's manifest"),
    ],
)
def test_every_difference_is_found_and_told(
    managed: Server, owner: Connection, change: str, difference: str
) -> None:
    owner.execute("CREATE TABLE notes (id int, a text, b text)")
    owner.execute("INSERT INTO notes VALUES (1, '', 'x'), (2, 'y', 'z')")
    before = taken(managed)

    owner.execute(change)  # type: ignore[arg-type]

    assert difference in compare(before, taken(managed))


def test_a_revision_that_the_manifest_lacks_is_told(managed: Server) -> None:
    found = taken(managed)

    assert compare(replace(found, revision=None), found) == [
        "the migration revision is 8d13a4dfeb1d, the backup's manifest has none"
    ]


@pytest.mark.parametrize(
    ("then", "now", "difference"),
    [
        (
            TableState(1, "5"),
            None,
            "large objects: missing, although the backup's manifest lists them",
        ),
        (TableState(2, "5"), TableState(1, "3"), "large objects: 1 rows, the backup's manifest says 2"),
    ],
)
def test_large_objects_that_are_gone_are_told(
    managed: Server, then: TableState, now: TableState | None, difference: str
) -> None:
    found = taken(managed)

    assert compare(replace(found, large_objects=then), replace(found, large_objects=now)) == [difference]


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("numeric", "1.0", "1.00"),
        ("double precision", "0", "-0"),
        ("interval", "1 day", "24 hours"),
        ("char", "a", "b"),
        ("jsonb", '{"a": 1.0}', '{"a": 1.00}'),
        ("numeric[]", "{1.0}", "{1.00}"),
        ("text", "\u00e4", "a\u0308"),
        ("bytea", "\\x00", "\\x0000"),
        ("timestamptz", "2026-05-25 14:30:22+00", "2026-05-25 14:30:22.000001+00"),
    ],
)
def test_values_that_postgresql_calls_equal_but_that_are_not_the_same_differ(
    managed: Server, owner: Connection, kind: str, one: str, other: str
) -> None:
    owner.execute(f"CREATE TABLE odd (value {kind})")  # type: ignore[arg-type]
    owner.execute("INSERT INTO odd VALUES (%s)", [one])
    before = taken(managed)

    owner.execute("UPDATE odd SET value = %s", [other])

    assert compare(before, taken(managed)) == [f"table public.odd: 1 rows as expected, {DIFFER}"]


@on_all_majors
def test_a_manifest_summed_by_texts_is_compared_by_texts(
    managed: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert taken(managed).tables["public.scan_logs"].is_by_value
    assert not taken(managed).tables["public.qr_codes"].is_by_value
    with monkeypatch.context() as earlier:
        earlier.setattr(tables, "_EXACT_TYPES", [])
        before = taken(managed)
    assert not before.tables["public.scan_logs"].is_by_value

    assert compare(before, take_of(managed, application_name="t", like=before)) == []
    assert compare(before, taken(managed)) != []


def test_a_changed_byte_deep_in_a_large_object_is_found(managed: Server, owner: Connection) -> None:
    row = owner.execute("SELECT lo_from_bytea(0, decode(repeat('00', 3000000), 'hex'))").fetchone()
    assert row is not None
    before = taken(managed)

    owner.execute("SELECT lo_put(%s, 2999999, '\\x01')", row)

    assert compare(before, taken(managed)) == [f"large objects: 1 rows as expected, {DIFFER}"]


def test_tables_of_an_extension_and_temporary_tables_are_left_out(
    managed: Server, owner: Connection, postgres_server: embedded.EmbeddedServer
) -> None:
    before = taken(managed)

    owner.execute("CREATE TEMPORARY TABLE passing (id int)")
    owner.execute("CREATE TABLE member (id int)")
    owner.execute("CREATE TABLE free (id int)")
    with connect_as_superuser(postgres_server, managed.database) as connection:
        connection.execute("ALTER EXTENSION plpgsql ADD TABLE member")

    assert set(taken(managed).tables) - set(before.tables) == {"public.free"}


@on_all_majors
def test_the_manifest_is_that_of_the_dump_while_writers_work(
    managed: Server, pg_major: int, tmp_path: Path
) -> None:
    with writing(managed) as written, snapshot(managed, application_name="test") as view:
        wait_until(lambda: written() > 20)
        archive = dumped(managed, pg_major, tmp_path / "archive", snapshot=view.id)
        promised = take(view.connection)

    copy = restored(managed, pg_major, archive)

    assert compare(promised, taken(copy)) == []
    assert promised.tables["public.scan_logs"].rows < row_counts(managed)["public.scan_logs"]


def test_truncate_waits_for_the_end_of_a_snapshot(managed: Server, owner: Connection) -> None:
    with snapshot(managed, application_name="test") as view:
        owner.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            owner.execute("TRUNCATE scan_logs")

        seen = take(view.connection)

    assert seen.tables["public.scan_logs"].rows == 1002


@on_all_majors
def test_a_snapshot_may_be_idle_as_long_as_a_dump_takes(managed: Server, owner: Connection) -> None:
    owner.execute("ALTER DATABASE qrdb SET idle_in_transaction_session_timeout TO '100ms'")

    with snapshot(managed, application_name="test") as view:
        time.sleep(0.4)
        seen = take(view.connection)

    assert seen.rows == 1337


def test_each_table_is_reported_when_it_is_done(managed: Server) -> None:
    told: list[tuple[str, int]] = []

    with snapshot(managed, application_name="test") as view:
        take(view.connection, on_table=lambda name, rows: told.append((name, rows)))

    assert told == [("public.alembic_version", 1), ("public.qr_codes", 334), ("public.scan_logs", 1002)]


@on_all_majors
def test_a_cancelled_manifest_ends_the_statement_on_the_server(
    managed: Server, owner: Connection, superuser: Connection
) -> None:
    owner.execute("CREATE TABLE slow AS SELECT FROM generate_series(1, 3000000)")
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'to-be-cancelled'"
    at_work = sessions + " AND state = 'active' AND query LIKE '%\"slow\"%'"

    def watch() -> None:
        if superuser.execute(at_work).fetchone() != (0,):
            raise Cancelled("cancelled")

    with pytest.raises(Cancelled):
        take_of(managed, application_name="to-be-cancelled", watch=watch)

    wait_until(lambda: superuser.execute(sessions).fetchone() == (0,), seconds=20)


def test_a_cancel_is_heard_while_a_lock_is_awaited(managed: Server) -> None:
    def watch() -> None:
        raise Cancelled("cancelled")

    with psycopg.connect(url(managed)) as holder:
        holder.execute("LOCK TABLE qr_codes")
        started = time.monotonic()
        with pytest.raises(Cancelled):
            take_of(managed, application_name="test", watch=watch)

    assert time.monotonic() - started < 30


def test_a_table_that_may_not_be_read_is_a_missing_privilege(
    managed: Server, superuser: Connection, owner: Connection
) -> None:
    owner.execute("CREATE TABLE secret (id int)")
    owner.execute("REVOKE ALL ON secret FROM qr_owner")
    with pytest.raises(MissingPrivilege):
        taken(managed)


def test_a_manifest_survives_json(managed: Server, owner: Connection) -> None:
    owner.execute("SELECT lo_create(0)")
    seen = taken(managed)

    again = Manifest.from_json(json.loads(json.dumps(seen.to_json())))

    assert again == seen


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"format": 2},
        {"format": 1, "tables": [], "large_objects": None, "revision": None, "taken_at": ""},
        {"format": 1, "tables": {"a": {"rows": 1}}, "large_objects": None, "revision": None, "taken_at": ""},
    ],
)
def test_a_damaged_manifest_is_a_bad_backup(data: dict[str, Any]) -> None:
    with pytest.raises(BadBackup, match="manifest"):
        Manifest.from_json(data)


def test_differences_are_counted_by_table_and_not_by_order() -> None:
    one = Manifest({"a": TableState(1, "5"), "b": TableState(2, "6")}, None, None, "2025-01-01")
    same = Manifest({"b": TableState(2, "6"), "a": TableState(1, "5")}, None, None, "2026-01-01")

    assert compare(one, same) == []


def test_every_setting_that_is_fixed_is_known_to_the_server(superuser: Connection) -> None:
    wanted = set(manifest._TEXT_SETTINGS | manifest._PATIENCE_SETTINGS) - {"transaction_timeout"}

    known = {name for (name,) in superuser.execute("SELECT name FROM pg_settings")}

    assert wanted <= known


@contextmanager
def writing(server: Server) -> Iterator[Callable[[], int]]:
    """Two clients insert scans and change codes as fast as they can; yields how many there were."""
    is_over = threading.Event()
    count = [0, 0]

    def write(number: int) -> None:
        with psycopg.connect(url(server), autocommit=True) as connection:
            while not is_over.is_set():
                connection.execute(
                    "INSERT INTO scan_logs (id, qr_code_id)"
                    " SELECT gen_random_uuid(), (SELECT min(id) FROM qr_codes)"
                )
                connection.execute(
                    "UPDATE qr_codes SET scan_count = scan_count + 1"
                    " WHERE id = (SELECT min(id) FROM qr_codes)"
                )
                count[number] += 1

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: sum(count)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
