"""`make bench`: each figure of the design's performance table, ours beside the old way, on the same data."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.bench import brokers, measure, pages, report, stand
from deploy.bench.measure import Figures
from deploy.bench.report import Row
from deploy.bench.stand import ROOT, Stand
from deploy.demo import embedded

SMALL = (334, 1002)


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    name: str
    large: tuple[int, int]
    growth: tuple[int, ...]
    runs: int
    operations: int
    backups: int


SCALES = {
    "full": Scale("full", (50_000, 2_000_000), (100_000, 500_000), 3, 100_000, 20_000),
    "small": Scale("small", (2_000, 50_000), (20_000,), 2, 10_000, 2_000),
}


def main() -> int:
    scale = SCALES.get(os.environ.get("SCALE", "full"))
    if scale is None:
        print("SCALE is full or small.", file=sys.stderr)
        return 1
    major = next((number for number in (15, 16) if embedded.find_bin(number)), 16)
    rows: list[Row] = []
    of_pages: dict[str, dict[str, float]] = {}
    growth: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="qradmin-bench-") as name:
        folder = Path(name)
        say(f"PostgreSQL {major}, scale {scale.name}")
        rows += _of_small(folder / "small", major, scale, of_pages)
        for scans in (*scale.growth, scale.large[1]):
            codes = max(334, scale.large[0] * scans // scale.large[1])
            is_large = scans == scale.large[1]
            rows += _of_size(
                folder / str(scans),
                major,
                codes,
                scans,
                scale.runs,
                growth,
                is_large=is_large,
                is_full=scale.name == "full",
            )
    about = report.about_this_machine(_server(major), scale.name)
    print(report.table(rows, of_pages))
    folder = ROOT / "docs" if scale.name == "full" else _made(ROOT / "var" / "bench")
    report.write(folder, rows, growth, of_pages, about)
    return 0


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def _of_small(folder: Path, major: int, scale: Scale, of_pages: dict[str, dict[str, float]]) -> list[Row]:
    """The 334-code system: the everyday. What each page takes is noted in ``of_pages``."""
    with stand.standing(folder, major, codes=SMALL[0], scans=SMALL[1]) as here:
        say("334 codes: backup, restore, validation")
        backups = [here.answer("backup")["seconds"] for _ in range(5)]
        name = here.answer("backup")["backup"]
        checks = [here.answer("validate_database")["seconds"] for _ in range(5)]
        restores, downs = _restores(here, name, 3)
        say(f"pages with {scale.operations:,} operations and {scale.backups:,} backups; the queue")
        queues = {name: pages.queue(one.environment) for name, one in brokers.sites(here)}
        here.manage("collectstatic", "--noinput", "--verbosity=0")
        found = pages.pages(here.environment, operations=scale.operations, backups=scale.backups)
    of_pages |= found
    slowest = max(found, key=lambda page: found[page]["milliseconds"])
    return [
        _row("334 codes: backup, request to validated", backups, "s", "<= 1 s", lambda v: v <= 1,
             "the start of pg_dump and pg_restore, and two fsyncs"),
        _row("334 codes: restore, without the API's restart", restores, "s", "<= 3 s", lambda v: v <= 3,
             "CREATE DATABASE, pg_restore, ANALYZE and the safety backup, one after the other"),
        _row("334 codes: database not answering during a restore", downs, "s", "<= 1 s", lambda v: v <= 1,
             "two renames in one transaction; no request of a client that asks every 20 ms failed at 0"),
        _row("334 codes: validation of the live database", checks, "s", "<= 0.3 s", lambda v: v <= 0.3,
             "eight catalogue queries"),
        *(_row(f"click to start of work, {name} as the queue", queue["clicks"], "s", "<= 0.5 s",
               lambda v: v <= 0.5, "the queue is asked every 0.2 s; Redis answers at once")
          for name, queue in queues.items()),
        *(_row(f"operations a second through the queue, {name}", queue["a_second"], "1/s")
          for name, queue in queues.items()),
        _row(f"slowest of {len(found)} pages ({slowest}), {scale.operations:,} operations",
             [found[slowest]["milliseconds"]], "ms", "<= 100 ms", lambda v: v <= 100,
             "Django's templates; connections to the live database where a page looks at it; the search reads"
             f" the whole trail. Of {scale.backups:,} backups in it {pages.PRESENT:,} are present"),
        _row("most queries of a page", [max(page["queries"] for page in found.values())], "", "<= 15",
             lambda v: v <= 15),
    ]  # fmt: skip


def _of_size(
    folder: Path,
    major: int,
    codes: int,
    scans: int,
    runs: int,
    growth: list[dict[str, float]],
    *,
    is_large: bool,
    is_full: bool,
) -> list[Row]:
    """The rows of the largest size; the design's targets are judged at full scale alone."""
    say(f"{scans:,} scans: filling")
    with stand.standing(folder, major, codes=codes, scans=scans) as here:
        size = stand.database_bytes(here)
        bare_file = here.folder / "bare.dump"
        bare: list[Figures] = []
        ours: list[Figures] = []
        for _ in range(runs if is_large else 1):
            say(f"{scans:,} scans ({size / 1e6:,.0f} MB): bare pg_dump, then ours")
            bare_file.unlink(missing_ok=True)
            bare.append(
                here.client("pg_dump", "--format=custom", *stand.OLD_FLAGS, f"--file={bare_file}", "qrdb")
            )
            ours.append(here.manage("backup"))
        name = here.answer("backups")["backups"][0]["name"]
        say(f"{scans:,} scans: ours, restore")
        restores, downs = _restores(here, name, 1)
        growth.append(
            {
                "scans": scans,
                "database_mb": size / 1e6,
                "seconds": measure.middle([one.wall for one in ours]),
                "memory_mb": measure.middle([one.own_memory for one in ours]) / 1e6,
                "restore_seconds": measure.middle(restores),
                "down_seconds": measure.middle(downs),
            }
        )
        rows = _large_rows(here, scans, bare, ours, bare_file, restores, downs) if is_large else []
        return rows if is_full else [replace(row, target="", is_met=None) for row in rows]


def _large_rows(
    here: Stand,
    scans: int,
    bare: Sequence[Figures],
    ours: Sequence[Figures],
    bare_file: Path,
    restores: Sequence[float],
    downs: Sequence[float],
) -> list[Row]:
    what = f"{scans:,} scans"
    ratios = [our.wall / other.wall for our, other in zip(ours, bare, strict=True)]
    say(f"{what}: bare pg_restore")
    with stand.empty_database(here, "bare") as database:
        bare_back = stand.bare_restore(here, bare_file, database)
    say(f"{what}: the old way, restore with the API down")
    with stand.asked(here) as old_down:
        old_wall = stand.old_restore(here, bare_file, old_down)
    sizes = [file.stat().st_size for file in sorted((here.folder / "first").glob("qrdb_*.sql"))]
    return [
        _row(f"{what}: bare pg_dump --format=custom", [one.wall for one in bare], "s"),
        _row(f"{what}: ours: backup, manifest, full read, hash, two copies", [one.wall for one in ours], "s"),
        _row(f"{what}: ours / bare pg_dump, wall time", ratios, "", "<= 0.6", lambda v: v <= 0.6,
             _bound_of_backup(bare, ours)),
        _row(f"{what}: bare pg_dump, CPU", [one.cpu for one in bare], "s"),
        _row(f"{what}: bare pg_dump, CPU of the server", [one.server_cpu for one in bare], "s"),
        _row(f"{what}: ours, CPU of worker and clients", [one.cpu for one in ours], "s"),
        _row(f"{what}: ours, CPU of the server", [one.server_cpu for one in ours], "s"),
        _row(f"{what}: bare pg_dump, peak memory", [one.own_memory / 1e6 for one in bare], "MB"),
        _row(f"{what}: worker's peak memory", [one.own_memory / 1e6 for one in ours], "MB", "<= 150 MB",
             lambda v: v <= 150, "Python and Django; nothing grows with the database"),
        _row(f"{what}: largest client program's peak memory",
             [one.children_memory / 1e6 for one in ours], "MB"),
        _row(f"{what}: bytes written by a backup, as the system counts them",
             [one.written / 1e6 for one in ours], "MB"),
        _row(f"{what}: size of one copy", [sizes[0] / 1e6], "MB"),
        _row(f"{what}: size of the bare archive", [bare_file.stat().st_size / 1e6], "MB"),
        _row(f"{what}: bare pg_restore --single-transaction", [bare_back.wall], "s"),
        _row(f"{what}: ours: restore with proof and safety backup", restores, "s"),
        _row(f"{what}: old way: restore", [old_wall], "s"),
        _row(f"{what}: ours: database not answering", downs, "s", "<= 1 s", lambda v: v <= 1,
             "two renames in one transaction, whatever the size"),
        _row(f"{what}: old way: API down", [old_down.seconds], "s"),
    ]  # fmt: skip


def _bound_of_backup(bare: Sequence[Figures], ours: Sequence[Figures]) -> str:
    """In words, from what was measured: the least time in which this machine's cores could do the work."""
    work = measure.middle([one.cpu + one.server_cpu for one in ours])
    cores, wall = os.cpu_count() or 1, measure.middle([one.wall for one in bare])
    return (
        f"the cores: {work:.1f} s of work on {cores} of them take {work / cores:.1f} s at the least, or"
        f" {work / cores / wall:.2f} of the bare dump. Without zstd, which pg_dump has since 16 where it is"
        " built in, most of it is gzip, COPY and the manifest's hash of every row"
    )


def _restores(here: Stand, name: str, runs: int) -> tuple[list[float], list[float]]:
    """Seconds of work and seconds in which the database did not answer, of each restore."""
    seconds, downs = [], []
    for _ in range(runs):
        with stand.asked(here) as downtime:
            answer = here.answer("restore", name, "--reason", "measured", "--yes")
        if answer["state"] != "succeeded":
            raise measure.CommandFailedError(str(answer["error"]))
        seconds.append(answer["seconds"])
        downs.append(downtime.seconds)
        with here.superuser() as connection:
            connection.execute(f'DROP DATABASE "{answer["replaced_database"]}" WITH (FORCE)')
    return seconds, downs


def _row(
    what: str,
    values: Sequence[float],
    unit: str,
    target: str = "",
    holds: Callable[[float], bool] | None = None,
    bound: str = "",
) -> Row:
    middle = measure.middle(values)
    spread = f"{min(values):.3f} to {max(values):.3f}"
    return Row(what, middle, spread, unit, len(values), target, holds(middle) if holds else None, bound)


def _server(major: int) -> str:
    return "PostgreSQL 15 of Debian" if major == 15 else f"PostgreSQL {major} of the embedded wheel"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
