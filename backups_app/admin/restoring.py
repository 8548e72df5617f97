"""The pages before a restore and before an undo: what would be lost, and what has to be typed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from backups_app import config, tasks
from backups_app.admin.base import who
from backups_app.errors import QradminError
from backups_app.forms import RestoreForm, TypedForm
from backups_app.models import Backup, Operation, RestoreEvent
from backups_app.operations import revisions
from backups_app.operations.preview import look_before_replacing, look_before_undoing
from backups_app.presentation import replacing, surroundings
from backups_app.presentation.retelling import in_words

if TYPE_CHECKING:
    from backups_app.admin.base import ReadOnlyAdmin

RECENT = 10


def restore_page(admin: ReadOnlyAdmin[Any], request: HttpRequest, backup: Backup) -> HttpResponse:
    """GET shows what would be lost; POST checks the typed name, the reason and the state, and asks."""
    if backup.why_not_restorable:
        messages.error(request, backup.why_not_restorable)
        return redirect("admin:backups_app_backup_change", backup.pk)
    live = look_before_replacing(since=backup.snapshot_at)
    is_api_managed = bool(settings.API_CONTAINER)
    revision = None if live.revision is None else revisions.compare_with(live.revision, backup)
    offers_migrations = is_api_managed and revision is not None and revision.offers_migrations
    form = RestoreForm(
        request.POST or None, request=request, expected=backup.name, offers_migrations=offers_migrations
    )
    if request.method == "POST" and form.is_valid():
        operation = _asked(
            request,
            lambda: tasks.request_restore(
                backup,
                reason=form.cleaned_data["reason"],
                run_migrations=form.cleaned_data.get("run_migrations", False),
                without_safety_backup=form.cleaned_data["without_safety_backup"],
                **who(request),
            ),
        )
        if operation:
            return redirect("admin:backups_app_operation_change", operation.pk)
    context = {
        "form": form,
        **replacing.before_restore(live, backup),
        "revision": revision,
        "offers_migrations": offers_migrations,
        "is_api_managed": is_api_managed,
        "keep_hours": settings.REPLACED_DATABASE_HOURS,
        "safety_seconds": settings.SAFETY_BACKUP_TIME_LIMIT,
        "space": surroundings.space(),
        "busy": Operation.objects.active().filter(is_exclusive=True).first(),
        "experience": _experience(backup),
    }
    status = 200 if request.method != "POST" else 422
    return admin.page(request, "admin/backups_app/backup/restore.html", backup, context, status=status)


def undo_page(admin: ReadOnlyAdmin[Any], request: HttpRequest, event: RestoreEvent) -> HttpResponse:
    """GET shows what comes back; POST checks the typed name, the reason and the state, and asks."""
    if event.why_not_undoable:
        messages.error(request, event.why_not_undoable)
        return redirect("admin:backups_app_restoreevent_change", event.pk)
    database = config.managed_database().database
    form = TypedForm(request.POST or None, request=request, expected=database)
    if request.method == "POST" and form.is_valid():
        operation = _asked(
            request,
            lambda: tasks.request_undo_restore(event, reason=form.cleaned_data["reason"], **who(request)),
        )
        if operation:
            return redirect("admin:backups_app_operation_change", operation.pk)
    context = {
        "form": form,
        **replacing.before_undo(look_before_undoing(event), event),
        "database": database,
        "is_api_managed": bool(settings.API_CONTAINER),
        "busy": Operation.objects.active().filter(is_exclusive=True).first(),
    }
    status = 200 if request.method != "POST" else 422
    return admin.page(request, "admin/backups_app/restoreevent/undo.html", event, context, status=status)


def _asked(request: HttpRequest, ask: Any) -> Operation | None:
    try:
        operation: Operation = ask()
    except QradminError as error:
        messages.error(request, in_words(error.message))
        return None
    return operation


def _experience(backup: Backup) -> Mapping[str, float | None]:
    """How long it took lately: the test restore, the API's absence, the whole restore; medians in seconds."""
    events = RestoreEvent.objects.filter(outcome__in=["restored", "undone"], undoes=None).select_related(
        "operation"
    )[:RECENT]
    downtimes = [event.downtime_seconds for event in events if event.downtime_seconds is not None]
    whole = [event.operation.duration.total_seconds() for event in events if event.operation.duration]
    proof = backup.proof.get("seconds")
    if proof is None:
        latest = Backup.objects.proven().order_by("-proven_at").values_list("proof", flat=True).first()
        proof = (latest or {}).get("seconds")
    return {
        "proof": proof,
        "downtime": statistics.median(downtimes) if downtimes else None,
        "whole": statistics.median(whole) if whole else None,
    }
