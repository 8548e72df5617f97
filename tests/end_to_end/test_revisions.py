"""A backup's migration revision is compared with the live one before a restore is confirmed."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from django.core.management import call_command
from django.test import Client
from pytest_django.fixtures import Settings

from backups_app import config
from backups_app.errors import NotConfigured
from backups_app.models import Backup, Operation
from backups_app.operations import revisions
from tests.interface.conftest import make_user
from tests.operations.site import Site

OLD, HEAD = "d59b26b7dd93", "8d13a4dfeb1d"


@pytest.mark.parametrize(
    ("backup", "live", "relation", "is_warning", "offers_migrations"),
    [
        (HEAD, HEAD, "same", False, False),
        ("not_known", "not_known", "same", False, False),
        (OLD, HEAD, "older", False, True),
        (HEAD, OLD, "newer", True, False),
        ("not_known", HEAD, "unknown", True, False),
        (HEAD, "not_known", "unknown", True, False),
        ("", HEAD, "unknown", True, False),
        (None, None, "unknown", True, False),
    ],
)
def test_the_backup_is_the_same_older_newer_or_unknown(
    backup: str | None, live: str | None, relation: str, is_warning: bool, offers_migrations: bool
) -> None:
    found = revisions.compare(backup, live)

    assert (found.relation, found.is_warning, found.offers_migrations) == (
        relation,
        is_warning,
        offers_migrations,
    )
    assert bool(found.advice) == (relation != "same")
    assert "()" not in found.advice


def test_the_order_is_a_setting(settings: Settings) -> None:
    settings.KNOWN_REVISIONS = ["b", "a"]

    assert revisions.compare("a", "b").relation == "newer"

    settings.KNOWN_REVISIONS = ["a", "b", "a"]
    with pytest.raises(NotConfigured, match="KNOWN_REVISIONS names a revision twice"):
        config.known_revisions()


def test_a_revision_that_the_record_lacks_is_read_from_the_archive(plain_site: Site) -> None:
    plain_site.execute(f"UPDATE alembic_version SET version_num = '{OLD}'")
    backup = plain_site.backup()
    Backup.objects.filter(pk=backup.pk).update(revision="", manifest=None)
    backup.refresh_from_db()

    found = revisions.revision_of(backup)

    assert found == OLD
    (plain_site.working / backup.name).unlink()
    assert revisions.revision_of(backup) == ""


@pytest.fixture
def restore_page(plain_site: Site, settings: Settings, client: Client) -> Callable[[Backup], str]:
    """A function: the text of the page before a restore, with the API managed."""
    settings.API_CONTAINER = "qr_generator_api"
    client.force_login(make_user("superuser"))

    def opened(backup: Backup) -> str:
        answer = client.get(f"/backups_app/backup/{backup.pk}/restore/")
        assert answer.status_code == 200
        return answer.content.decode()

    return opened


def set_revision(site: Site, revision: str) -> None:
    site.execute(f"UPDATE alembic_version SET version_num = '{revision}'")


@pytest.mark.parametrize(
    ("then", "now", "word", "advice", "is_offered"),
    [
        (HEAD, HEAD, "equal", "", False),
        (OLD, HEAD, "older", "choose whether the migrations are run after the restore", True),
        (HEAD, OLD, "newer", "Update the API first", False),
        ("abc", HEAD, "not comparable", "make sure that the API knows", False),
    ],
)
def test_the_page_before_a_restore_compares_the_revisions(
    plain_site: Site,
    restore_page: Callable[[Backup], str],
    then: str,
    now: str,
    word: str,
    advice: str,
    is_offered: bool,
) -> None:
    set_revision(plain_site, then)
    backup = plain_site.backup()
    set_revision(plain_site, now)

    page = restore_page(backup)

    assert f">{word}</span>" in page
    assert advice in page
    assert ('name="run_migrations"' in page) is is_offered
    assert ("The migration revisions do not fit." in page) is (word in {"newer", "not comparable"})


def test_the_page_reads_the_revision_from_the_archive_where_the_record_lacks_it(
    plain_site: Site, restore_page: Callable[[Backup], str]
) -> None:
    set_revision(plain_site, OLD)
    backup = plain_site.backup()
    set_revision(plain_site, HEAD)
    Backup.objects.filter(pk=backup.pk).update(revision="", manifest=None)

    page = restore_page(Backup.objects.get(pk=backup.pk))

    assert f"<code>{OLD}</code>" in page
    assert ">older</span>" in page
    assert Backup.objects.get(pk=backup.pk).revision == "", "a page that is opened changes nothing"


def test_the_command_says_how_the_revisions_compare_and_so_does_the_trail(
    plain_site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    set_revision(plain_site, OLD)
    backup = plain_site.backup()
    set_revision(plain_site, HEAD)

    call_command("restore", backup.name, "--reason", "a test", "--yes", "--json")

    told = capsys.readouterr()
    advice = f"The backup is at the older migration revision {OLD}"
    assert advice in told.err
    assert json.loads(told.out)["state"] == "succeeded"
    trail = Operation.objects.get(kind="restore").steps.values_list("what", flat=True)
    assert any(line.startswith(advice) for line in trail)
