"""The audit history: what was asked, by whom, why, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backups_app import tasks
from backups_app.admin.base import ReadOnlyAdmin, acting, asked, insist_on, may, named, who
from backups_app.admin.exporting import as_csv
from backups_app.admin.filters import PeriodFilter
from backups_app.errors import QradminError
from backups_app.forms import ReasonForm
from backups_app.models import Backup, Operation
from backups_app.models.labels import label_of
from backups_app.presentation import buttons, live, trials, words
from backups_app.presentation.numbers import whole
from backups_app.presentation.retelling import in_words

API_REQUESTS: dict[str, Callable[..., Operation]] = {
    "stop": tasks.request_api_stop,
    "start": tasks.request_api_start,
    "migrate": tasks.request_migrate_database,
}

TRIAL_REQUESTS: dict[str, Callable[..., Operation]] = {
    "validate": tasks.request_validate_trial,
    "drop": tasks.request_drop_trial,
}


@admin.register(Operation)
class OperationAdmin(ReadOnlyAdmin[Operation]):
    """Everything that was ever asked for."""

    detail_template = "admin/backups_app/operation/detail.html"
    change_list_template = "admin/backups_app/operation/change_list.html"
    list_display = (
        "what",
        "state_",
        "requested_by_name",
        "source_",
        "reason_",
        "started",
        "duration_",
        "outcome",
    )
    list_filter = ("state", "kind", "source", PeriodFilter)
    list_select_related = ("backup",)
    search_fields = ("requested_by_name", "reason", "error")  # and the name of the backup, see below
    search_help_text = gettext_lazy("Person, reason, error or backup")
    date_hierarchy = "created_at"
    actions = None

    @admin.display(description=gettext_lazy("what"), ordering="created_at")
    def what(self, operation: Operation) -> str:
        return format_html(
            '<a href="{}"><strong>{}</strong> <span class="file">{}</span></a>',
            reverse("admin:backups_app_operation_change", args=[operation.pk]),
            operation,
            operation.backup.name if operation.backup else "",
        )

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def state_(self, operation: Operation) -> str:
        return words.badge(words.state_of(operation))

    @admin.display(description=gettext_lazy("reason"))
    def reason_(self, operation: Operation) -> str:
        return operation.reason

    @admin.display(description=gettext_lazy("asked for"), ordering="created_at")
    def started(self, operation: Operation) -> str:
        return words.moment(operation.created_at)

    @named
    @admin.display(description=gettext_lazy("asked by"), ordering="source")
    def source_(self, operation: Operation) -> str:
        return label_of(Operation.Source, operation.source)

    @named
    @admin.display(description=gettext_lazy("duration"))
    def duration_(self, operation: Operation) -> str:
        return words.duration(operation.duration)

    @admin.display(description=gettext_lazy("error"))
    def outcome(self, operation: Operation) -> str:
        return in_words(operation.error)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Operation]:
        return (
            super().get_queryset(request).defer("error_detail", "result", "backup__manifest", "backup__proof")
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Operation], search_term: str
    ) -> tuple[QuerySet[Operation], bool]:
        """The names of the backups are looked through once, not again for each operation of theirs."""
        found, may_repeat = super().get_search_results(request, queryset, search_term)
        if search_term:
            named = Backup.objects.filter(name__icontains=search_term).order_by().values("pk")
            found |= queryset.filter(backup__in=named)
        return found, may_repeat

    def found(self, request: HttpRequest, object_id: str) -> Any:
        row = super().found(request, object_id)
        return Operation.objects.select_related("backup").get(pk=row.pk) if row.get_deferred_fields() else row

    def detail_context(self, request: HttpRequest, row: Operation) -> dict[str, Any]:
        return {
            **live.context_of(row),
            "held_up": live.held_up_by(row),
            "may_end_sessions": may(request, "end_sessions"),
            "cancel": buttons.cancel(row, partial(may, request)),
            "event": getattr(row, "restore_event", None),
            "trial": trials.of(row, partial(may, request)),
            "consequence": live.cancel_consequence(row),
            "how": words.how(row),
            "made": row.made_backups.all(),
            "checks": row.result.get("checks", []),
        }

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        extra = {
            "may_validate": may(request, "validate_database"),
            "may_create": may(request, "create_backup"),
            "csv_query": request.GET.urlencode(),
            **(extra_context or {}),
        }
        return super().changelist_view(request, extra)

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """The list as it is filtered now."""
        insist_on(request, "view_operation")
        try:
            return as_csv(self.get_changelist_instance(request).get_queryset(request))
        except IncorrectLookupParameters:  # as the list itself does
            return redirect(reverse("admin:backups_app_operation_changelist") + f"?{ERROR_FLAG}=1")

    def get_urls(self) -> list[URLPattern]:
        def own(route: str, view: Callable[..., HttpResponseBase], name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"backups_app_operation_{name}")

        return [
            own("validate-database/", self.validate_database_view, "validate_database"),
            own("export/", self.export_view, "export"),
            own("api/<slug:what>/", self.api_view, "api"),
            own("<int:pk>/progress/", self.progress_view, "progress"),
            own("<int:pk>/cancel/", self.cancel_view, "cancel"),
            own("<int:pk>/trial/<slug:deed>/", self.trial_view, "trial"),
            own("<int:pk>/end-sessions/", self.end_sessions_view, "end_sessions"),
            *super().get_urls(),
        ]

    def progress_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What the page asks for while the operation runs."""
        return JsonResponse(live.report(self.found(request, str(pk)), after=request.GET.get("after", "")))

    @acting("cancel_operation")
    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        operation = self.found(request, str(pk))
        if operation.request_cancel(request.user.get_username()):
            messages.success(request, _("The cancel was asked for."))
        else:
            messages.error(request, _("It is too late to cancel: it has ended, or can no longer be stopped."))
        return redirect("admin:backups_app_operation_change", pk)

    @acting("prove_backup")
    def trial_view(self, request: HttpRequest, pk: int, deed: str) -> HttpResponse:
        """Validate or drop the database of a trial."""
        ask = TRIAL_REQUESTS.get(deed)
        trial = self.found(request, str(pk))
        if ask is None or trial.kind != Operation.Kind.TRIAL:
            raise Http404(_("There is no such action."))
        back = reverse("admin:backups_app_operation_change", args=[pk])
        return asked(request, lambda: ask(trial, **who(request)), back=back)

    @acting("end_sessions")
    def end_sessions_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """End the chosen sessions here and now: the workers may all be held up by them."""
        operation = self.found(request, str(pk))
        form = ReasonForm(request.POST)
        if not form.is_valid():
            messages.error(request, str(form.errors["reason"][0]))
            return redirect("admin:backups_app_operation_change", pk)
        chosen = [pid for text in request.POST.getlist("pid") if (pid := whole(text)) is not None]
        try:
            ended = tasks.run_here(
                tasks.request_end_sessions(
                    chosen,
                    operation=operation,
                    reason=form.cleaned_data["reason"],
                    is_queued=False,
                    **who(request),
                )
            )
        except QradminError as error:
            messages.error(request, in_words(error.message))
            return redirect("admin:backups_app_operation_change", pk)
        if ended.state != Operation.State.SUCCEEDED:
            return redirect("admin:backups_app_operation_change", ended.pk)
        messages.success(
            request, _("The sessions were ended: %(operation)s goes on.") % {"operation": operation}
        )
        return redirect("admin:backups_app_operation_change", pk)

    @acting("validate_database")
    def validate_database_view(self, request: HttpRequest) -> HttpResponse:
        return asked(request, lambda: tasks.request_validate_database(**who(request)), back="admin:index")

    @acting("control_api")
    def api_view(self, request: HttpRequest, what: str) -> HttpResponse:
        ask = API_REQUESTS.get(what)
        if ask is None:
            raise Http404(_("There is no such action."))
        form = ReasonForm(request.POST)
        if not form.is_valid():
            messages.error(request, str(form.errors["reason"][0]))
            return redirect("admin:index")
        return asked(
            request, lambda: ask(reason=form.cleaned_data["reason"], **who(request)), back="admin:index"
        )
