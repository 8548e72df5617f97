"""Trial databases on the pages: where they are, how long they stay, and what may be done with them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from backups_app.models import Operation
from tests.interface.conftest import Log_in, make_backup, make_operation


@pytest.fixture
def trial(db: None) -> Operation:
    until = timezone.now() + timedelta(hours=71)
    left = {"what": "trial", "name": "qrdb_trial_7_a1b2c3", "kept_until": until.isoformat()}
    backup = make_backup(is_pinned=True, pin_reason="before the upgrade")
    return make_operation("trial", backup=backup, leftovers=[left])


def test_the_operation_s_page_says_what_it_is_and_offers_what_may_be_done(
    log_in: Log_in, trial: Operation
) -> None:
    address = f"/backups_app/operation/{trial.pk}/change/"

    staff, helpdesk = (log_in(role).get(address).content.decode() for role in ("itstaff", "helpdesk"))

    assert "qrdb_trial_7_a1b2c3" in staff
    assert "qrdb_trial_7_a1b2c3" in helpdesk
    assert f"/backups_app/operation/{trial.pk}/trial/drop/" in staff
    assert "/trial/drop/" not in helpdesk


@pytest.mark.parametrize("slug", ["upgrade", "accidental-deletion"])
def test_a_runbook_names_it_and_uses_it_in_its_commands(log_in: Log_in, trial: Operation, slug: str) -> None:
    page = log_in("itstaff").get(f"/runbooks/{slug}/").content.decode()

    assert "COPY=qrdb_trial_7_a1b2c3" in page
    assert f"/backups_app/operation/{trial.pk}/trial/drop/" in page


def test_the_new_server_has_a_copy_of_its_own(log_in: Log_in, trial: Operation) -> None:
    page = log_in("itstaff").get("/runbooks/new-server/").content.decode()

    assert "qrdb_trial_7_a1b2c3" not in page
    assert "createdb --template=template0" in page


def test_a_trial_is_asked_for_by_a_button_of_the_backup(log_in: Log_in, trial: Operation) -> None:
    backup, staff = trial.backup, log_in("itstaff")
    assert backup is not None
    page = staff.get(f"/backups_app/backup/{backup.pk}/change/").content.decode()

    answer = staff.post(f"/backups_app/backup/{backup.pk}/trial/")

    asked = Operation.objects.active().get()
    assert f'action="/backups_app/backup/{backup.pk}/trial/"' in page
    assert (asked.kind, asked.backup) == ("trial", backup)
    assert answer.headers["Location"] == f"/backups_app/operation/{asked.pk}/change/"


def test_one_that_is_gone_is_refused_in_words(log_in: Log_in, trial: Operation) -> None:
    Operation.objects.filter(pk=trial.pk).update(leftovers=[])

    answer = log_in("itstaff").post(f"/backups_app/operation/{trial.pk}/trial/drop/", follow=True)

    assert f"The database of Trial restore {trial.pk} has been dropped." in answer.content.decode()
    assert not Operation.objects.active().exists()


@pytest.mark.parametrize(("kind", "deed"), [("backup", "drop"), ("trial", "rename")])
def test_what_is_no_trial_or_no_deed_is_not_found(log_in: Log_in, db: None, kind: str, deed: str) -> None:
    operation = make_operation(kind)

    assert log_in("itstaff").post(f"/backups_app/operation/{operation.pk}/trial/{deed}/").status_code == 404
