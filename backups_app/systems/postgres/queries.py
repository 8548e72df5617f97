"""Small questions to PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, cast

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from backups_app.errors import EnvironmentProblem
from backups_app.sentences import say


def one_row(
    connection: psycopg.Connection[TupleRow],
    query: str | sql.SQL | sql.Composed,
    parameters: Sequence[Any] | Mapping[str, Any] | None = None,
) -> tuple[Any, ...]:
    """The only row that ``query`` gives."""
    row = connection.execute(cast("LiteralString", query), parameters).fetchone()
    if row is None:
        raise EnvironmentProblem(
            say("PostgreSQL gave no answer where one row was expected."), detail=str(query)
        )
    return row
