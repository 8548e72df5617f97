"""Trial databases that are still there, and what may be done with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import prefetch_related_objects
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from backups_app import config
from backups_app.errors import QradminError
from backups_app.models import Operation
from backups_app.operations.trial import TRIAL
from backups_app.presentation.buttons import Button


@dataclass(frozen=True)
class Trial:
    """One trial database; ``server`` as ``host:port``."""

    operation: Operation
    database: str
    server: str
    kept_until: datetime | None
    buttons: list[Button]


def kept(operations: list[Operation], may: Callable[[str], bool]) -> list[Trial]:
    """The databases that these have made, each with its backup."""
    prefetch_related_objects(operations, "backup")
    return [_trial(operation, may) for operation in operations]


def of(operation: Operation, may: Callable[[str], bool]) -> Trial | None:
    """The database that this operation has made, while it is there."""
    return _trial(operation, may) if operation.has_trial_database else None


def _trial(operation: Operation, may: Callable[[str], bool]) -> Trial:
    leftover = next(one for one in operation.leftovers if one["what"] == TRIAL)
    deeds = (
        ("validate", _("Validate the trial database"), ""),
        ("drop", _("Drop the trial database"), "grave"),
    )
    buttons = [
        Button(text, reverse("admin:backups_app_operation_trial", args=[operation.pk, deed]), tone=tone)
        for deed, text, tone in deeds
        if may("prove_backup")
    ]
    return Trial(operation, leftover["name"], _server(), parse_datetime(leftover["kept_until"]), buttons)


def _server() -> str:
    try:
        server = config.managed_database()
    except QradminError:
        return ""
    return f"{server.host}:{server.port}"
