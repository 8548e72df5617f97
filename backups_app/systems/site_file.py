"""A SQLite database copied while it is used, and the copy checked."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from backups_app.errors import BadBackup, EnvironmentProblem
from backups_app.sentences import say


def copy(source: Path, target: Path) -> None:
    """Write the whole database to the empty file ``target``, as it is at one instant."""
    try:
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True, timeout=20)) as live,
            closing(sqlite3.connect(target, timeout=20)) as copied,
        ):
            live.backup(copied)
            copied.execute("PRAGMA journal_mode=DELETE")  # one file, without others beside it
    except sqlite3.Error as error:
        raise EnvironmentProblem(
            say("The site's own database could not be copied: {reason}.", reason=error), detail=str(source)
        ) from error


def insist_on_whole(file: Path, *, table: str) -> None:
    """BadBackup when the copy is not a sound database that has this table."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as copied:
            answers = [str(row[0]) for row in copied.execute("PRAGMA integrity_check")]
            copied.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - our own table's name
    except sqlite3.Error as error:
        raise BadBackup(
            say("The copy of the site's own database cannot be read: {reason}.", reason=error)
        ) from error
    if answers != ["ok"]:
        raise BadBackup(say("The copy of the site's own database is damaged."), detail="\n".join(answers))
