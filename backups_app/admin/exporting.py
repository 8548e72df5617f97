"""The audit history as CSV, streamed."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.utils import timezone

from backups_app.models import Operation

COLUMNS = (
    "id",
    "kind",
    "state",
    "source",
    "requested_by_name",
    "reason",
    "backup__name",
    "created_at",
    "started_at",
    "finished_at",
    "cancel_requested_by",
    "error",
)
FORMULA_STARTS = ("=", "+", "-", "@")
CELL_STARTS = ("\t", "\r", "\n")  # a spreadsheet may drop these, or begin a cell behind them


class _Echo:
    """Hands back what the csv module writes."""

    def write(self, line: str) -> str:
        return line


def as_csv(rows: QuerySet[Operation]) -> StreamingHttpResponse:
    """Times in UTC; a text that a spreadsheet would run as a formula is quoted."""
    writer = csv.writer(_Echo(), quoting=csv.QUOTE_ALL)

    def lines() -> Iterator[str]:
        yield "\ufeff" + writer.writerow([name.replace("backup__name", "backup") for name in COLUMNS])
        for row in rows.values_list(*COLUMNS).iterator(chunk_size=1000):
            yield writer.writerow([_cell(value) for value in row])

    response = StreamingHttpResponse(lines(), content_type="text/csv; charset=utf-8")
    name = f"audit-history-{timezone.now():%Y%m%d-%H%M%S}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    text = "" if value is None else str(value)
    return "'" + text if _may_be_run(text) else text


def _may_be_run(text: str) -> bool:
    """Whether its first visible character begins a formula, in any width."""
    first = next((one for one in text if one.isprintable() and not one.isspace()), "")
    return text.startswith(CELL_STARTS) or unicodedata.normalize("NFKC", first).startswith(FORMULA_STARTS)
