"""A backup's migration revision is compared with the live one before a restore is confirmed."""

from __future__ import annotations

import pytest
from pytest_django.fixtures import Settings

from backups_app import config
from backups_app.errors import NotConfigured
from backups_app.models import Backup
from backups_app.operations import revisions
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
    assert Backup.objects.get(pk=backup.pk).revision == OLD
    (plain_site.working / backup.name).unlink()
    Backup.objects.filter(pk=backup.pk).update(revision="")
    assert revisions.revision_of(Backup.objects.get(pk=backup.pk)) == ""
