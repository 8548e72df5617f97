"""What is new since the last validated backup is counted when the live database is validated."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from backups_app.operations.exposure import Exposure, in_words
from backups_app.operations.preview import compare_rows, look_at_live
from tests.operations.site import Site

SOME = "SELECT id FROM qr_codes ORDER BY id LIMIT 3"


def exposure(site: Site) -> Exposure | None:
    return Exposure.from_result(site.validate_database().result)


def scan(owner: psycopg.Connection[Any], count: int) -> None:
    owner.execute(
        "INSERT INTO scan_logs (id, qr_code_id) SELECT 'new-' || n, (SELECT min(id) FROM qr_codes)"
        " FROM generate_series(1, %s) n",
        (count,),
    )


def test_nothing_is_counted_without_a_backup(one_folder: Site) -> None:
    assert exposure(one_folder) is None


def test_right_after_a_backup_nothing_is_new(one_folder: Site) -> None:
    backup = one_folder.backup()

    assert exposure(one_folder) == Exposure(backup.name)


def test_new_scans_and_codes_are_counted(one_folder: Site, owner: psycopg.Connection[Any]) -> None:
    backup = one_folder.backup()
    scan(owner, 4)
    owner.execute("CREATE TEMPORARY TABLE one AS SELECT * FROM qr_codes LIMIT 1")
    owner.execute("UPDATE one SET id = 'new', short_id = 'new', created_at = now()")
    owner.execute("INSERT INTO qr_codes SELECT * FROM one")

    assert exposure(one_folder) == Exposure(backup.name, scans=4, codes=1)


def test_what_was_deleted_is_told_apart_from_what_came(
    one_folder: Site, owner: psycopg.Connection[Any]
) -> None:
    backup = one_folder.backup()
    (scans,) = owner.execute(f"SELECT count(*) FROM scan_logs WHERE qr_code_id IN ({SOME})").fetchone() or (
        0,
    )
    owner.execute(f"DELETE FROM qr_codes WHERE id IN ({SOME})")
    scan(owner, 2)

    found = exposure(one_folder)

    assert found == Exposure(backup.name, scans=2, codes=0, deleted_scans=scans, deleted_codes=3)


def test_a_restore_tells_what_would_go_apart_from_what_would_come_back(
    one_folder: Site, owner: psycopg.Connection[Any]
) -> None:
    """As many came as went: the difference of the rows is none, and yet both are lost."""
    backup = one_folder.backup()
    owner.execute("DELETE FROM scan_logs WHERE id IN (SELECT id FROM scan_logs ORDER BY id LIMIT 2)")
    scan(owner, 2)

    live = look_at_live(since=backup.snapshot_at)
    then = {table: facts["rows"] for table, facts in (backup.manifest or {})["tables"].items()}
    changes = {change.table: change for change in compare_rows(live.rows, then, live.growth)}

    scans = changes["public.scan_logs"]
    assert (scans.difference, scans.lost, scans.regained) == (0, 2, 2)
    codes = changes["public.qr_codes"]
    assert (codes.difference, codes.lost, codes.regained) == (0, 0, 0)


def test_one_connection_answers_all_that_a_page_asks(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = one_folder.backup()
    opened: list[object] = []
    original = psycopg.connect

    def connect(*words: Any, **more: Any) -> Any:
        opened.append(more)
        return original(*words, **more)

    monkeypatch.setattr(psycopg, "connect", connect)

    live = look_at_live(since=backup.snapshot_at)

    assert len(opened) == 1
    assert (live.trouble, live.revision, live.problems) == ("", "8d13a4dfeb1d", ())
    assert live.rows is not None
    assert live.rows["public.qr_codes"] == live.growth["qr_codes"].total == 334


def test_what_is_known_is_told_when_the_rest_cannot_be_had(
    one_folder: Site, owner: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who holds a table keeps the rows from being counted, and nothing else from being told."""
    from backups_app.operations import preview

    monkeypatch.setattr(preview, "COUNTING_SECONDS", 0.5)
    backup = one_folder.backup()

    with one_folder.locked("scan_logs"):
        live = look_at_live(since=backup.snapshot_at)

    assert live.facts is not None
    assert (live.revision, live.rows) == ("8d13a4dfeb1d", None)
    assert "Counting the live rows was given up after 0.5 seconds." in live.trouble


def test_the_trail_says_it_in_words(one_folder: Site, owner: psycopg.Connection[Any]) -> None:
    backup = one_folder.backup()
    scan(owner, 1)

    operation = one_folder.validate_database()

    assert operation.steps.filter(what__startswith=f"New since {backup.name}: scans 1, QR codes 0.").exists()


def test_a_table_without_its_usual_column_is_left_out(
    one_folder: Site, owner: psycopg.Connection[Any]
) -> None:
    one_folder.backup()
    owner.execute("ALTER TABLE scan_logs RENAME COLUMN scanned_at TO seen_at")

    operation = one_folder.validate_database()

    assert operation.state == "succeeded"
    assert operation.result["exposure"]["scans"] == 0
    assert operation.result["exposure"]["codes"] == 0


def test_what_cannot_be_counted_is_a_warning_and_the_database_stays_valid(
    one_folder: Site, owner: psycopg.Connection[Any], monkeypatch: Any
) -> None:
    from backups_app.errors import MissingPrivilege
    from backups_app.systems.postgres import recent

    def refuse(*_args: Any, **_options: Any) -> None:
        raise MissingPrivilege("This role may not read the table scan_logs.")

    one_folder.backup()
    monkeypatch.setattr(recent, "growth", refuse)

    operation = one_folder.validate_database()

    assert operation.state == "succeeded"
    assert "exposure" not in operation.result
    assert operation.steps.filter(level="warning", what__contains="may not read the table scan_logs").exists()


@pytest.mark.parametrize(
    ("exposure", "text"),
    [
        (Exposure("x", scans=412, codes=3), "412 scans and 3 QR codes since the last validated backup"),
        (Exposure("x", scans=1_200), "1,200 scans since the last validated backup"),
        (Exposure("x", codes=1), "1 QR code since the last validated backup"),
        (Exposure("x"), "Nothing new since the last validated backup"),
        (
            Exposure("x", deleted_scans=1, deleted_codes=2),
            "1 scan and 2 QR codes deleted since the last validated backup",
        ),
        (
            Exposure("x", scans=5, deleted_codes=2),
            "5 scans new and 2 QR codes deleted since the last validated backup",
        ),
    ],
)
def test_words(exposure: Exposure, text: str) -> None:
    assert in_words(exposure) == text


def test_after_a_restore_it_is_counted_from_the_restored_backup(
    one_folder: Site, owner: psycopg.Connection[Any]
) -> None:
    backup = one_folder.backup()
    owner.execute(f"DELETE FROM qr_codes WHERE id IN ({SOME})")
    one_folder.restore(backup)

    assert exposure(one_folder) == Exposure(backup.name)
