"""Each check passes on a sound database, and fails with a remedy on one that is broken in its way."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from backups_app.errors import Cancelled
from backups_app.systems.postgres import health
from backups_app.systems.postgres.connections import Server
from backups_app.systems.postgres.health import Check, Expectations, check_database
from deploy.demo import sample
from tests.conftest import on_all_majors
from tests.systems.pg_tools import create_peculiar_tables, url

Connection = psycopg.Connection[Any]

EXPECTED = Expectations(revision=sample.HEAD)
NAMES = ["connection", "revision", "tables", "columns", "orphans", "duplicates", "indexes", "constraints"]


def checks_of(server: Server, expectations: Expectations = EXPECTED) -> dict[str, Check]:
    return {check.name: check for check in check_database(server, expectations)}


def failed(checks: dict[str, Check]) -> list[str]:
    return [name for name, check in checks.items() if check.outcome != "passed"]


@on_all_majors
def test_every_check_passes_on_the_sample(managed: Server, owner: Connection) -> None:
    create_peculiar_tables(owner)

    checks = checks_of(managed)

    assert list(checks) == NAMES
    assert failed(checks) == []
    assert all(check.message and check.title and not check.remedy for check in checks.values())
    assert sum(check.seconds for check in checks.values()) < 3


@on_all_majors
@pytest.mark.parametrize(
    ("damage", "name", "message", "remedy"),
    [
        ("DROP TABLE alembic_version", "revision", "alembic_version is missing", "alembic stamp"),
        ("DELETE FROM alembic_version", "revision", "0 rows instead of one", "restore a validated backup"),
        (
            "INSERT INTO alembic_version VALUES ('17f4914834ef')",
            "revision",
            "2 rows instead of one: 17f4914834ef, 8d13a4dfeb1d",
            "Leave the one row",
        ),
        (
            "UPDATE alembic_version SET version_num = 'unknown'",
            "revision",
            "revision unknown, expected is 8d13a4dfeb1d",
            "alembic upgrade head",
        ),
        ("DROP TABLE alembic_version", "tables", "1 required table missing: alembic_version", "Do not start"),
        (
            "ALTER TABLE qr_codes DROP border, DROP size",
            "columns",
            "2 required columns missing: qr_codes.size, qr_codes.border",
            "restore a validated backup",
        ),
        (
            """
            ALTER TABLE scan_logs DROP CONSTRAINT scan_logs_qr_code_id_fkey;
            UPDATE scan_logs SET qr_code_id = 'gone' WHERE id IN (SELECT id FROM scan_logs LIMIT 3)
            """,
            "orphans",
            "3 scans of 1 QR code that does not exist: gone.",
            "foreign key",
        ),
        (
            """
            DROP INDEX ix_qr_codes_short_id;
            UPDATE qr_codes SET short_id = 'twice' WHERE id IN (SELECT id FROM qr_codes LIMIT 2)
            """,
            "duplicates",
            "1 short id used by more than one QR code: twice",
            "unique index",
        ),
        (
            """
            ALTER TABLE scan_logs DROP CONSTRAINT scan_logs_qr_code_id_fkey;
            UPDATE scan_logs SET qr_code_id = 'gone' WHERE id = (SELECT min(id) FROM scan_logs)
            """,
            "orphans",
            "1 scan of a QR code that does not exist: gone.",
            "foreign key",
        ),
        (
            """
            ALTER TABLE scan_logs DROP CONSTRAINT scan_logs_qr_code_id_fkey;
            UPDATE scan_logs SET qr_code_id = 'away' WHERE id = (SELECT max(id) FROM scan_logs);
            UPDATE scan_logs SET qr_code_id = 'gone' WHERE id = (SELECT min(id) FROM scan_logs)
            """,
            "orphans",
            "2 scans of 2 QR codes that do not exist, such as away.",
            "foreign key",
        ),
        (
            "DROP TABLE qr_codes CASCADE; DROP TABLE alembic_version",
            "tables",
            "2 required tables missing: qr_codes, alembic_version.",
            "Do not start",
        ),
        (
            """
            ALTER TABLE qr_codes
            DROP scan_count, DROP last_scan_at, DROP fill_color, DROP back_color, DROP size, DROP border
            """,
            "columns",
            (
                "6 required columns missing: qr_codes.scan_count, qr_codes.last_scan_at, "
                "qr_codes.fill_color, qr_codes.back_color, qr_codes.size, … (+1)."
            ),
            "restore a validated backup",
        ),
        (
            """
            DROP INDEX ix_qr_codes_short_id;
            UPDATE qr_codes SET short_id = 'a' WHERE id IN (SELECT id FROM qr_codes ORDER BY id LIMIT 2);
            UPDATE qr_codes SET short_id = 'b' WHERE id IN (SELECT id FROM qr_codes ORDER BY id DESC LIMIT 2)
            """,
            "duplicates",
            "2 short ids used by more than one QR code: a, b.",
            "unique index",
        ),
        (
            """
            ALTER TABLE qr_codes ADD CONSTRAINT sane CHECK (size > 0) NOT VALID;
            ALTER TABLE qr_codes ADD CONSTRAINT wide CHECK (border > 0) NOT VALID
            """,
            "constraints",
            (
                "2 constraints never checked against the older rows: "
                "sane (public.qr_codes), wide (public.qr_codes)."
            ),
            "VALIDATE CONSTRAINT wide;",
        ),
        (
            "ALTER TABLE qr_codes ADD CONSTRAINT sane CHECK (size > 0) NOT VALID",
            "constraints",
            "1 constraint never checked against the older rows: sane (public.qr_codes).",
            "ALTER TABLE public.qr_codes VALIDATE CONSTRAINT sane;",
        ),
    ],
)
def test_a_broken_database_fails_its_check(
    managed: Server, owner: Connection, damage: str, name: str, message: str, remedy: str
) -> None:
    owner.execute(damage)  # type: ignore[arg-type]

    check = checks_of(managed)[name]

    assert check.outcome == "failed"
    assert message in check.message
    assert remedy in check.remedy


@on_all_majors
def test_an_index_whose_building_failed_is_found(managed: Server, owner: Connection) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation):
        owner.execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON qr_codes (qr_type)")

    checks = checks_of(managed)

    assert failed(checks) == ["indexes"]
    assert checks["indexes"].message.endswith("public.broken.")
    assert checks["indexes"].remedy == "Build them again: REINDEX INDEX public.broken;"


def test_indexes_whose_building_failed_are_found(managed: Server, owner: Connection) -> None:
    for name in ("broken", "torn"):
        with pytest.raises(psycopg.errors.UniqueViolation):
            owner.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON qr_codes (qr_type)")  # type: ignore[arg-type]

    check = checks_of(managed)["indexes"]

    assert check.message == "2 indexes invalid and left unused by PostgreSQL: public.broken, public.torn."
    assert check.remedy.endswith("REINDEX INDEX public.broken; REINDEX INDEX public.torn;")


@pytest.mark.parametrize("pg_major", [18], indirect=True)
def test_a_constraint_that_is_not_meant_to_be_enforced_is_sound(managed: Server, owner: Connection) -> None:
    owner.execute("ALTER TABLE qr_codes ADD CONSTRAINT wish CHECK (size > 5) NOT ENFORCED")

    assert failed(checks_of(managed)) == []


def test_any_single_revision_passes_when_none_is_expected(managed: Server, owner: Connection) -> None:
    owner.execute("UPDATE alembic_version SET version_num = 'whatever'")

    assert failed(checks_of(managed, Expectations())) == []


def test_an_empty_database_fails_and_skips_without_raising(managed: Server, owner: Connection) -> None:
    owner.execute("DROP TABLE scan_logs, qr_codes, alembic_version")

    checks = checks_of(managed)

    assert {name: check.outcome for name, check in checks.items()} == {
        "connection": "passed",
        "revision": "failed",
        "tables": "failed",
        "columns": "skipped",
        "orphans": "skipped",
        "duplicates": "skipped",
        "indexes": "passed",
        "constraints": "passed",
    }


def test_tables_and_columns_are_those_that_are_expected(managed: Server, owner: Connection) -> None:
    owner.execute('CREATE TABLE "Odd" ("Key" int)')
    expectations = Expectations(tables=("Odd", "odd"), columns={"Odd": ("Key", "key")})

    checks = checks_of(managed, expectations)

    assert checks["tables"].message == "1 required table missing: odd."
    assert checks["columns"].message == "1 required column missing: Odd.key."


def test_a_server_that_is_down_fails_the_connection_and_skips_the_rest(managed: Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        checks = checks_of(replace(managed, port=unused.getsockname()[1]))

    assert list(checks) == NAMES
    assert checks["connection"].outcome == "failed"
    assert checks["connection"].remedy
    assert {check.outcome for name, check in checks.items() if name != "connection"} == {"skipped"}


@pytest.mark.parametrize("wrong", [{"password": "wrong-secret"}, {"database": "qrdb_never"}])
def test_a_refused_login_fails_the_connection_without_telling_the_password(
    managed: Server, wrong: dict[str, Any]
) -> None:
    check = checks_of(replace(managed, **wrong))["connection"]

    assert check.outcome == "failed"
    assert "wrong-secret" not in check.message
    assert managed.password not in check.message


def test_a_locked_table_is_a_warning_and_the_other_checks_go_on(
    managed: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "LOCK_WAIT_SECONDS", 1)

    with psycopg.connect(url(managed)) as holder:
        holder.execute("LOCK TABLE scan_logs")
        checks = checks_of(managed)

    assert failed(checks) == ["orphans"]
    assert checks["orphans"].outcome == "warning"
    assert checks["orphans"].remedy


def test_a_connection_lost_on_the_way_fails_what_is_left(managed: Server, superuser: Connection) -> None:
    calls = []

    def watch() -> None:
        calls.append(1)
        if len(calls) == 3:
            superuser.execute(
                "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity"
                " WHERE application_name = 'qradmin-health'"
            )

    checks = {check.name: check.outcome for check in check_database(managed, EXPECTED, watch=watch)}

    assert list(checks) == NAMES
    assert checks["tables"] == "passed"
    assert checks["columns"] == checks["constraints"] == "failed"


def test_a_cancelled_validation_ends(managed: Server) -> None:
    def watch() -> None:
        raise Cancelled("cancelled")

    with pytest.raises(Cancelled):
        check_database(managed, EXPECTED, watch=watch)


def test_hostile_settings_do_not_fail_a_sound_database(managed: Server, owner: Connection) -> None:
    for setting in ("statement_timeout TO '1ms'", "quote_all_identifiers TO on", "row_security TO on"):
        owner.execute(f"ALTER DATABASE qrdb SET {setting}")

    assert failed(checks_of(managed)) == []
