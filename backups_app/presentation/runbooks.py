"""Runbooks: what to do, step by step, with the present state and the buttons beside the words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from backups_app.models import Backup, Operation, RestoreEvent
from backups_app.operations import diagnosis, preview
from backups_app.presentation import overview
from backups_app.presentation.standing import standing

SHOWN = 5


@dataclass(frozen=True)
class Runbook:
    """One situation; its text is the template of the same name."""

    slug: str
    title: str | Promise
    when: str | Promise

    @property
    def template(self) -> str:
        return f"admin/runbooks/{self.slug}.html"


ALL: Sequence[Runbook] = (
    Runbook(
        "corruption",
        _("The database is corrupt"),
        _("Pages fail, the API does not start, rows are unreadable."),
    ),
    Runbook(
        "accidental-deletion",
        _("Something was deleted by mistake"),
        _("QR codes or scans are gone, the rest is in order."),
    ),
    Runbook(
        "failed-validation", _("A validation failed"), _("A check of the database or of a backup is red.")
    ),
    Runbook("hung-backup", _("A backup hangs"), _("It waits or runs far longer than usual.")),
    Runbook("no-backups", _("No backups are found"), _("The list is empty, too old, or copies are missing.")),
    Runbook("upgrade", _("An upgrade with a way back"), _("Before the API or its schema is changed.")),
    Runbook("new-server", _("Moving to a new server"), _("The database shall live on another machine.")),
)
BY_SLUG = {runbook.slug: runbook for runbook in ALL}


def context_of(runbook: Runbook, user: Any) -> dict[str, Any]:
    """The present state, and what this person may do about it."""
    now = standing()
    return {
        "runbook": runbook,
        "standing": now,
        "state_cards": overview.state_cards(now),
        "api": now.api,
        "is_api_managed": now.api.is_managed,
        "may_control_api": now.api.is_managed and user.has_perm("backups_app.control_api"),
        "sound": Backup.objects.validated().defer("manifest", "proof")[:SHOWN],
        "broken": Backup.objects.present().exclude(damage="").defer("manifest", "proof")[:SHOWN],
        "undoable": RestoreEvent.objects.undoable(now.now).first(),
        "failed": Operation.objects.filter(state=Operation.State.FAILED)[:SHOWN],
        "blocking": diagnosis.blocking_sessions() if runbook.slug == "hung-backup" else None,
        "findings": diagnosis.look_around()
        if runbook.slug in {"hung-backup", "no-backups", "new-server"}
        else [],
        "live": preview.look_at_live() if runbook.slug in {"new-server", "upgrade"} else None,
        "contacts": pairs(settings.CONTACTS),
        "response_times": pairs(settings.RESPONSE_TIMES),
        **{
            f"may_{short}": user.has_perm(f"backups_app.{codename}")
            for short, codename in (
                ("create", "create_backup"),
                ("validate", "validate_database"),
                ("restore", "restore_backup"),
                ("prove", "prove_backup"),
                ("pin", "pin_backup"),
            )
        },
    }


def pairs(text: str) -> list[tuple[str, str]]:
    """``name: value; name: value`` as pairs."""
    found = []
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        name, _colon, value = entry.partition(":")
        found.append((name.strip(), value.strip()))
    return found
