"""Trial databases that are still there, and what may be done with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

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


def kept(may: Callable[[str], bool]) -> list[Trial]:
    """The newest first."""
    return [_trial(operation, may) for operation in Operation.objects.trials().select_related("backup")[:10]]


def of(operation: Operation, may: Callable[[str], bool]) -> Trial | None:
    """The database that this operation has made, while it is there."""
    is_there = operation.kind == Operation.Kind.TRIAL and operation.state == Operation.State.SUCCEEDED
    return _trial(operation, may) if is_there and operation.leftovers else None


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
