"""Backups: the list, one backup, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.csrf import csrf_exempt

from backups_app import config, tasks
from backups_app.admin.base import ReadOnlyAdmin, acting, asked, insist_on, may, named, who
from backups_app.admin.downloading import download
from backups_app.admin.filters import BackupStateFilter
from backups_app.admin.pinning import pin_page
from backups_app.admin.pruning import prune_page
from backups_app.admin.restoring import restore_page
from backups_app.admin.uploading import import_page
from backups_app.errors import QradminError
from backups_app.models import Backup, Operation
from backups_app.models.labels import label_of
from backups_app.presentation import buttons, words
from backups_app.presentation.retelling import in_words


@admin.register(Backup)
class BackupAdmin(ReadOnlyAdmin[Backup]):
    """Every backup there is or was."""

    detail_template = "admin/backups_app/backup/detail.html"
    change_list_template = "admin/backups_app/backup/change_list.html"
    list_filter = (BackupStateFilter, "origin", "is_pinned", "is_api_stopped")
    search_fields = ("name", "created_by", "revision", "pin_reason")
    search_help_text = gettext_lazy("File name, person, revision or reason of a pin")
    date_hierarchy = "created_at"
    actions = ("create_backups", "validate_backups", "prove_backups", "restore_one")

    # --- the list ---------------------------------------------------------------------------------

    def get_list_display(self, request: HttpRequest) -> Any:
        """Row buttons know who asks, so they are made for each request."""
        allowed = partial(may, request)

        @admin.display(description=_("Actions"), empty_value="")
        def deeds(backup: Backup) -> str:
            return render_to_string(
                "admin/qradmin/row_buttons.html", {"buttons": buttons.in_row(backup, allowed), "row": backup}
            )

        shown = ["taken", "state_", "size_", "duration_", "rows_", "origin", "created_by", "copies_"]
        names = ("validate_backup", "prove_backup", "restore_backup")
        return [*shown, deeds] if any(allowed(name) for name in names) else shown

    def get_queryset(self, request: HttpRequest) -> QuerySet[Backup]:
        return super().get_queryset(request).defer("manifest", "proof", "warnings")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changes = super().get_changelist_instance(request)
        changes.result_list = changes.result_list.prefetch_related("copies")
        return changes

    @admin.display(description=gettext_lazy("taken"), ordering="created_at")
    def taken(self, backup: Backup) -> str:
        return format_html(
            '<a href="{}"><strong>{}</strong> <span class="file">{}</span></a>{}',
            reverse("admin:backups_app_backup_change", args=[backup.pk]),
            words.moment(backup.created_at),
            backup.name,
            format_html(' <span class="pin">{}</span>', _("pinned")) if backup.is_pinned else "",
        )

    @admin.display(description=gettext_lazy("state"))
    def state_(self, backup: Backup) -> str:
        return words.badge(words.state_of(backup))

    @admin.display(description=gettext_lazy("size"), ordering="size")
    def size_(self, backup: Backup) -> str:
        return words.size(backup.size)

    @named
    @admin.display(description=gettext_lazy("duration"), ordering="seconds")
    def duration_(self, backup: Backup) -> str:
        return words.duration(backup.seconds)

    @named
    @admin.display(description=gettext_lazy("rows"), ordering="rows")
    def rows_(self, backup: Backup) -> str:
        return words.number(backup.rows)

    @named
    @admin.display(description=gettext_lazy("copies"))
    def copies_(self, backup: Backup) -> str:
        if not backup.is_present:
            return words.NOTHING
        return (
            format_html_join(
                " ",
                '<span class="state state-{}" title="{}">{}</span>',
                (
                    (words.state_of(copy).tone, words.state_of(copy).text, _copy_text(copy))
                    for copy in backup.copies.all()
                ),
            )
            or words.NOTHING
        )

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method == "POST" and request.POST.get("action") == "create_backups":
            return self._create(request)  # it needs no selected rows, which Django would insist on
        extra = {
            "may_create": may(request, "create_backup"),
            "is_api_managed": config.api().is_managed,
            "may_check": may(request, "validate_backup"),
            "may_prune": may(request, "prune_backups"),
            "may_import": may(request, "import_backup"),
            **(extra_context or {}),
        }
        return super().changelist_view(request, extra)

    # --- actions on the list ------------------------------------------------------------------------

    @admin.action(description=gettext_lazy("Create a backup (needs no selection)"), permissions=["create"])
    def create_backups(self, request: HttpRequest, queryset: QuerySet[Backup]) -> HttpResponse:  # noqa: ARG002
        return self._create(request)

    @admin.action(description=gettext_lazy("Validate the selected backups"), permissions=["validate"])
    def validate_backups(self, request: HttpRequest, queryset: QuerySet[Backup]) -> HttpResponse | None:
        return self._ask_for_many(request, queryset, tasks.request_validate_backup)

    @admin.action(
        description=gettext_lazy("Prove the selected backups by a test restore"), permissions=["prove"]
    )
    def prove_backups(self, request: HttpRequest, queryset: QuerySet[Backup]) -> HttpResponse | None:
        return self._ask_for_many(request, queryset, tasks.request_prove_backup)

    @admin.action(description=gettext_lazy("Restore the selected backup…"), permissions=["restore"])
    def restore_one(self, request: HttpRequest, queryset: QuerySet[Backup]) -> HttpResponse | None:
        chosen = list(queryset[:2])
        if len(chosen) != 1:
            messages.error(request, _("Choose exactly one backup to restore."))
            return None
        return redirect("admin:backups_app_backup_restore", chosen[0].pk)

    def has_create_permission(self, request: HttpRequest) -> bool:
        return may(request, "create_backup")

    def has_validate_permission(self, request: HttpRequest) -> bool:
        return may(request, "validate_backup")

    def has_prove_permission(self, request: HttpRequest) -> bool:
        return may(request, "prove_backup")

    def has_restore_permission(self, request: HttpRequest) -> bool:
        return may(request, "restore_backup")

    def _ask_for_many(
        self, request: HttpRequest, queryset: QuerySet[Backup], ask: Callable[..., Operation]
    ) -> HttpResponse | None:
        asked_for: list[Operation] = []
        for backup in queryset:
            try:
                asked_for.append(ask(backup, **who(request)))
            except QradminError as error:
                told = in_words(error.message)
                text = _("The backup %(name)s: %(error)s") % {"name": backup.name, "error": told}
                messages.error(request, told if backup.name in told else text)
        if len(asked_for) == 1:
            return redirect("admin:backups_app_operation_change", asked_for[0].pk)
        if asked_for:
            text = ngettext("%d operation was asked for.", "%d operations were asked for.", len(asked_for))
            messages.success(request, text % len(asked_for))
            return redirect("admin:backups_app_operation_changelist")
        return None

    # --- one backup -----------------------------------------------------------------------------------

    def detail_context(self, request: HttpRequest, row: Backup) -> dict[str, Any]:
        allowed = partial(may, request)
        manifest = row.manifest or {}
        return {
            "buttons": list(buttons.for_backup(row, allowed)),
            "restore": buttons.for_deed("restore", row, allowed),
            "copies": row.copies.all(),
            "tables": sorted(manifest.get("tables", {}).items()),
            "large_objects": manifest.get("large_objects"),
            "restores": row.restores.select_related("operation")[:20],
            "operations": row.operations.all()[:20],
        }

    def get_urls(self) -> list[URLPattern]:
        def own(route: str, view: Callable[..., HttpResponseBase], name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"backups_app_backup_{name}")

        return [
            own("create/", self.create_view, "create"),
            own("check-copies/", self.check_copies_view, "check_copies"),
            own("prune/", self.prune_view, "prune"),
            own("import/", csrf_exempt(self.import_view), "import"),  # protected once the upload is set up
            own("import/found/", self.import_found_view, "import_found"),
            own("<int:pk>/validate/", self.validate_view, "validate"),
            own("<int:pk>/prove/", self.prove_view, "prove"),
            own("<int:pk>/trial/", self.trial_view, "trial"),
            own("<int:pk>/download/", self.download_view, "download"),
            own("<int:pk>/pin/", self.pin_view, "pin"),
            own("<int:pk>/restore/", self.restore_view, "restore"),
            *super().get_urls(),
        ]

    @acting("create_backup")
    def create_view(self, request: HttpRequest) -> HttpResponse:
        return self._create(request)

    def _create(self, request: HttpRequest) -> HttpResponse:
        insist_on(request, "create_backup")
        stop_api = request.POST.get("stop_api") == "1"
        return asked(
            request,
            lambda: tasks.request_backup(stop_api=stop_api, **who(request)),
            back="admin:backups_app_backup_changelist",
        )

    @acting("validate_backup")
    def check_copies_view(self, request: HttpRequest) -> HttpResponse:
        return asked(
            request,
            lambda: tasks.request_check_copies(**who(request)),
            back="admin:backups_app_backup_changelist",
        )

    def prune_view(self, request: HttpRequest) -> HttpResponse:
        insist_on(request, "prune_backups")
        return prune_page(self, request)

    def import_view(self, request: HttpRequest) -> HttpResponse:
        insist_on(request, "import_backup")
        return import_page(self, request)

    @acting("import_backup")
    def import_found_view(self, request: HttpRequest) -> HttpResponse:
        return asked(
            request, lambda: tasks.request_import(**who(request)), back="admin:backups_app_backup_import"
        )

    @acting("validate_backup")
    def validate_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._ask_for_one(request, pk, tasks.request_validate_backup)

    @acting("prove_backup")
    def prove_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._ask_for_one(request, pk, tasks.request_prove_backup)

    @acting("prove_backup")
    def trial_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._ask_for_one(request, pk, tasks.request_trial)

    @acting("download_backup")
    def download_view(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        return download(request, self.found(request, str(pk)))

    def pin_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        insist_on(request, "pin_backup")
        return pin_page(self, request, self.found(request, str(pk)))

    def restore_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        insist_on(request, "restore_backup")
        return restore_page(self, request, self.found(request, str(pk)))

    def _ask_for_one(self, request: HttpRequest, pk: int, ask: Callable[..., Operation]) -> HttpResponse:
        backup = self.found(request, str(pk))
        back = reverse("admin:backups_app_backup_change", args=[pk])
        return asked(request, lambda: ask(backup, **who(request)), back=back)


def _copy_text(copy: Any) -> str:
    if copy.state == copy.State.STORED:
        return str(copy.location)
    return f"{copy.location}: {label_of(copy.State, copy.state)}"
