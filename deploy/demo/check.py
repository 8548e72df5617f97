"""``make demo-check``: the whole circle without a person, on fresh data; exits 0 when every step held."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from deploy.demo.asking import take_first_backup, wait_for
from deploy.demo.embedded import StartError
from deploy.demo.place import Place
from deploy.demo.stack import CODES, DemoError, Stack, StopAsked, Wish, running

Rows = dict[str, list[str]]
REASON = "The demo's self-check"
WHO: dict[str, Any] = {"by": "make demo-check", "source": "command"}


class NotHeldError(Exception):
    """A step did not do what it promises; the message says what."""


def main() -> int:
    wish = Wish()
    place = Place(Path(tempfile.mkdtemp(prefix="qradmin-check-")))
    try:
        with place.alone(), running(place, wish, say) as stack:
            go_round(stack, place, wish)
        with step("nothing is left running"):
            insist(not left_running(place), f"still running: {left_running(place)}")
    except StopAsked:
        say("Stopped before the end.")
        return 1
    except (NotHeldError, DemoError, StartError) as error:
        say(f"FAILED: {error}")
        return 1
    finally:
        place.forget()
    say("The whole circle held.")
    return 0


def go_round(stack: Stack, place: Place, wish: Wish) -> None:
    """1. back up, validate, prove; 2. lose rows; 3. restore; 4. undo; 5. look at what was written down."""
    from backups_app import tasks
    from backups_app.models import Backup, Operation, RestoreEvent

    def do(operation: Operation) -> None:
        done = wait_for(operation, stack, wish)
        insist(done.state == Operation.State.SUCCEEDED, f"{done} {done.state}: {done.error}")

    with step("the worker takes a backup"):
        name = take_first_backup(stack, wish)
        backup = Backup.objects.get(name=name)
        mode = stat.S_IMODE((place.backups / backup.name).stat().st_mode)
        insist(mode == 0o600, f"the backup's file has mode {mode:o}")
    with step("the backup is validated: its hash, its whole archive, its manifest"):
        do(tasks.request_validate_backup(backup, **WHO))
    with step("the backup is proven by a restore into a fresh database"):
        do(tasks.request_prove_backup(backup, **WHO))
    with step("the live database is valid"):
        do(tasks.request_validate_database(**WHO))

    before = rows_of(stack.managed_url)
    with step("a third of the QR codes is deleted, and their scans with them"):
        delete_codes(stack.managed_url)
        damaged = rows_of(stack.managed_url)
        lost = count(before) - count(damaged)
        insist(lost > CODES // 3, f"only {lost} rows are gone")
    with step("the backup is restored"):
        do(tasks.request_restore(backup, reason=REASON, **WHO))
    with step(f"every row is as it was in the backup: {count(before):,} rows compared"):
        insist_same(before, rows_of(stack.managed_url))
    with step("the restore is undone"):
        do(tasks.request_undo_restore(RestoreEvent.objects.latest("pk"), reason=REASON, **WHO))
    with step(f"every row is as it was before the restore: {count(damaged):,} rows compared"):
        insist_same(damaged, rows_of(stack.managed_url))
    with step("no staging database is left behind"):
        insist(not staging_databases(stack.managed_url), str(staging_databases(stack.managed_url)))


@contextmanager
def step(what: str) -> Iterator[None]:
    """Print one line for one step: held or not, and its duration."""
    started = time.monotonic()
    try:
        yield
    except (NotHeldError, DemoError):
        say(f"NOT HELD  {what}")
        raise
    say(f"ok  {time.monotonic() - started:5.1f} s  {what}")


def insist(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise NotHeldError(otherwise)


def insist_same(expected: Rows, actual: Rows) -> None:
    insist(expected.keys() == actual.keys(), f"the tables are {sorted(actual)}, not {sorted(expected)}")
    for table, rows in expected.items():
        if rows != actual[table]:
            missing, extra = len(set(rows) - set(actual[table])), len(set(actual[table]) - set(rows))
            raise NotHeldError(f"{table} differs: {missing} rows are missing, {extra} are not expected")


def rows_of(url: str) -> Rows:
    """Every row of every table as the server writes it, in a fixed order, without the site's code."""
    with psycopg.connect(url) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"
        ).fetchall()
        query = sql.SQL('SELECT whole::text FROM {} AS whole ORDER BY whole::text COLLATE "C"')
        return {
            f"{schema}.{table}": [
                row[0] for row in connection.execute(query.format(sql.Identifier(schema, table)))
            ]
            for schema, table in tables
        }


def count(rows: Rows) -> int:
    return sum(len(table) for table in rows.values())


def delete_codes(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM qr_codes WHERE hashtext(id) % 3 = 0")


def staging_databases(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT datname FROM pg_database WHERE datname ~ 'staging'").fetchall()
        return [row[0] for row in found]


def left_running(place: Place) -> list[str]:
    """The processes that still have the check's folder in their arguments or environment."""
    mark, found = str(place.folder).encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            facts = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if mark in facts and folder.name != str(os.getpid()):
            found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
