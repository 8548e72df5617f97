"""What the live database says of itself before a restore: its revision, and the newest QR codes by title."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg

from backups_app.errors import QradminError
from backups_app.systems.postgres.connections import Server, connect, translated
from backups_app.systems.postgres.queries import one_row

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
    try:
        with translated(server), connect(server, application_name=APPLICATION_NAME) as connection:
            connection.execute(PATIENCE)
            query = "SELECT string_agg(version_num, ',' ORDER BY version_num) FROM alembic_version"
            return str(one_row(connection, query)[0] or "")
    except QradminError as error:
        if isinstance(error.__cause__, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
            return ""
        raise


def newest_codes(server: Server, *, since: datetime) -> Newest:
    """What a restore of a backup taken at ``since`` would lose; nothing where there is no such table."""
    try:
        with translated(server), connect(server, application_name=APPLICATION_NAME) as connection:
            connection.execute(PATIENCE)
            rows = connection.execute(_NEWEST, (since, SHOWN)).fetchall()
    except QradminError as error:
        if isinstance(error.__cause__, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
            return Newest()
        raise
    return Newest(tuple(Code(*row[:3]) for row in rows), rows[0][3] if rows else 0)
