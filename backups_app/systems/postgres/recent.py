"""What the live database says of itself: its revision, its newest QR codes, and how much is new."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from backups_app.systems.postgres.connections import Server, connect, translated
from backups_app.systems.postgres.interruptible import interruptible
from backups_app.systems.postgres.queries import one_row
from backups_app.systems.waiting import Watch, no_watch

Connection = psycopg.Connection[TupleRow]

APPLICATION_NAME = "qradmin"
SHOWN = 10
PATIENCE = "SET statement_timeout = '5s'"

_NEWEST = """
SELECT coalesce(nullif(title, ''), left(content, 80)), coalesce(short_id, ''), created_at,
       count(*) OVER ()
  FROM qr_codes
 WHERE created_at > %s
 ORDER BY created_at DESC
 LIMIT %s
"""


# The column that says when a row came, of each table whose growth is counted.
_BORN = {"qr_codes": "created_at", "scan_logs": "scanned_at"}


@dataclass(frozen=True)
class Growth:
    """The rows of one table: all of them, and those that came since a moment."""

    total: int
    added: int


@dataclass(frozen=True)
class Code:
    """One QR code by its title."""

    title: str
    short_id: str
    created_at: datetime


@dataclass(frozen=True)
class Newest:
    """The codes made since a moment, the newest first, and how many there are in all."""

    codes: tuple[Code, ...] = ()
    total: int = 0


def revision(server: Server) -> str:
    """Alembic's revisions joined by commas; empty without its table."""
    with translated(server), connect(server, application_name=APPLICATION_NAME) as connection:
        connection.execute(PATIENCE)
        return revision_of(connection)


def revision_of(connection: Connection) -> str:
    """The same on an open connection in autocommit mode."""
    query = "SELECT string_agg(version_num, ',' ORDER BY version_num) FROM alembic_version"
    with suppress(psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        return str(one_row(connection, query)[0] or "")
    return ""


def newest_codes(connection: Connection, *, since: datetime) -> Newest:
    """What a restore of a backup taken at ``since`` would lose; nothing where there is no such table."""
    rows = []
    with suppress(psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        rows = connection.execute(_NEWEST, (since, SHOWN)).fetchall()
    return Newest(tuple(Code(*row[:3]) for row in rows), rows[0][3] if rows else 0)


def growth(server: Server, *, since: datetime, watch: Watch = no_watch) -> dict[str, Growth]:
    """Of the tables of QR codes and scans, as far as they are there."""
    with translated(server), connect(server, application_name=APPLICATION_NAME) as connection:
        return growths_of(connection, [since], watch=watch)[0]


def growths_of(
    connection: Connection, moments: Sequence[datetime], *, watch: Watch = no_watch
) -> list[dict[str, Growth]]:
    """The same since each of the ``moments``, in one reading, on an open connection in autocommit mode."""
    found: list[dict[str, Growth]] = [{} for _moment in moments]
    for table, column in _BORN.items():
        newer = sql.SQL("count(*) FILTER (WHERE {} > %s)").format(sql.Identifier(column))
        query = sql.SQL("SELECT count(*), {} FROM {}").format(
            sql.SQL(", ").join([newer] * len(moments)), sql.Identifier(table)
        )
        with suppress(psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            total, *added = interruptible(
                connection, partial(one_row, connection, query, tuple(moments)), watch=watch
            )
            for growths, number in zip(found, added, strict=True):
                growths[table] = Growth(total, number)
    return found
