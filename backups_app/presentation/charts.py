"""Bar charts as SVG made on the server: attributes and classes alone, no inline style."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import pgettext

WIDTH, HEIGHT = 620, 190
LEFT, RIGHT, TOP, BOTTOM = 108, 8, 14, 24  # on a telephone a label such as 1,000.0 KB is that wide
STEPS = (1, 2, 4, 6, 8, 10)  # the half of each is as short to write


@dataclass(frozen=True)
class Bar:
    """One day's value; None where there was nothing to measure."""

    day: date
    value: float | None


def bar_chart(bars: Sequence[Bar], *, name: str, title: str, write: Callable[[float], str]) -> SafeString:
    """The chart with three grid lines and a date under every seventh bar; ``write`` says a value in words."""
    top = nice_top(max((bar.value or 0 for bar in bars), default=0), base=1024 if name == "size" else 10)
    room = (WIDTH - LEFT - RIGHT) / max(1, len(bars))
    return format_html(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-labelledby="chart-{}">'
        '<title id="chart-{}">{}</title>{}{}{}</svg>',
        WIDTH,
        HEIGHT,
        name,
        name,
        title,
        _grid(top, write),
        format_html_join(
            "",
            '<rect class="bar" x="{}" y="{}" width="{}" height="{}" rx="1.5"><title>{}</title></rect>',
            (_bar(number, bar, bar.value, room, top, write) for number, bar in enumerate(bars) if bar.value),
        ),
        _dates(bars, room),
    )


def nice_top(highest: float, *, base: int = 10) -> float:
    """The round number at or above ``highest``: 1, 2, 4, 6 or 8 of a power, of 1024 for sizes."""
    if highest <= 0:
        return 1
    unit = base ** math.floor(math.log(highest, base)) if base != STEPS[-1] else 1
    share = highest / unit
    power = 10 ** math.floor(math.log10(share))
    return float(next(step for step in STEPS if step * power >= share) * power * unit)


def _grid(top: float, write: Callable[[float], str]) -> SafeString:
    lines = []
    for share in (0, 0.5, 1):
        y = round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - share), 1)
        lines.append((LEFT, WIDTH - RIGHT, y, y, LEFT - 8, y + 4, write(top * share)))
    return format_html_join(
        "",
        '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text x="{}" y="{}" text-anchor="end">{}</text>',
        lines,
    )


def _bar(
    number: int, bar: Bar, value: float, room: float, top: float, write: Callable[[float], str]
) -> tuple[float, float, float, float, str]:
    height = max(1.5, (HEIGHT - TOP - BOTTOM) * value / top)
    return (
        round(LEFT + number * room + room * 0.14, 2),
        round(HEIGHT - BOTTOM - height, 2),
        round(room * 0.72, 2),
        round(height, 2),
        f"{date_format(bar.day, 'MONTH_DAY_FORMAT')}: {write(value)}",
    )


def _dates(bars: Sequence[Bar], room: float) -> SafeString:
    last, short = len(bars) - 1, pgettext("format of a day under a chart", "M j")
    shown = [(number, bar) for number, bar in enumerate(bars) if (last - number) % 7 == 3]
    return format_html_join(
        "",
        '<text x="{}" y="{}" text-anchor="middle">{}</text>',
        (
            (round(LEFT + (number + 0.5) * room, 1), HEIGHT - 6, date_format(bar.day, short))
            for number, bar in shown
        ),
    )
