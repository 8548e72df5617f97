"""Buttons: what may be asked of a record now, and in one sentence why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from django.urls import reverse
from django.utils.translation import gettext as _

from backups_app.models import Backup, Operation, RestoreEvent
from backups_app.operations import download

May = Callable[[str], bool]


@dataclass(frozen=True)
class Button:
    """One deed: a POST to ``url``, or a link to a page of its own. ``why_not`` disables it."""

    text: str
    url: str
    is_link: bool = False
    tone: str = ""
    why_not: str = ""
    hint: str = ""


def for_backup(backup: Backup, may: May) -> Iterator[Button]:
    """What this person may do with this backup, the most wanted first; Restore stands apart."""
    found = (for_deed(deed, backup, may) for deed in ("validate", "prove", "download", "trial", "pin"))
    return (button for button in found if button)


def for_deed(deed: str, backup: Backup, may: May) -> Button | None:
    """``validate``, ``prove``, ``download``, ``trial``, ``pin`` or ``restore``; None where this person may
    not."""
    permission = "prove" if deed == "trial" else deed
    return _DEEDS[deed](backup) if may(f"{permission}_backup") else None


def _validate(backup: Backup) -> Button:
    hint = _("Read every copy whole and compare it with its record")
    return Button(_("Validate"), _url("backup_validate", backup), why_not=_gone(backup), hint=hint)


def _prove(backup: Backup) -> Button:
    hint = _("Restore it into a scratch database and compare every row")
    return Button(_("Prove"), _url("backup_prove", backup), why_not=_gone(backup), hint=hint)


def _download(backup: Backup) -> Button:
    hint = _("The download is written to the audit history")
    return Button(_("Download"), _url("backup_download", backup), why_not=download.why_not(backup), hint=hint)


def _trial(backup: Backup) -> Button:
    hint = _("Restore it into a database of its own beside the live one, which is kept for a while")
    return Button(_("Trial database"), _url("backup_trial", backup), why_not=_gone(backup), hint=hint)


def _pin(backup: Backup) -> Button:
    text = _("Unpin") if backup.is_pinned else _("Pin…")
    return Button(text, _url("backup_pin", backup), is_link=True, why_not=_gone(backup))


def _restore(backup: Backup) -> Button:
    why_not = backup.why_not_restorable
    return Button(_("Restore…"), _url("backup_restore", backup), is_link=True, tone="grave", why_not=why_not)


_DEEDS: dict[str, Callable[[Backup], Button]] = {
    "validate": _validate,
    "prove": _prove,
    "download": _download,
    "trial": _trial,
    "pin": _pin,
    "restore": _restore,
}


def _gone(backup: Backup) -> str:
    return "" if backup.is_present else _("This backup has been removed.")


def in_row(backup: Backup, may: May) -> list[Button]:
    """The few that a row of the list has room for, and only where its state allows them."""
    if not backup.is_present:
        return []
    found = [*islice(for_backup(backup, may), 2), for_deed("restore", backup, may)]
    return [button for button in found if button and not button.why_not]


def cancel(operation: Operation, may: May) -> Button | None:
    if not operation.is_active or not may("cancel_operation"):
        return None
    why_not = ""
    if operation.cancel_requested_at is not None:
        why_not = _("A cancel has been asked for: it ends within seconds.")
    elif operation.is_past_cancelling:
        why_not = _("It can no longer be cancelled: the databases are being swapped.")
        if operation.kind == Operation.Kind.START_API:
            why_not = _("It can no longer be cancelled: the API is being started.")
    return Button(_("Cancel"), _url("operation_cancel", operation), tone="grave", why_not=why_not)


def undo(event: RestoreEvent, may: May) -> Button | None:
    if not may("restore_backup") or event.outcome == RestoreEvent.Outcome.UNDER_WAY:
        return None
    return Button(
        _("Undo…"),
        _url("restoreevent_undo", event),
        is_link=True,
        tone="grave",
        why_not=event.why_not_undoable,
    )


def _url(name: str, row: Backup | Operation | RestoreEvent) -> str:
    return reverse(f"admin:backups_app_{name}", args=[row.pk])
