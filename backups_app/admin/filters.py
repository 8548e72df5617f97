"""Filters of the lists that are no plain choice of a field."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from backups_app.models import Backup
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
