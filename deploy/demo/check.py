"""``make demo-check``: the whole circle without a person, on fresh data; exits 0 when every step held."""

from __future__ import annotations

import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from deploy.demo import sample
from deploy.demo.asking import wait_for
from deploy.demo.browser import Browser
from deploy.demo.embedded import StartError
from deploy.demo.place import Place
from deploy.demo.stack import CODES, DemoError, Stack, StopAsked, Wish, running

if TYPE_CHECKING:
    from backups_app.models import Operation

Rows = dict[str, list[str]]
REASON = "Self-check of the demo"


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
        show_logs(place)
        return 1
    finally:
        place.forget()
    say("The whole circle held.")
    return 0


def go_round(stack: Stack, place: Place, wish: Wish) -> None:
    """1. back up, validate, prove; 2. lose rows; 3. restore; 4. undo; 5. look at what was written down.

    Everything is asked for on the site's pages, as a person does it, and done by the worker.
    """
    from backups_app.models import Backup, RestoreEvent

    staff, desk = Browser(stack.address), Browser(stack.address)

    def do(name: str, *rows: int, **fields: str) -> None:
        done = wait_for(press(staff, name, *rows, **fields), stack, wish)
        insist(done.state == "succeeded", f"{done} {done.state}: {done.error}")

    with step("IT staff and help desk log in"):
        for browser, name in ((staff, "itstaff"), (desk, "helpdesk")):
            page = browser.log_in(name, stack.passwords[name])
            insist(page.path == "/" and page.status == 200, f"{name}: {page.status} at {page.path}")

    with step("the worker takes a backup"):
        do("backup_create")
        backup = Backup.objects.latest("pk")
        mode = stat.S_IMODE((place.backups / backup.name).stat().st_mode)
        insist(mode == 0o600, f"the backup's file has mode {mode:o}")
    with step("the backup is validated: its hash, its whole archive, its manifest"):
        do("backup_validate", backup.pk)
    with step("the backup is proven by a restore into a fresh database"):
        do("backup_prove", backup.pk)
    with step("the live database is valid"):
        do("operation_validate_database")

    before = rows_of(stack.managed_url)
    with step("a third of the QR codes is deleted, and their scans with them"):
        delete_codes(stack.managed_url)
        damaged = rows_of(stack.managed_url)
        lost = count(before) - count(damaged)
        insist(lost > CODES // 3, f"only {lost} rows are gone")
    with step("the help desk may not restore, and a wrong name restores nothing"):
        wanted = {"typed": backup.name, "reason": REASON}
        insist(refused(desk, "backup_restore", 403, backup.pk, **wanted), "the help desk was let through")
        wanted["typed"] = "qrdb"
        insist(refused(staff, "backup_restore", 422, backup.pk, **wanted), "a wrong name was let through")
        insist_same(damaged, rows_of(stack.managed_url))
    with step("the backup is restored"):
        do("backup_restore", backup.pk, typed=backup.name, reason=REASON)
    with step(f"every row is as it was in the backup: {count(before):,} rows compared"):
        insist_same(before, rows_of(stack.managed_url))
    with step("the restore is undone"):
        event = RestoreEvent.objects.latest("pk")
        do("restoreevent_undo", event.pk, typed=sample.DATABASE, reason=REASON)
    with step(f"every row is as it was before the restore: {count(damaged):,} rows compared"):
        insist_same(damaged, rows_of(stack.managed_url))
    with step("no staging database is left behind"):
        insist(not staging_databases(stack.managed_url), str(staging_databases(stack.managed_url)))
    with step("the help desk reads who did what and why, and no password stands in a log"):
        look_back(desk, place)


def press(browser: Browser, name: str, *rows: int, **fields: str) -> Operation:
    """Send the form of that name; the site answers with the page of the operation that it asked for."""
    from backups_app.models import Operation

    page = browser.send(address_of(name, *rows), **fields)
    found = re.search(r"/operation/(\d+)/", page.path)
    if page.status != 200 or found is None:
        raise NotHeldError(f"{name} was not accepted: {page.status} at {page.path}")
    return Operation.objects.get(pk=found[1])


def refused(browser: Browser, name: str, status: int, *rows: int, **fields: str) -> bool:
    return browser.send(address_of(name, *rows), **fields).status == status


def address_of(name: str, *rows: int) -> str:
    from django.urls import reverse

    return reverse(f"admin:backups_app_{name}", args=rows)


def look_back(desk: Browser, place: Place) -> None:
    page = desk.open(address_of("operation_changelist"))
    insist(page.status == 200 and "itstaff" in page.text, f"the audit history: {page.status}")
    page = desk.open(address_of("restoreevent_changelist"))
    insist(page.status == 200 and REASON in page.text, f"the list of restores: {page.status}")
    secrets = [place.secret(name) for name in place.secret_names()]
    for log in place.folder.glob("*.log"):
        text = log.read_text(errors="replace")
        insist(not any(secret in text for secret in secrets), f"{log.name} holds a password")


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


def show_logs(place: Place, lines: int = 15) -> None:
    """The check's folder goes away, so what the programs said last is shown."""
    for log in sorted(place.folder.glob("*.log")):
        for line in log.read_text(errors="replace").splitlines()[-lines:]:
            say(f"{log.stem}: {line}")


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
