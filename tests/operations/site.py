"""What the tests of the operations floor ask of a site: do this, and tell what is there now."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from django.db import connections
from psycopg import sql

from backups_app import config, tasks
from backups_app.models import Backup, Operation, RestoreEvent
from backups_app.systems import vault
from backups_app.systems.postgres.connections import Server
from tests.conftest import url_of

WHO: dict[str, Any] = {"is_queued": False, "by": "tester", "source": "command"}
TABLES = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname),
       ARRAY(SELECT quote_ident(a.attname) || '::text' FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
ANOTHER_IS_LOOKED_FOR = "The copy in working could not be read to its end: another one is looked for."


class Site:
    """A managed database, its storage folders, and the operations on them, run in this process."""

    def __init__(self, server: Server, working: Path, second: Path) -> None:
        self.server, self.working, self.second = server, working, second

    # --- do ------------------------------------------------------------------------------------------

    def backup(self) -> Backup:
        operation = self.attempt(tasks.request_backup(**WHO))
        assert operation.state == "succeeded", f"{operation.error} {operation.error_detail}"
        return Backup.objects.get(name=operation.result["backup"])

    def try_backup(self) -> Operation:
        return self.attempt(tasks.request_backup(**WHO))

    def validate(self, backup: Backup) -> Operation:
        return self.attempt(tasks.request_validate_backup(backup, **WHO))

    def prove(self, backup: Backup) -> Operation:
        return self.attempt(tasks.request_prove_backup(backup, **WHO))

    def check_copies(self, **options: Any) -> Operation:
        return self.attempt(tasks.request_check_copies(**options, **WHO))

    def import_found(self, *, dry_run: bool = False) -> Operation:
        return self.attempt(tasks.request_import(dry_run=dry_run, **WHO))

    def upload(self, content: bytes, original: str = "theirs.sql") -> Operation:
        """What the page does with a file that was handed in."""
        path, file = vault.new_upload(config.upload_folder())
        with file:
            file.write(content)
        return self.attempt(tasks.request_import_upload(path.name, original=original, **WHO))

    def backup_site(self) -> Operation:
        return self.attempt(tasks.request_backup_site(**WHO))

    def validate_database(self) -> Operation:
        return self.attempt(tasks.request_validate_database(**WHO))

    def restore(self, backup: Backup, **options: Any) -> Operation:
        return self.attempt(tasks.request_restore(backup, **{"reason": "a test", **options}, **WHO))

    def undo(self, event: RestoreEvent) -> Operation:
        return self.attempt(tasks.request_undo_restore(event, reason="a test", **WHO))

    def attempt(self, operation: Operation) -> Operation:
        done = tasks.run_here(operation)
        assert not Operation.objects.active().exists()
        return done

    # --- see -----------------------------------------------------------------------------------------

    def rows(self, database: str | None = None) -> dict[str, list[str]]:
        """Every row of every table as text."""
        with self.connected(database) as connection:
            connection.execute("SET statement_timeout = 0")
            tables = connection.execute(TABLES).fetchall()
            return {
                table: [
                    row
                    for (row,) in connection.execute(
                        f"SELECT ARRAY[{', '.join(columns)}]::text[]::text FROM ONLY {table} ORDER BY 1"
                    )
                ]
                for table, columns in tables
            }

    def databases(self) -> set[str]:
        """The databases beside PostgreSQL's own and the tests' template."""
        query = "SELECT datname FROM pg_database WHERE datname !~ '^(template|postgres|qr_template)'"
        with self.connected("postgres") as connection:
            return {name for (name,) in connection.execute(query)}

    def files(self) -> set[str]:
        return {path.name for folder in (self.working, self.second) for path in folder.iterdir()}

    def event(self) -> RestoreEvent:
        return RestoreEvent.objects.latest("pk")

    @contextmanager
    def connected(self, database: str | None = None) -> Iterator[psycopg.Connection[Any]]:
        where = url_of(self.server.at(database) if database else self.server)
        with psycopg.connect(where, autocommit=True) as connection:
            yield connection

    def execute(self, statement: str) -> None:
        with self.connected() as connection:
            connection.execute(statement)

    @contextmanager
    def locked(self, table: str = "qr_codes") -> Iterator[None]:
        """Nobody else can read ``table`` within this block."""
        with self.connected() as connection, connection.transaction():
            connection.execute(sql.SQL("LOCK TABLE {}").format(sql.Identifier(table)))
            yield


def change_bytes(file: Path, change: Callable[[bytearray], None]) -> None:
    """Rewrite ``file`` with its bytes changed."""
    data = bytearray(file.read_bytes())
    change(data)
    file.write_bytes(data)


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """``work`` runs in a thread while the block does; its error is the test's."""
    errors: list[BaseException] = []

    def go() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
    if errors:
        raise errors[0]


def cancel_at(step: str, who: str = "an operator") -> Callable[[], None]:
    """Work for ``beside``: cancel the running operation as soon as it is in the step ``step``."""

    def go() -> None:
        operation = wait_for(
            lambda: Operation.objects.running().filter(current_step__startswith=step).first()
        )
        assert operation.request_cancel(who)

    return go


def wait_for(ask: Callable[[], Any], seconds: float = 30) -> Any:
    """What ``ask`` says as soon as it says something."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = ask()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")
