"""The figures as a table, as JSON and as a page of the docs with a plot."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Pages = Mapping[str, Mapping[str, float]]

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 320, 60, 40


@dataclass(frozen=True)
class Row:
    """One measured figure; ``target`` is what the design promises, ``bound`` what limits it."""

    what: str
    median: float
    spread: str
    unit: str
    runs: int
    target: str = ""
    is_met: bool | None = None
    bound: str = ""

    @property
    def verdict(self) -> str:
        return "" if self.is_met is None else ("met" if self.is_met else "not met")


def write(
    folder: Path,
    rows: Sequence[Row],
    growth: Sequence[dict[str, Any]],
    pages: Pages,
    about: dict[str, str],
) -> None:
    """``benchmarks.json``, ``benchmarks.md`` and ``benchmarks-growth.svg`` in ``folder``."""
    data = {"about": about, "rows": [asdict(row) for row in rows], "growth": list(growth), "pages": pages}
    (folder / "benchmarks.json").write_text(json.dumps(data, indent=1) + "\n")
    (folder / "benchmarks-growth.svg").write_text(plot(growth))
    (folder / "benchmarks.md").write_text(_page(rows, growth, pages, about))


def table(rows: Sequence[Row], pages: Pages) -> str:
    """For the terminal."""
    lines = [
        f"{row.what:66} {row.median:10.3f} {row.unit:6} {row.spread:18} {row.target:16} {row.verdict}"
        for row in rows
    ]
    lines += [
        f"page: {name:60} {page['milliseconds']:10.1f} ms {page['queries']:6.0f} queries"
        for name, page in slowest(pages)
    ]
    return "\n".join(lines)


def slowest(pages: Pages) -> list[tuple[str, Mapping[str, float]]]:
    return sorted(pages.items(), key=lambda page: -page[1]["milliseconds"])


def about_this_machine(server: str, scale: str) -> dict[str, str]:
    return {
        "server": server,
        "scale": scale,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def plot(growth: Sequence[dict[str, Any]]) -> str:
    """Seconds of a backup and megabytes of the worker's memory against the number of scans."""
    if not growth:
        return '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"></svg>\n'
    most = max(point["scans"] for point in growth)
    lines = [
        _line(growth, "seconds", most, max(p["seconds"] for p in growth), "#20639b", "backup, seconds", 20),
        _line(growth, "memory_mb", most, 150.0, "#b3541e", "worker's memory, of 150 MB", 40),
    ]
    axis = (
        f'<path d="M{LEFT} 10V{HEIGHT - BOTTOM}H{WIDTH - 10}" fill="none" stroke="#888"/>'
        f'<text x="{WIDTH - 10}" y="{HEIGHT - 12}" text-anchor="end">{most:,} scans</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        f' font-size="13" role="img" aria-label="Growth of a backup\'s time and of the worker\'s memory">'
        f"{axis}{''.join(lines)}</svg>\n"
    )


def _line(
    growth: Sequence[dict[str, Any]], key: str, most: float, top: float, colour: str, name: str, y: int
) -> str:
    points = [
        (
            LEFT + (WIDTH - LEFT - 20) * point["scans"] / most,
            HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 20) * min(1, point[key] / top),
        )
        for point in growth
    ]
    path = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
    marks = "".join(
        f'<circle cx="{x:.0f}" cy="{cy:.0f}" r="4" fill="{colour}"><title>{point[key]:.1f}</title></circle>'
        for (x, cy), point in zip(points, growth, strict=True)
    )
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{marks}'
        f'<text x="{LEFT + 10}" y="{y}" fill="{colour}">{name} (highest {growth[-1][key]:.1f})</text>'
    )


def _page(rows: Sequence[Row], growth: Sequence[dict[str, Any]], pages: Pages, about: dict[str, str]) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Made by `make bench`; the machine is shared and noisy, so read the ratios and the medians.",
        f"Server: {about['server']}. Scale: {about['scale']}. Python {about['python']} on {about['system']}.",
        "Whole processes, Python's start included.",
        "",
        "| what | median | lowest to highest | runs | target | |",
        "| --- | ---: | --- | ---: | --- | --- |",
    ]
    lines += [
        f"| {row.what} | {row.median:.3f} {row.unit} | {row.spread} | {row.runs} | {row.target} |"
        f" {row.verdict} |"
        for row in rows
    ]
    bounds = [row for row in rows if row.bound]
    lines += ["", "## What bounds each figure", ""]
    lines += [f"- **{row.what}**: {row.bound}" for row in bounds]
    lines += ["", "## Growth", "", "![Time and memory against size](benchmarks-growth.svg)", ""]
    lines += [
        "| scans | database | backup | worker's peak memory | restore | database not answering |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {point['scans']:,} | {point['database_mb']:.0f} MB | {point['seconds']:.1f} s |"
        f" {point['memory_mb']:.0f} MB | {point['restore_seconds']:.1f} s | {point['down_seconds']:.3f} s |"
        for point in growth
    ]
    lines += ["", "## Pages", "", "The slowest first; medians of server time.", ""]
    lines += ["| page | milliseconds | queries |", "| --- | ---: | ---: |"]
    lines += [
        f"| {name} | {page['milliseconds']:.1f} | {page['queries']:.0f} |" for name, page in slowest(pages)
    ]
    lines.append("")
    return "\n".join(lines)
