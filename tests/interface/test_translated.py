"""What pages say about the state of a record goes through the translation, a whole sentence each."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone, translation

from backups_app.errors import Refused
from backups_app.models import RestoreEvent, restore
from backups_app.operations import blocking
from tests.interface.conftest import make_backup, make_operation, make_restore

pytestmark = pytest.mark.django_db


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a language that has every sentence: each that would be looked up stands in «»."""
    for module in (restore, blocking):
        monkeypatch.setattr(module, "gettext", lambda text: f"«{text}»")


@pytest.mark.parametrize("outcome", [one for one in RestoreEvent.Outcome if one != "restored"])
def test_why_a_restore_cannot_be_undone(marked: None, outcome: str) -> None:
    why = make_restore(make_backup(), outcome=outcome).why_not_undoable

    assert why.startswith("«")
    assert why.endswith(".»")


@pytest.mark.parametrize(
    "state",
    [{"replaced_dropped_at": timezone.now()}, {"replaced_kept_until": timezone.now() - timedelta(hours=1)}],
)
def test_why_a_restore_can_no_longer_be_undone(marked: None, state: dict[str, Any]) -> None:
    assert make_restore(make_backup(), **state).why_not_undoable.endswith(
        "restore the safety backup instead.»"
    )


def test_the_name_of_a_restore(marked: None) -> None:
    event = make_restore(make_backup())
    undo = make_restore(make_backup("qrdb_20260526_143022.sql"), undoes=event)

    assert (str(event), str(undo)) == (f"«Restore {event.pk}»", f"«Undo of restore {event.pk}»")


def test_why_nothing_is_ended(marked: None) -> None:
    operation = make_operation("backup")

    with pytest.raises(Refused, match=f"^«{operation} is not running: nothing blocks it.»$"):
        blocking.request_parameters(operation, [1])
    with pytest.raises(Refused, match=r"^«Choose at least one session to end\.»$"):
        blocking.request_parameters(operation, [])


@pytest.mark.parametrize(
    ("state", "german"),
    [
        ({"removed_at": timezone.now()}, "Diese Sicherung wurde entfernt."),
        ({"damage": "cut short"}, "Diese Sicherung ist beschädigt."),
    ],
)
def test_why_a_backup_cannot_be_restored(state: dict[str, Any], german: str) -> None:
    with translation.override("de"):
        assert make_backup(**state).why_not_restorable == german
