"""What a restore or an undo would replace: a look at the live database that tells instead of failing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from backups_app import config
from backups_app.errors import QradminError
from backups_app.systems.postgres import databases, preflight, recent
from backups_app.systems.postgres.databases import DatabaseFacts
from backups_app.systems.postgres.recent import Newest
from backups_app.systems.waiting import patience

COUNTING_SECONDS = 10.0


@dataclass(frozen=True)
class LiveView:
    """The live database now; ``trouble`` says why something of it is not known."""

    rows: dict[str, int] | None = None
    revision: str = ""
    facts: DatabaseFacts | None = None
    problems: tuple[str, ...] = ()
    newest: Newest = field(default_factory=Newest)
    trouble: str = ""


@dataclass(frozen=True)
class TableChange:
    """One table: rows in the live database and in the backup; None where unknown or absent."""

    table: str
    live: int | None
    then: int | None

    @property
    def difference(self) -> int | None:
        if self.live is None and self.then is None:
            return None
        return (self.then or 0) - (self.live or 0)


def look_at_live(*, since: datetime | None = None) -> LiveView:
    """Rows, revision, obstacles and what was made after ``since``; never raises what an operator may see."""
    try:
        server = config.managed_database()
        facts = databases.facts(server)
        problems = tuple(preflight.restore_problems(server))
        revision = recent.revision(server)
        newest = recent.newest_codes(server, since=since) if since else Newest()
    except QradminError as error:
        return LiveView(trouble=error.message)
    try:
        rows = databases.row_counts(server, watch=patience(COUNTING_SECONDS, "Counting the live rows"))
    except QradminError as error:
        return LiveView(None, revision, facts, problems, newest, error.message)
    return LiveView(rows, revision, facts, problems, newest)


def compare_rows(live: dict[str, int] | None, then: dict[str, int] | None) -> list[TableChange]:
    """Every table of either side, the changed ones first."""
    names = sorted({*(live or {}), *(then or {})})
    changes = [
        TableChange(
            name,
            None if live is None else live.get(name, 0),
            None if then is None else then.get(name, 0),
        )
        for name in names
    ]
    return sorted(changes, key=lambda change: -abs(change.difference or 0))
