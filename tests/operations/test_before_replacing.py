"""The pages before a restore and an undo: what would go, what would come back, and what stands against it."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from backups_app import config
from backups_app.models import Backup, RestoreEvent
from backups_app.operations import sightings
from tests.conftest import url_of
from tests.interface.conftest import make_user
from tests.operations.fake_api import FakeApi
from tests.operations.site import Site

SCAN = """
INSERT INTO scan_logs (id, qr_code_id)
SELECT md5(random()::text), (SELECT max(id) FROM qr_codes) FROM generate_series(1, %s)
"""
DELETE = "DELETE FROM qr_codes WHERE id IN (SELECT id FROM qr_codes ORDER BY id LIMIT 20)"
MAKE = "INSERT INTO qr_codes (id, content, file_format) VALUES ('new-1', 'x', 'png'), ('new-2', 'x', 'png')"


@pytest.fixture
def staff(transactional_db: None) -> Client:
    client = Client()
    client.force_login(make_user("superuser"))
    return client


def page_before(client: Client, what: Backup | RestoreEvent) -> str:
    """Its text with single spaces, and its tags."""
    deed = "restore" if isinstance(what, Backup) else "undo"
    answer = client.get(f"/backups_app/{what._meta.model_name}/{what.pk}/{deed}/")
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def row_of(page: str, table: str) -> list[str]:
    """The cells of one table: live, then, would go, would come back; a loss with its mark."""
    row = next(row for row in re.findall(r"<tr.*?</tr>", page) if table in row.replace("<wbr>", ""))
    cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
    return [re.sub(r"</?span[^>]*>|</?strong>|</strong>", "", cell).strip() for cell in cells]


def test_losses_are_not_net_of_what_comes_back(
    one_folder: Site, staff: Client, owner: psycopg.Connection[Any]
) -> None:
    backup = one_folder.backup()
    (scans,) = owner.execute("SELECT count(*) FROM scan_logs").fetchone() or (0,)
    owner.execute(DELETE)
    (left,) = owner.execute("SELECT count(*) FROM scan_logs").fetchone() or (0,)
    owner.execute(MAKE)
    owner.execute(SCAN, (412,))

    page = page_before(staff, backup)

    assert row_of(page, "public.qr_codes") == ["316", "334", '<strong class="loss">2', "20"]
    assert row_of(page, "public.scan_logs") == [
        f"{left + 412:,}",
        f"{scans:,}",
        '<strong class="loss">412',
        str(scans - left),
    ]
    assert "412 scans and 2 QR codes made since would be lost." in page
    assert f"{scans - left} scans and 20 QR codes deleted since would come back." in page


def test_where_nobody_knows_when_rows_came_it_is_at_least_so_many(
    one_folder: Site, staff: Client, owner: psycopg.Connection[Any]
) -> None:
    owner.execute("CREATE TABLE a_note AS SELECT 1 AS id")
    backup = one_folder.backup()
    owner.execute("INSERT INTO a_note VALUES (2), (3), (4)")

    page = page_before(staff, backup)

    assert row_of(page, "public.a_note") == ["4", "1", '<strong class="loss">at least 3', "none known"]
    assert "At least 3 rows of public.a_note made since would be lost." in page


def test_the_page_before_an_undo_tells_what_was_made_since_the_swap_apart_from_what_the_restore_brought(
    one_folder: Site, staff: Client, owner: psycopg.Connection[Any], at_step: Any
) -> None:
    backup = one_folder.backup()
    (scans,) = owner.execute("SELECT count(*) FROM scan_logs").fetchone() or (0,)
    owner.execute(DELETE)
    (left,) = owner.execute("SELECT count(*) FROM scan_logs").fetchone() or (0,)
    owner.execute(MAKE)
    owner.execute(SCAN, (5,))
    owner.close()
    # While the operation still runs, the restored database is in use already.
    at_step("Compare before with after", lambda _: one_folder.execute(SCAN.replace("%s", "3")))
    assert one_folder.restore(backup).state == "succeeded"
    one_folder.execute(SCAN.replace("%s", "4"))

    page = page_before(staff, one_folder.event())

    assert "7 scans made since then would no longer be live." in page
    assert row_of(page, "public.scan_logs")[2:] == [f'<strong class="loss">{scans - left + 7}', "5"]
    assert row_of(page, "public.qr_codes")[2:] == ['<strong class="loss">20', "2"]
    assert f"What would go in all: {scans - left + 7} scans and 20 QR codes." in page
    assert "What would come back: 5 scans and 2 QR codes." in page


def test_the_page_before_the_undo_of_an_undo_tells_what_goes_and_what_comes_back(
    one_folder: Site, staff: Client
) -> None:
    backup = one_folder.backup()
    one_folder.execute(DELETE)
    one_folder.execute(MAKE)
    one_folder.restore(backup)
    one_folder.execute(MAKE.replace("new-1", "late"))
    one_folder.undo(one_folder.event())
    one_folder.execute("INSERT INTO qr_codes (id, content, file_format) VALUES ('last', 'x', 'png')")

    page = page_before(staff, one_folder.event())

    assert "1 QR code made since then would no longer be live." in page
    assert row_of(page, "public.qr_codes") == ["317", "336", '<strong class="loss">3', "22"]


def test_what_was_deleted_since_the_restore_makes_the_counts_the_least_that_there_can_be(
    one_folder: Site, staff: Client
) -> None:
    backup = one_folder.backup()
    one_folder.execute(DELETE)
    one_folder.restore(backup)
    one_folder.execute("DELETE FROM qr_codes WHERE id = (SELECT max(id) FROM qr_codes)")

    page = page_before(staff, one_folder.event())

    assert row_of(page, "public.qr_codes")[2:] == ['<strong class="loss">at least 19', "none known"]


def test_after_another_restore_nobody_claims_to_know_what_was_made_since_the_backup(
    one_folder: Site, staff: Client
) -> None:
    backup = one_folder.backup()
    one_folder.execute(DELETE)
    one_folder.restore(backup)
    safety = one_folder.event().safety_backup
    assert safety is not None

    page = page_before(staff, safety)

    assert row_of(page, "public.qr_codes")[2:] == ['<strong class="loss">at least 20', "none known"]
    assert "20 QR codes that the backup does not have would be lost." in page
    assert "made since would be lost" not in page


def test_a_replaced_database_that_somebody_dropped_is_told_before_the_undo(
    one_folder: Site, staff: Client
) -> None:
    one_folder.restore(one_folder.backup())
    event = one_folder.event()
    with one_folder.connected("postgres") as connection:
        connection.execute(f'DROP DATABASE "{event.replaced_database}"')

    page = page_before(staff, event)

    assert f"There is no database {event.replaced_database}" in page


def test_with_postgresql_down_the_page_says_that_a_restore_would_be_refused_and_nothing_wrong(
    one_folder: Site, staff: Client, settings: Settings
) -> None:
    backup = one_folder.backup()
    settings.MANAGED_DATABASE_URL = url_of(one_folder.server).replace(f":{one_folder.server.port}/", ":1/")

    page = page_before(staff, backup)

    assert re.search(r'<div class="banner bad" role="alert"><p><strong>A restore would be refused now:', page)
    assert "cannot be reached" in page
    assert "The migration revisions do not fit." not in page
    assert "could not be looked at whole" not in page


def test_a_revision_that_cannot_be_read_is_not_told_as_one_that_does_not_fit(
    one_folder: Site, staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backups_app.systems.postgres import recent

    monkeypatch.setattr(recent, "PATIENCE", "SET lock_timeout = '100ms'")
    backup = one_folder.backup()

    with one_folder.locked("alembic_version"):
        page = page_before(staff, backup)

    assert "The migration revisions do not fit." not in page
    assert "A restore would be refused now" not in page
    assert "The live database could not be looked at whole." in page


def test_an_engine_that_does_not_answer_a_worker_is_among_what_a_restore_and_an_undo_would_be_refused_for(
    one_folder: Site, staff: Client, settings: Settings
) -> None:
    backup = one_folder.backup()
    one_folder.restore(backup)
    settings.API_CONTAINER, settings.DOCKER_HOST = "qr_generator_api", "tcp://127.0.0.1:1"
    sightings.look(config.api())
    settings.DOCKER_HOST = ""

    before_restore = page_before(staff, backup)
    before_undo = page_before(staff, one_folder.event())

    for page, deed in ((before_restore, "A restore"), (before_undo, "An undo")):
        told = page.partition(f"{deed} would be refused now:")[2].partition("</ul>")[0]
        assert "Docker" in told


def test_before_the_first_restore_it_is_said_how_long_the_api_will_be_down(
    one_folder: Site, staff: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = FakeApi()
    monkeypatch.setattr("backups_app.config.api", lambda: api)
    settings.API_CONTAINER = "qr_generator_api"
    backup = one_folder.backup()

    before = page_before(staff, backup)
    one_folder.restore(backup)
    after = page_before(staff, backup)

    assert "For how long it is down was not measured yet" in before
    assert "For how long it is down was not measured yet" not in after
    assert "lately (median)" in after


@pytest.mark.parametrize("slug", ["upgrade", "new-server"])
def test_a_runbook_whose_way_back_is_a_restore_says_what_would_refuse_it(
    one_folder: Site, staff: Client, superuser: psycopg.Connection[Any], slug: str
) -> None:
    address, said = f"/runbooks/{slug}/", "A restore would be refused now:"
    before = staff.get(address).content.decode()
    superuser.execute("ALTER ROLE qr_owner NOCREATEDB")

    after = staff.get(address).content.decode()

    assert said not in before
    assert said in after
    assert "ALTER ROLE qr_owner CREATEDB" in after
