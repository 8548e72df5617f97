"""The runbooks list the backups they speak of, and name no button that is not there or would be refused."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from backups_app.models import Backup
from backups_app.presentation import runbooks
from tests.interface.conftest import MANIFEST, Log_in, make_backup, make_beat, make_operation

pytestmark = pytest.mark.django_db
SLUGS = [runbook.slug for runbook in runbooks.ALL]
NOW = timezone.now()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, settings: Any) -> None:
    settings.BACKUP_LOCATIONS = f"working={tmp_path}"
    settings.MANAGED_DATABASE_URL = "postgresql://qr_user:the-secret@127.0.0.1:1/qrdb"


@pytest.fixture
def managed_api(settings: Any) -> None:
    settings.API_CONTAINER = "qr_api"


def made(days: float, **changes: Any) -> Backup:
    """A backup of so many days ago, and what it says of when its data were like that."""
    when = NOW - timedelta(days=days)
    manifest = {**MANIFEST, "taken_at": changes.pop("taken_at", when).isoformat()}
    name = f"qrdb_{when:%Y%m%d_%H%M%S}.sql"
    return make_backup(name, created_at=when, manifest=manifest, **changes)


def body(client: Client, address: str) -> str:
    """What stands between the header and the footer."""
    page = client.get(f"/runbooks/{address}").content.decode()
    return page.partition("<main")[2].partition("</main>")[0]


def listed(page: str) -> list[str]:
    """The names of the backups in the list, in their order."""
    part = page.partition('id="sound-title"')[2].partition("</section>")[0]
    return re.findall(r"· (qrdb_\S+)</a>", part)


def steps(page: str) -> str:
    return page.partition('id="steps-title"')[2].partition("</section>")[0]


def test_the_proven_and_the_pinned_are_listed_beside_the_newest(staff: Client) -> None:
    daily = [made(days) for days in range(6)]
    proven = made(6, proven_at=NOW)
    made(13, proven_at=NOW)
    pinned = made(90, is_pinned=True, pin_reason="before the upgrade to 2.0")

    page = body(staff, "corruption/")

    assert listed(page) == [one.name for one in (*daily[:5], proven, pinned)]
    assert "before the upgrade to 2.0" in page
    assert 'href="/backups_app/backup/?state=present"' in page


def test_what_is_newest_proven_and_pinned_is_listed_once(staff: Client) -> None:
    only = made(1, proven_at=NOW, is_pinned=True)

    assert listed(body(staff, "upgrade/")) == [only.name]


def test_a_pinned_one_that_is_damaged_or_gone_is_not_offered(staff: Client) -> None:
    made(1, is_pinned=True, damage="cut short")
    made(2, is_pinned=True, removed_at=NOW)
    unvalidated = made(3, is_pinned=True, validated_at=None)

    assert listed(body(staff, "new-server/")) == [unvalidated.name]


def test_one_from_before_a_restore_stands_apart_even_when_it_is_pinned(staff: Client) -> None:
    made(40, origin="safety", is_pinned=True)
    for days in range(4):
        made(days, origin="safety")
    good = made(5)

    page = body(staff, "corruption/")

    assert listed(page.partition("these hold the state")[0] + "</section>") == [good.name]
    assert len(listed(page)) == 1 + 3 + 1


@pytest.mark.parametrize("slug", ["accidental-deletion", "corruption"])
def test_a_backup_of_the_damaged_state_is_never_the_first_to_be_restored(staff: Client, slug: str) -> None:
    safety = made(0, origin="safety")
    good = made(1)

    page = body(staff, f"{slug}/")
    restores = re.findall(r'href="/backups_app/backup/(\d+)/restore/"', page)

    assert restores == [str(good.pk)]
    assert (
        page.index(good.name) < page.index("these hold the state that was replaced") < page.index(safety.name)
    )


def test_the_backups_from_before_a_loss_are_found(staff: Client, settings: Any) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    for days in range(40):
        made(days)
    lost = timezone.localtime(NOW - timedelta(days=20.5))

    page = body(staff, f"accidental-deletion/?before={lost:%Y-%m-%dT%H:%M}")

    assert listed(page) == [one.name for one in Backup.objects.filter(created_at__lt=lost)[:5]]
    assert len(listed(page)) == 5
    assert f'value="{lost:%Y-%m-%dT%H:%M}"' in page


def test_one_whose_data_are_younger_than_the_loss_is_not_among_them(staff: Client) -> None:
    """Its name is given when it begins; what was committed until its snapshot is in it, losses too."""
    lost = NOW - timedelta(days=2)
    made(2.001, taken_at=lost + timedelta(minutes=1))
    before = made(3)

    page = body(staff, f"accidental-deletion/?before={lost:%Y-%m-%dT%H:%M:%S}")

    assert listed(page) == [before.name]


@pytest.mark.parametrize(
    "typed", ["yesterday", "2026-13-01T00:00", "0001-01-01T00:00", "9999-12-31T23:59", "%00"]
)
def test_a_moment_that_is_none_is_said_and_the_newest_are_shown(staff: Client, typed: str) -> None:
    newest = made(1)

    page = body(staff, f"accidental-deletion/?before={typed}")

    assert "This moment cannot be understood" in page
    assert listed(page) == [newest.name]


def test_no_response_time_is_promised_that_nobody_set(staff: Client, settings: Any) -> None:
    assert "No times are set" in body(staff, "corruption/")

    settings.RESPONSE_TIMES = "Emergency restore: immediate; Training: 1 week"

    assert "immediate" in body(staff, "corruption/")


# --- buttons -------------------------------------------------------------------------------------------


def test_what_is_to_be_proven_and_pinned_has_the_buttons_for_it_until_it_is(staff: Client) -> None:
    backup = made(0)
    prove, pin = (f"/backups_app/backup/{backup.pk}/{deed}/" for deed in ("prove", "pin"))

    for slug in ("upgrade", "new-server"):
        page = steps(body(staff, f"{slug}/"))
        assert f'formaction="{prove}"' in page
        assert f'href="{pin}"' in page

    backup.mark_proven({})
    staff.post(pin, {"reason": "before the upgrade"})

    for slug in ("upgrade", "new-server"):
        page = body(staff, f"{slug}/")
        assert prove not in page
        assert pin not in page, "the step followed twice would take the pin away"


def test_the_pinned_backup_has_its_restore_beside_the_step_that_asks_for_it(staff: Client) -> None:
    pinned = made(50, is_pinned=True)
    made(0)

    for slug in ("upgrade", "new-server"):
        assert f'href="/backups_app/backup/{pinned.pk}/restore/"' in steps(body(staff, f"{slug}/"))


def test_the_backup_from_before_a_loss_can_be_proven_and_downloaded(staff: Client) -> None:
    backup = made(0)

    page = body(staff, "accidental-deletion/")

    for deed in ("prove", "download"):
        assert f'formaction="/backups_app/backup/{backup.pk}/{deed}/"' in page


@pytest.mark.usefixtures("managed_api")
@pytest.mark.parametrize("slug", SLUGS)
@pytest.mark.parametrize("role", ["helpdesk", "itstaff"])
def test_every_link_and_every_button_answers(log_in: Log_in, slug: str, role: str) -> None:
    make_beat()
    made(0)
    made(1, damage="cut short")
    made(2, is_pinned=True)
    make_operation("validate_database", "failed", blame="database", error="x")
    client = log_in(role)

    page = body(client, f"{slug}/")

    for link in set(re.findall(r'href="(/[^"#]*)"', page)):
        assert client.get(link.replace("&amp;", "&")).status_code == 200, link
    deeds = set(re.findall(r'action="([^"]+)"', page))
    if role == "helpdesk":
        assert not deeds
        assert "#api" not in page
        assert "Your account only looks" in page
    for deed in deeds:
        assert client.post(deed, {"reason": "x"}).status_code == 302, deed


@pytest.mark.parametrize("slug", SLUGS)
@pytest.mark.parametrize("role", ["helpdesk", "itstaff"])
def test_where_the_api_is_not_managed_no_step_sends_to_a_form_that_is_not_there(
    log_in: Log_in, settings: Any, slug: str, role: str
) -> None:
    settings.API_CONTAINER = ""

    page = body(log_in(role), f"{slug}/")

    assert "#api" not in page
    assert "below" not in page
    if "Stop the API</strong>" in page:
        assert "docker compose stop api" in page


@pytest.mark.usefixtures("managed_api")
@pytest.mark.parametrize("slug", [one.slug for one in runbooks.ALL if one.uses_api])
def test_where_it_is_managed_the_form_is_open(staff: Client, slug: str) -> None:
    page = body(staff, f"{slug}/")

    assert '<details class="card api" id="api" open>' in page


def test_what_failed_last_is_what_was_validated(staff: Client) -> None:
    for number in range(6):
        make_operation("download", "failed", error=f"download {number}")
    for kind, state in (
        ("validate_backup", "failed"),
        ("prove_backup", "interrupted"),
        ("check_copies", "failed"),
        ("validate_database", "failed"),
        ("validate_database", "succeeded"),
    ):
        make_operation(kind, state, error=f"{kind} {state}")

    page = body(staff, "failed-validation/")

    assert "download 5" not in page
    for text in (
        "validate_backup failed",
        "prove_backup interrupted",
        "check_copies failed",
        "validate_database failed",
    ):
        assert text in page
    assert "validate_database succeeded" not in page


def test_a_damaged_backup_can_be_validated_again_from_there(staff: Client) -> None:
    damaged = made(0, damage="cut short")

    assert f'formaction="/backups_app/backup/{damaged.pk}/validate/"' in body(staff, "failed-validation/")


# --- recipes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slug", "commands"),
    [
        ("accidental-deletion", ["createdb", "_rows", "INSERT INTO scan_logs"]),
        (
            "upgrade",
            ["createdb", "_trial", "--entrypoint alembic", "docker cp qr_generator_api:/app/data", ".env"],
        ),
        ("new-server", ["_trial", "users.htpasswd", "docker cp --archive - qr_generator_api:/app"]),
    ],
)
def test_the_commands_are_filled_in_for_this_system_and_hold_no_password(
    staff: Client, slug: str, commands: list[str]
) -> None:
    backup = made(0, server_version="16.4")

    page = body(staff, f"{slug}/")

    for command in commands:
        assert command in page
    assert f"FILE=&quot;$PWD&quot;/{backup.name}" in page
    assert "/usr/lib/postgresql/16/bin" in page
    assert "PGHOST=127.0.0.1 PGPORT=1 PGUSER=qr_user" in page
    assert "the-secret" not in page


def test_the_commands_are_for_the_backup_that_the_step_speaks_of(staff: Client) -> None:
    pinned = made(9, is_pinned=True)
    made(0)
    lost = NOW - timedelta(days=5)

    trial = body(staff, "upgrade/")
    rows = body(staff, f"accidental-deletion/?before={lost:%Y-%m-%dT%H:%M}")

    assert f"FILE=&quot;$PWD&quot;/{pinned.name}" in trial
    assert f"FILE=&quot;$PWD&quot;/{pinned.name}" in rows


def test_without_a_database_and_a_backup_they_are_examples(staff: Client, settings: Any) -> None:
    settings.MANAGED_DATABASE_URL, settings.API_MIGRATE_COMMAND = "", ""

    page = body(staff, "upgrade/")

    assert "--entrypoint alembic" in page
    assert "FILE=&quot;$PWD&quot;/qrdb_20250525_143022.sql" in page


def test_the_moment_of_a_loss_is_one_of_the_sites_time_zone(settings: Any) -> None:
    settings.TIME_ZONE = "Europe/Berlin"

    found = runbooks.loss_of("2026-07-01T12:00")

    assert found.moment == datetime.fromisoformat("2026-07-01T10:00:00+00:00")
