"""How the API's container was when a worker last looked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Self

from django.db import models

from backups_app.models.worker import ALIVE_FOR


class ApiSightingQuerySet(models.QuerySet["ApiSighting"]):
    """The vocabulary for many sightings."""

    def of_late(self, container: str, now: datetime, *, within: timedelta = ALIVE_FOR) -> Self:
        """Of that container, and so fresh that it counts: see `ApiSighting.is_fresh`."""
        return self.filter(container=container, at__gt=now - within, at__lt=now + ALIVE_FOR)

    def record(self, container: str, at: datetime, **seen: Any) -> None:
        """What somebody saw who began to look at that moment; nothing where another one has looked since.

        A row that lies far ahead is from before the clock was set back: it is overwritten.
        """
        row: dict[str, Any] = {"at": at, "is_there": False, "is_running": False, "health": "", "problem": ""}
        row |= seen
        known = self.filter(container=container).exclude(at__gt=at, at__lt=at + ALIVE_FOR)
        if not known.update(**row):
            self.get_or_create(container=container, defaults=row)


class ApiSighting(models.Model):
    """One container and how it was when it was last looked at.

    ``health`` is what its health check says, empty without one; nothing is known of it where there is a
    ``problem``, a stored sentence.
    """

    container = models.CharField(max_length=300, unique=True)
    at = models.DateTimeField()
    is_there = models.BooleanField(default=False)
    is_running = models.BooleanField(default=False)
    health = models.CharField(max_length=100, blank=True)
    problem = models.TextField(blank=True)

    objects = ApiSightingQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.container

    def is_fresh(self, now: datetime) -> bool:
        """Of late; one that lies ahead is from before the clock was set back."""
        return now - ALIVE_FOR < self.at < now + ALIVE_FOR
