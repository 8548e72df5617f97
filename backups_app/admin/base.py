"""What every page of a record has in common: it is read, and each deed is a POST with its own permission."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Generic, TypeVar

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from backups_app.admin.lists import CarefulLists, FrugalList, SearchPaginator
from backups_app.errors import QradminError
from backups_app.models import Operation
from backups_app.presentation.retelling import in_words
from backups_app.presentation.words import NOTHING

Row = TypeVar("Row", bound=Model)
View = Callable[..., HttpResponseBase]
Column = Callable[[Any, Any], str]


def may(request: HttpRequest, codename: str) -> bool:
    """Whether whoever asks has this permission of ours."""
    return request.user.has_perm(f"backups_app.{codename}")


def insist_on(request: HttpRequest, codename: str) -> None:
    if not may(request, codename):
        raise PermissionDenied


def acting(codename: str) -> Callable[[View], View]:
    """A view that changes something: 403 without the permission, 405 for anything but a POST."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            insist_on(request, codename)
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            return view(self, request, *args, **kwargs)

        return guarded

    return decorate


def who(request: HttpRequest) -> dict[str, Any]:
    """Who asks, as the queue's door wants to know it."""
    return {"user": None if isinstance(request.user, AnonymousUser) else request.user}


def asked(request: HttpRequest, ask: Callable[[], Operation], *, back: str) -> HttpResponse:
    """Ask for an operation and show it; a refusal is said on the page ``back``."""
    try:
        operation = ask()
    except QradminError as error:
        messages.error(request, in_words(error.message))
        return redirect(back)
    return redirect("admin:backups_app_operation_change", operation.pk)


def named(column: Column) -> Column:
    """Of a list: on a telephone, where it has no head, the column's name stands before the value."""

    @wraps(column)
    def cell(self: Any, row: Any) -> str:
        value = column(self, row)
        if value in {"", NOTHING}:
            return ""
        return format_html('<span class="cell-name">{}</span> {}', column.short_description, value)  # type: ignore[attr-defined]

    return cell


class ReadOnlyAdmin(CarefulLists, Generic[Row]):
    """Records that nobody adds, changes or deletes by hand, superusers included."""

    empty_value_display = format_html('<span class="nothing">{}</span>', NOTHING)
    list_per_page = 20
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_display_links = None
    actions_selection_counter = True
    detail_template = ""

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:  # noqa: ARG002
        return FrugalList

    def get_paginator(self, request: HttpRequest, *told: Any, **options: Any) -> Paginator[Any]:
        make = SearchPaginator if request.GET.get(SEARCH_VAR) else self.paginator
        made: Paginator[Any] = make(*told, **options)
        return made

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def found(self, request: HttpRequest, object_id: str) -> Any:
        """The record, for someone who may view it; 404 when there is none."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404(_("There is no such record."))
        return row

    def detail_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:  # noqa: ARG002
        """What the detail page shows beside the record."""
        return {}

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",  # noqa: ARG002
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The record's own page. It only reads."""
        row = self.found(request, object_id)
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        return self.page(
            request, self.detail_template, row, self.detail_context(request, row) | (extra_context or {})
        )

    def history_view(
        self,
        request: HttpRequest,
        object_id: str,
        extra_context: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> HttpResponse:
        """The audit history is the history: the stock page would always be empty."""
        row = self.found(request, object_id)
        return redirect(f"admin:backups_app_{self.opts.model_name}_change", row.pk)

    def page(
        self, request: HttpRequest, template: str, row: Any, context: dict[str, Any], *, status: int = 200
    ) -> TemplateResponse:
        """A page about one record."""
        return self.plain_page(request, template, {"title": str(row), "row": row, **context}, status=status)

    def plain_page(
        self, request: HttpRequest, template: str, context: dict[str, Any], *, status: int = 200
    ) -> TemplateResponse:
        """A page about all of them."""
        request.current_app = self.admin_site.name
        everything = {**self.admin_site.each_context(request), "opts": self.opts, **context}
        return TemplateResponse(request, template, everything, status=status)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list; an action that is not among this person's own is refused, not overlooked."""
        wanted = request.POST.get("action")
        if request.method == "POST" and wanted and wanted not in self.get_actions(request):
            raise PermissionDenied
        request.current_app = self.admin_site.name
        title = capfirst(str(self.opts.verbose_name_plural))  # Django's own says what to select
        return super().changelist_view(request, {"title": title, **(extra_context or {})})
