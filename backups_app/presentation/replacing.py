"""What a restore or an undo would take away and bring back, by table and in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.utils.text import get_text_list
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from backups_app.models import Backup, RestoreEvent
from backups_app.operations.preview import LiveView, TableChange, added, compare_rows
from backups_app.presentation import words


def before_restore(live: LiveView, backup: Backup) -> dict[str, Any]:
    """For the page before it. After another restore the live database is not what became of the backup's."""
    manifest = backup.manifest or {}
    then = {name: state["rows"] for name, state in manifest.get("tables", {}).items()}
    is_straight = (
        not RestoreEvent.objects.swapped().filter(operation__finished_at__gt=backup.snapshot_at).exists()
    )
    changes = compare_rows(
        live.rows, then if manifest else None, live.growth, is_straight=lambda _table: is_straight
    )
    return {"is_straight": is_straight, **_context(live, changes, is_known=bool(manifest))}


def before_undo(live: LiveView, event: RestoreEvent) -> dict[str, Any]:
    """For the page before it: what was made since the restore, and what the undo would change in all."""
    rows, made = live.rows or {}, added(live.made)

    def is_straight(table: str) -> bool:
        """Whether nothing was deleted since the restore."""
        at_the_swap: int = event.rows_after.get(table, 0)
        return at_the_swap + made.get(table, 0) <= rows.get(table, 0)

    changes = compare_rows(
        live.rows, event.rows_before or None, live.growth, live.growth_of_other, is_straight=is_straight
    )
    told = (_rows_of(table, number) for table, number in made.items() if number)
    return {"made": _listed(told), **_context(live, changes, is_known=bool(event.rows_before))}


def _context(live: LiveView, changes: Sequence[TableChange], *, is_known: bool) -> dict[str, Any]:
    return {
        "live": live,
        "changes": changes,
        "is_known": is_known and live.rows is not None,
        "lost": _told(changes, lambda change: change.lost),
        "regained": _told(changes, lambda change: change.regained),
    }


def _told(changes: Sequence[TableChange], count: Callable[[TableChange], int]) -> str:
    """`412 scans, 2 QR codes and at least 3 rows of public.notes`; empty when there are none."""
    return _listed(_amount(change, count(change)) for change in changes if count(change))


def _listed(parts: Iterable[str]) -> str:
    return str(get_text_list(list(parts), _("and")))


def _amount(change: TableChange, number: int) -> str:
    text = _rows_of(change.table, number)
    return text if change.is_exact else _("at least %(amount)s") % {"amount": text}


def _rows_of(table: str, number: int) -> str:
    texts = {
        "public.scan_logs": ngettext("%(number)s scan", "%(number)s scans", number),
        "public.qr_codes": ngettext("%(number)s QR code", "%(number)s QR codes", number),
    }
    rows = ngettext("%(number)s row of %(table)s", "%(number)s rows of %(table)s", number)
    return texts.get(table, rows) % {"number": words.number(number), "table": table}
