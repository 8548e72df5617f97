"""Queries that are the same every time: written as SQL once, because that takes longer than to ask them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cache
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model, QuerySet
from django.db.models.query import RawQuerySet

Row = TypeVar("Row", bound=Model)


def prepared(make: Callable[..., QuerySet[Row]]) -> Callable[..., RawQuerySet[Row]]:
    """``make`` builds a query of whole rows out of its arguments alone, no clock and no setting.

    Each call asks the database anew. What ``make`` annotates comes as the database has it, of no Django
    type, and other tables' rows are not fetched with it.
    """

    @cache
    def compiled(*told: Hashable) -> tuple[type[Row], str, tuple[Any, ...]]:
        rows = make(*told)
        return (rows.model, *rows.query.get_compiler(DEFAULT_DB_ALIAS).as_sql())

    def ask(*told: Hashable) -> RawQuerySet[Row]:
        model, sql, parameters = compiled(*told)
        return RawQuerySet(sql, model=model, params=parameters, using=DEFAULT_DB_ALIAS)

    return ask


def union_of(few: Sequence[QuerySet[Row]]) -> QuerySet[Row, Any]:
    """The numbers of the rows of some small sets, for ``pk__in``: each is read by its index.

    One condition with OR would read the whole table; sets that are cut off at a number of rows may stand
    in SQLite's unions only as sets of numbers themselves.
    """
    numbers: list[Any] = [
        QuerySet(some.model).filter(pk__in=some.values("pk")).order_by().values("pk") for some in few
    ]
    union: QuerySet[Row, Any] = numbers[0].union(*numbers[1:])
    return union
