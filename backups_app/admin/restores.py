"""Restores: before and after, the undo with its deadline, and what people wrote about them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backups_app.admin.base import ReadOnlyAdmin, acting, insist_on, may, named, who
from backups_app.admin.restoring import undo_page
from backups_app.forms import NoteForm
from backups_app.models import IncidentNote, RestoreEvent
from backups_app.operations.preview import compare_rows
from backups_app.presentation import buttons, words


@admin.register(RestoreEvent)
class RestoreEventAdmin(ReadOnlyAdmin[RestoreEvent]):
    """Every restore and every undo."""

    detail_template = "admin/backups_app/restoreevent/detail.html"
    change_list_template = "admin/backups_app/restoreevent/change_list.html"
    list_display = ("what", "outcome_", "by", "reason", "downtime", "safety", "undo_until")
    list_filter = ("outcome",)
    list_select_related = ("operation", "backup", "safety_backup")
    search_fields = ("backup__name", "operation__requested_by_name", "operation__reason")
    search_help_text = gettext_lazy("Backup, person or reason")
    date_hierarchy = "created_at"
    actions = ("undo_one",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[RestoreEvent]:
        heavy = ("backup__manifest", "safety_backup__manifest", "backup__proof", "safety_backup__proof")
        return super().get_queryset(request).defer(*heavy)

    @admin.action(description=gettext_lazy("Undo the selected restore…"), permissions=["undo"])
    def undo_one(self, request: HttpRequest, queryset: QuerySet[RestoreEvent]) -> HttpResponse | None:
        chosen = list(queryset[:2])
        if len(chosen) != 1:
            messages.error(request, _("Choose exactly one restore to undo."))
            return None
        return redirect("admin:backups_app_restoreevent_undo", chosen[0].pk)

    def has_undo_permission(self, request: HttpRequest) -> bool:
        return may(request, "restore_backup")

    @admin.display(description=gettext_lazy("what"), ordering="created_at")
    def what(self, event: RestoreEvent) -> str:
        return format_html(
            '<a href="{}"><strong>{} · {}</strong> <span class="file">{}</span></a>',
            reverse("admin:backups_app_restoreevent_change", args=[event.pk]),
            words.moment(event.created_at),
            event,
            event.backup.name if event.backup else "",
        )

    @admin.display(description=gettext_lazy("outcome"), ordering="outcome")
    def outcome_(self, event: RestoreEvent) -> str:
        return words.badge(words.state_of(event))

    @admin.display(description=gettext_lazy("by whom"))
    def by(self, event: RestoreEvent) -> str:
        return event.operation.requested_by_name

    @admin.display(description=gettext_lazy("reason"))
    def reason(self, event: RestoreEvent) -> str:
        return event.operation.reason

    @named
    @admin.display(description=gettext_lazy("API down"))
    def downtime(self, event: RestoreEvent) -> str:
        return words.duration(event.downtime_seconds)

    @named
    @admin.display(description=gettext_lazy("safety backup"))
    def safety(self, event: RestoreEvent) -> str:
        if event.safety_backup is None:
            return ""
        url = reverse("admin:backups_app_backup_change", args=[event.safety_backup.pk])
        name = words.at_underscores(event.safety_backup.name)
        return format_html('<a href="{}" class="file">{}</a>', url, name)

    @named
    @admin.display(description=gettext_lazy("undo until"))
    def undo_until(self, event: RestoreEvent) -> str:
        return "" if event.why_not_undoable else words.moment(event.replaced_kept_until)

    def detail_context(self, request: HttpRequest, row: RestoreEvent) -> dict[str, Any]:
        return {
            "changes": compare_rows(row.rows_before or None, row.rows_after or None),
            "undo": buttons.undo(row, partial(may, request)),
            "undone_by": row.undone_by.select_related("operation"),
            "notes": row.notes.all(),
            "note_form": NoteForm() if may(request, "note_incident") else None,
        }

    def get_urls(self) -> list[URLPattern]:
        def own(route: str, view: Callable[..., HttpResponseBase], name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"backups_app_restoreevent_{name}")

        return [
            own("<int:pk>/undo/", self.undo_view, "undo"),
            own("<int:pk>/note/", self.note_view, "note"),
            *super().get_urls(),
        ]

    def undo_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        insist_on(request, "restore_backup")
        return undo_page(self, request, self.found(request, str(pk)))

    @acting("note_incident")
    def note_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        event = self.found(request, str(pk))
        form = NoteForm(request.POST)
        if not form.is_valid():
            context = self.detail_context(request, event) | {"note_form": form}
            return self.page(request, self.detail_template, event, context, status=422)
        IncidentNote.objects.create(
            event=event,
            author=who(request)["user"],
            author_name=request.user.get_username(),
            text=form.cleaned_data["text"],
        )
        messages.success(request, _("The note was added."))
        return redirect("admin:backups_app_restoreevent_change", pk)
