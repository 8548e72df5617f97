"""Filters of the lists that are no plain choice of a field."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from backups_app.models import Backup, Operation
from backups_app.presentation import days
from backups_app.presentation.words import BACKUP_STATES


class BackupStateFilter(admin.SimpleListFilter):
    """By the state that the list shows."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:  # noqa: ARG002
        return [("present", _("Not removed")), *((key, text) for key, (_tone, text) in BACKUP_STATES.items())]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Backup]) -> QuerySet[Backup] | None:  # noqa: ARG002
        present = queryset.filter(removed_at=None)
        sound = present.filter(damage="")
        return {
            "present": present,
            "removed": queryset.filter(removed_at__isnull=False),
            "damaged": present.exclude(damage=""),
            "proven": sound.filter(proven_at__isnull=False),
            "validated": sound.filter(proven_at=None, validated_at__isnull=False),
            "unvalidated": sound.filter(proven_at=None, validated_at=None),
        }.get(self.value() or "", queryset)


class PeriodFilter(admin.SimpleListFilter):
    """By the last days, today among them: as the overview counts them."""

    title = _("period")
    parameter_name = "days"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:  # noqa: ARG002
        return [("1", _("Today")), ("7", _("Last 7 days")), ("30", _("Last 30 days"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Operation]) -> QuerySet[Operation] | None:  # noqa: ARG002
        if self.value() not in {"1", "7", "30"}:
            return queryset
        return queryset.filter(created_at__gte=days.beginning(int(self.value() or 1) - 1))
