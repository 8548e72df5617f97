"""What a restore or an undo would replace: a look at the live database that tells instead of failing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from backups_app import config
from backups_app.errors import QradminError
from backups_app.models import RestoreEvent
from backups_app.operations import sightings
from backups_app.sentences import say
from backups_app.systems.postgres import databases, preflight, recent
from backups_app.systems.postgres.connections import Server, connect, translated
from backups_app.systems.postgres.databases import DatabaseFacts
from backups_app.systems.postgres.recent import Growth, Newest
from backups_app.systems.waiting import patience, started

Connection = psycopg.Connection[TupleRow]
COUNTING_SECONDS = 10.0


@dataclass(frozen=True)
class LiveView:
    """The live database now; ``trouble`` says why something of it is not known.

    ``facts`` is None when it cannot be reached, ``revision`` when it could not be read. ``growth`` counts
    since it and what would replace it were the same, ``growth_of_other`` the rows that came there since
    then, and ``made`` since the moment that was asked about, such as the restore that would be undone.
    """

    rows: dict[str, int] | None = None
    revision: str | None = None
    facts: DatabaseFacts | None = None
    problems: tuple[str, ...] = ()
    newest: Newest = field(default_factory=Newest)
    growth: dict[str, Growth] = field(default_factory=dict)
    growth_of_other: dict[str, Growth] = field(default_factory=dict)
    made: dict[str, Growth] = field(default_factory=dict)
    trouble: str = ""


@dataclass(frozen=True)
class TableChange:
    """One table: rows in the live database and in what would replace it; None where unknown.

    Of each, ``came`` and ``came_there`` are the rows since both were the same, None where nobody knows when
    rows came. Unless it ``is_straight``, rows may have gone on both sides, which no count tells apart.
    """

    table: str
    live: int | None
    then: int | None
    came: int | None = None
    came_there: int = 0
    is_straight: bool = True

    @property
    def difference(self) -> int | None:
        if self.live is None and self.then is None:
            return None
        return (self.then or 0) - (self.live or 0)

    @property
    def is_known(self) -> bool:
        """Whether both sides are known."""
        return self.live is not None and self.then is not None

    @property
    def is_exact(self) -> bool:
        """Whether `lost` and `regained` are known; else they are the least that there can be."""
        return self.came is not None and self.is_straight

    @property
    def lost(self) -> int:
        """Live rows that the other has not."""
        return (self.came or 0) + max(0, -self._older)

    @property
    def regained(self) -> int:
        """Rows of the other that are not live."""
        return self.came_there + max(0, self._older)

    @property
    def _older(self) -> int:
        """How many more of the rows from when both were the same the other has."""
        return (self.difference or 0) + (self.came or 0) - self.came_there


def look_at_live(
    *,
    since: datetime | None = None,
    same_at: datetime | None = None,
    counts_rows: bool = True,
    finds_problems: bool = True,
) -> LiveView:
    """Rows, revision, obstacles and what came after ``since``; never raises what an operator may see.

    ``same_at``, unless it is ``since``, is when it and what would replace it were the same. One connection
    answers all of it: to open one takes longer than most of the questions.
    """
    known: dict[str, Any] = {}
    try:
        server = config.managed_database()
        with translated(server), connect(server, application_name=recent.APPLICATION_NAME) as connection:
            connection.execute(recent.PATIENCE)
            facts = databases.facts_of(connection)
            problems = preflight.problems_of(connection) if finds_problems else []
            known |= {"facts": facts, "problems": tuple(problems)}
            known["revision"] = recent.revision_of(connection)
            if since:
                known["newest"] = recent.newest_codes(connection, since=since)
            if counts_rows:
                known |= _counted(connection, [same_at or since, since] if since else [])
    except QradminError as error:
        known["trouble"] = error.message
    return LiveView(**known)


def look_before_replacing(*, since: datetime, same_at: datetime | None = None) -> LiveView:
    """The same; what would make a restore or an undo be refused now is all among the problems."""
    live = look_at_live(since=since, same_at=same_at)
    if live.facts is None:
        live = LiveView(problems=(live.trouble,))
    return replace(live, problems=(*live.problems, *_api_problems()))


def look_before_undoing(event: RestoreEvent) -> LiveView:
    """The same before an undo: both databases were the same when the first restore's backup was taken."""
    origin = event.origin
    same_at = origin.snapshot_at if origin else event.created_at
    there = started(partial(_growth, config.managed_database().at(event.replaced_database), same_at))
    live = look_before_replacing(since=event.created_at, same_at=same_at)
    if live.rows is None:
        return live
    try:
        return replace(live, growth_of_other=there.result())
    except QradminError as error:
        return replace(live, growth={}, trouble=error.message)


def _api_problems() -> tuple[str, ...]:
    try:
        sightings.insist_on_no_trouble(config.api())
    except QradminError as error:
        return (error.message,)
    return ()


def _counted(connection: Connection, moments: Sequence[datetime]) -> dict[str, Any]:
    """Exact, however long it takes, but no longer than a page may wait."""
    watch = patience(COUNTING_SECONDS, say("Counting the live rows"))
    connection.execute("SET statement_timeout = 0")
    growth, made = recent.growths_of(connection, moments, watch=watch) if moments else ({}, {})
    return {"rows": databases.row_counts_of(connection, watch=watch), "growth": growth, "made": made}


def _growth(server: Server, since: datetime) -> dict[str, Growth]:
    return recent.growth(server, since=since, watch=patience(COUNTING_SECONDS, say("Counting the new rows")))


def compare_rows(
    live: dict[str, int] | None,
    then: dict[str, int] | None,
    growth: Mapping[str, Growth] | None = None,
    growth_of_other: Mapping[str, Growth] | None = None,
    *,
    is_straight: Callable[[str], bool] = lambda _table: True,
) -> list[TableChange]:
    """Every table of either side, those that change most first; ``growth`` says of some what came since."""
    names = sorted({*(live or {}), *(then or {})})
    came, came_there = added(growth or {}), added(growth_of_other or {})
    changes = [
        TableChange(
            name,
            None if live is None else live.get(name, 0),
            None if then is None else then.get(name, 0),
            came.get(name),
            came_there.get(name, 0),
            is_straight(name),
        )
        for name in names
    ]
    return sorted(changes, key=lambda change: -(change.lost + change.regained))


def added(growth: Mapping[str, Growth]) -> dict[str, int]:
    """The rows that came, by the tables' names in a manifest."""
    return {f"public.{table}": found.added for table, found in growth.items()}
