"""Rows of the audit trail: nothing deletes them, and some are never changed either."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from django.db import models

Row = TypeVar("Row", bound=models.Model)


class AppendOnlyError(TypeError):
    """Code tried to change or delete a row of the audit trail."""


class KeptQuerySet(models.QuerySet[Row]):
    """Rows that may change but never go."""

    def delete(self) -> NoReturn:
        raise AppendOnlyError(f"{self.model.__name__} rows are part of the audit trail: they are kept.")


class WrittenOnceQuerySet(KeptQuerySet[Row]):
    """Rows that neither change nor go."""

    def update(self, **_changes: Any) -> NoReturn:
        raise AppendOnlyError(f"{self.model.__name__} rows are part of the audit trail: they never change.")


class Kept(models.Model):
    """A row that may change but never goes."""

    class Meta:
        abstract = True

    def delete(self, *_args: Any, **_options: Any) -> NoReturn:
        raise AppendOnlyError(f"{type(self).__name__} rows are part of the audit trail: they are kept.")


class WrittenOnce(Kept):
    """A row that neither changes nor goes."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **options: Any) -> None:
        if not self._state.adding:
            raise AppendOnlyError(
                f"{type(self).__name__} rows are part of the audit trail: they never change."
            )
        super().save(*args, **options)
