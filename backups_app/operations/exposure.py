"""What would be lost if the live database were gone now: what is new since the last validated backup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from backups_app import config
from backups_app.errors import EnvironmentProblem
from backups_app.models import Backup
from backups_app.operations.journal import Journal
from backups_app.sentences import say
from backups_app.systems.postgres import recent


@dataclass(frozen=True)
class Exposure:
    """Rows of the live database that came, and went, since ``backup`` was taken."""

    backup: str
    scans: int = 0
    codes: int = 0
    deleted_scans: int = 0
    deleted_codes: int = 0

    @classmethod
    def from_result(cls, result: Mapping[str, Any]) -> Self | None:
        """As a validation of the live database recorded it; None when it could not be counted."""
        found = result.get("exposure")
        return cls(**found) if found else None


def measure(journal: Journal, backup: Backup) -> None:
    """Count what is new since ``backup``. What cannot be counted is a warning, never a failure."""
    manifest = backup.manifest or {}
    try:
        growth = recent.growth(config.managed_database(), since=backup.snapshot_at, watch=journal.watch)
    except EnvironmentProblem as problem:
        journal.warn(
            say(
                "What is new since the last validated backup could not be counted. {problem}",
                problem=problem.message,
            )
        )
        return
    then = {name: facts["rows"] for name, facts in manifest.get("tables", {}).items()}
    gone = {
        table: max(0, then.get(f"public.{table}", 0) + found.added - found.total)
        for table, found in growth.items()
    }
    added = {table: found.added for table, found in growth.items()}
    exposure = Exposure(
        backup.name,
        scans=added.get("scan_logs", 0),
        codes=added.get("qr_codes", 0),
        deleted_scans=gone.get("scan_logs", 0),
        deleted_codes=gone.get("qr_codes", 0),
    )
    journal.result["exposure"] = asdict(exposure)
    journal.note(
        say(
            "New since {backup}: scans {scans}, QR codes {codes}. Deleted since: scans {deleted_scans},"
            " QR codes {deleted_codes}.",
            backup=backup.name,
            scans=exposure.scans,
            codes=exposure.codes,
            deleted_scans=exposure.deleted_scans,
            deleted_codes=exposure.deleted_codes,
        )
    )


def in_words(exposure: Exposure) -> str:
    """`412 scans and 3 QR codes since the last validated backup`."""
    added, deleted = added_in_words(exposure), deleted_in_words(exposure)
    if added and deleted:
        text = _("%(added)s new and %(deleted)s deleted since the last validated backup")
    elif deleted:
        text = _("%(deleted)s deleted since the last validated backup")
    elif added:
        text = _("%(added)s since the last validated backup")
    else:
        text = _("Nothing new since the last validated backup")
    return text % {"added": added, "deleted": deleted}


def added_in_words(exposure: Exposure) -> str:
    """`412 scans and 3 QR codes`; empty when nothing came."""
    return _counted(exposure.scans, exposure.codes)


def deleted_in_words(exposure: Exposure) -> str:
    """`2 QR codes`; empty when nothing went."""
    return _counted(exposure.deleted_scans, exposure.deleted_codes)


def _counted(scans: int, codes: int) -> str:
    parts = []
    if scans:
        parts.append(ngettext("%(number)s scan", "%(number)s scans", scans) % {"number": _written(scans)})
    if codes:
        parts.append(
            ngettext("%(number)s QR code", "%(number)s QR codes", codes) % {"number": _written(codes)}
        )
    return _(" and ").join(parts)


def _written(number: int) -> str:
    return str(number_format(number, use_l10n=True, force_grouping=True))
