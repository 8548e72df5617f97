"""Signs of life of the worker processes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

ALIVE_FOR = timedelta(seconds=30)


class WorkerBeatQuerySet(models.QuerySet["WorkerBeat"]):
    """The vocabulary for many workers."""

    def alive(self, now: datetime) -> Self:
        """Seen of late; a beat that lies ahead is that of a worker from before the clock was set back."""
        return self.filter(at__gt=now - ALIVE_FOR, at__lt=now + ALIVE_FOR)


class WorkerBeat(models.Model):
    """One worker process and when it was last seen."""

    name = models.CharField(_("worker"), max_length=300, unique=True)
    started_at = models.DateTimeField(_("started"), default=timezone.now)
    at = models.DateTimeField(_("last seen"))

    objects = WorkerBeatQuerySet.as_manager()

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.name
