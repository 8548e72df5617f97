"""The steps of a date hierarchy without reading every row: years, months and days between first and last."""

from __future__ import annotations

import calendar
from datetime import date, datetime
from typing import Any

from django import template
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from backups_app.systems.vault import YEARS

register = template.Library()


@register.inclusion_tag("admin/date_hierarchy.html")
def date_steps(cl: Any) -> dict[str, Any]:
    """Like the stock tag, which asks the database for every distinct date: slow with 100,000 rows."""
    field = cl.date_hierarchy
    year, month, day = (_number(cl.params.get(f"{field}__{part}")) for part in ("year", "month", "day"))
    ends = _ends(cl, field) if cl.result_count else []
    if not ends:
        return {"show": bool(year), "back": _back(cl, field, year, month, day), "choices": []}
    first, last = (_day(end) for end in ends)
    is_wide = not (year or month or day)
    if is_wide and first.year == last.year:
        year = first.year
        month = first.month if first.month == last.month else None
    return {
        "show": True,
        "back": None if is_wide else _back(cl, field, year, month, day),
        "choices": _choices(cl, field, first, last, (year, month, day)),
    }


def _ends(cl: Any, field: str) -> list[datetime]:
    """The first and the last moment of all that was found; none when it is gone since it was counted."""
    if not cl.multi_page:
        shown = sorted(getattr(row, field) for row in cl.result_list)
        return shown[:1] + shown[-1:]
    # Two questions, each answered by the first entry of an index; both at once would read every row.
    moments = cl.queryset.values_list(field, flat=True)
    return [moments.order_by(order).first() for order in (field, f"-{field}")]


def _day(moment: datetime) -> date:
    """The local day; of one that no backup is of, the nearest that one can be of."""
    if moment.year < YEARS[0]:
        return date(YEARS[0], 1, 1)
    return timezone.localdate(moment) if moment.year in YEARS else date(YEARS[-1], 12, 31)


def _choices(
    cl: Any, field: str, first: date, last: date, chosen: tuple[int | None, int | None, int | None]
) -> list[dict[str, str]]:
    year, month, day = chosen
    if year and month and day:
        return [{"title": capfirst(date_format(date(year, month, day), "MONTH_DAY_FORMAT"))}]
    if year and month:
        days = calendar.monthrange(year, month)[1]
        inside = [
            found for number in range(1, days + 1) if first <= (found := date(year, month, number)) <= last
        ]
        return [
            {
                "link": _link(cl, field, year=year, month=month, day=found.day),
                "title": capfirst(date_format(found, "MONTH_DAY_FORMAT")),
            }
            for found in inside
        ]
    if year:
        months = [date(year, number, 1) for number in range(1, 13)]
        return [
            {
                "link": _link(cl, field, year=year, month=found.month),
                "title": capfirst(date_format(found, "YEAR_MONTH_FORMAT")),
            }
            for found in months
            if (first.year, first.month) <= (found.year, found.month) <= (last.year, last.month)
        ]
    return [
        {"link": _link(cl, field, year=number), "title": str(number)}
        for number in range(first.year, last.year + 1)
    ]


def _back(cl: Any, field: str, year: int | None, month: int | None, day: int | None) -> dict[str, str] | None:
    if year and month and day:
        title = capfirst(date_format(date(year, month, 1), "YEAR_MONTH_FORMAT"))
        return {"link": _link(cl, field, year=year, month=month), "title": title}
    if year and month:
        return {"link": _link(cl, field, year=year), "title": str(year)}
    return {"link": _link(cl, field), "title": _("All dates")} if year else None


def _link(cl: Any, field: str, **parts: int) -> str:
    return str(
        cl.get_query_string({f"{field}__{name}": value for name, value in parts.items()}, [f"{field}__"])
    )


def _number(values: Any) -> int | None:
    """Filters come as a list or as a text."""
    value = values[-1] if isinstance(values, list) and values else values
    return int(value) if isinstance(value, str) and value.isdecimal() else None
