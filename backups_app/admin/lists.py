"""Lists that look up what their pages offer and nothing else, whatever stands in an address or a form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList, ChangeListSearchForm
from django.core.exceptions import FieldDoesNotExist
from django.core.paginator import Paginator
from django.db import DataError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.functional import cached_property
from django.utils.translation import gettext as _

from backups_app.presentation.numbers import whole

LONGEST_SEARCH = 200
MOST_VALUES = 20  # of one filter
LOOKUPS = ("", "__exact", "__in", "__isnull")
# With a margin at both ends of what a date can be: a day is added, and a zone may take one away.
PARTS_OF_A_DATE = {"year": range(2, 9999), "month": range(1, 13), "day": range(1, 32)}


class ShortSearch(ChangeListSearchForm):
    """Each word of a search is looked for in several columns: a thousand of them are too many."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields = {SEARCH_VAR: forms.CharField(required=False, strip=False, max_length=LONGEST_SEARCH)}


class CarefulList(ChangeList):
    """What makes no sense leads back to the whole list, as the stock one does for the most of it."""

    search_form_class = ShortSearch

    def get_filters(self, request: HttpRequest) -> Any:
        for lookup, values in self.get_filters_params().items():
            if len(values) > MOST_VALUES or not all(_makes_sense(lookup, value) for value in values):
                raise IncorrectLookupParameters(lookup)
        return super().get_filters(request)

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: list[str | None] | None = None
    ) -> QuerySet[Any]:
        with _understood():
            return super().get_queryset(request, exclude_parameters)

    def get_results(self, request: HttpRequest) -> None:
        with _understood():
            super().get_results(request)


class SearchPaginator(Paginator):  # type: ignore[type-arg]
    """Of a search, which has to read every row: where all that is found has room on one page, only once."""

    @cached_property
    def first(self) -> list[int]:
        """The numbers of the rows of the first page, and of one more that tells whether there is another."""
        found: Any = self.object_list
        return list(found.values_list("pk", flat=True)[: self.per_page + 1])

    @cached_property
    def count(self) -> int:
        return len(self.first) if len(self.first) <= self.per_page else super().count


class FrugalList(CarefulList):
    """Reads the rows that it shows and no others: nothing where none were found, and for a page far behind
    only the numbers of those before."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        is_one_of_several = self.result_list.query.is_sliced
        is_first = self.page_num == 1 if is_one_of_several else not self.multi_page
        if not self.result_count:
            self.result_list = self.queryset.none()
        elif is_first and isinstance(self.paginator, SearchPaginator):
            self._show(self.paginator.first[: self.list_per_page])
        elif is_one_of_several:
            self._show(self.result_list.values("pk"))

    def _show(self, numbers: Any) -> None:
        shown = self.apply_select_related(self.root_queryset.filter(pk__in=numbers))
        self.result_list = shown.order_by(*self.queryset.query.order_by)


class CarefulLists(admin.ModelAdmin):  # type: ignore[type-arg]
    """An address cannot have the database search by anything that no page offers."""

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:  # noqa: ARG002
        return CarefulList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """By a field of the records only what the page offers; what is no field at all is not looked up."""
        if not _is_a_field(self.model, lookup.partition("__")[0]):
            return True
        return lookup in _offered(self, request) and super().lookup_allowed(lookup, value, request)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list; a selection of anything but records does nothing."""
        if any(whole(chosen) is None for chosen in request.POST.getlist(ACTION_CHECKBOX_NAME)):
            messages.error(request, _("The selection cannot be understood: choose again. Nothing was done."))
            return redirect(request.get_full_path())
        return super().changelist_view(request, extra_context)


@contextmanager
def _understood() -> Iterator[None]:
    """What a database cannot make anything of was no sensible question."""
    try:
        yield
    except (ValueError, OverflowError, DataError) as error:
        raise IncorrectLookupParameters(error) from error


def _makes_sense(lookup: str, value: str) -> bool:
    possible = PARTS_OF_A_DATE.get(lookup.rpartition("__")[2])
    return "\0" not in value and (possible is None or whole(value) in possible)


def _is_a_field(model: type[Model], name: str) -> bool:
    try:
        model._meta.get_field(name)  # noqa: SLF001 - Django's own word for what a model is made of
    except FieldDoesNotExist:
        return name == "pk"
    return True


def _offered(admin_of: admin.ModelAdmin[Any], request: HttpRequest) -> set[str]:
    """What the filters and the date hierarchy of a list put into its addresses."""
    found = {f"{admin_of.date_hierarchy}__{part}" for part in PARTS_OF_A_DATE}
    for one in admin_of.get_list_filter(request):
        if isinstance(one, str):
            field: Any = admin_of.opts.get_field(one)
            key = f"{one}__{field.target_field.name}" if field.is_relation else one
            found |= {f"{name}{lookup}" for name in (one, key) for lookup in LOOKUPS}
    return found
