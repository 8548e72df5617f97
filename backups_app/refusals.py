"""Pages that say why there is no page: not understood, not allowed, not found, sent from an old page."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """An address that Django will not look at, or the name of another site."""
    sentence = _("The address of this page cannot be understood. Nothing was changed.")
    if isinstance(exception, DisallowedHost):
        sentence = _(
            "This site does not answer to the name in the address: whoever runs it adds the name to"
            " ALLOWED_HOSTS. Nothing was changed."
        )
    if not hasattr(request, "user"):  # refused before anybody asked who it is
        request.user = AnonymousUser()
    return _page(request, _("Not understood"), sentence, 400)


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:  # noqa: ARG001
    sentence = _("Your account may not do this. Nothing was changed; the IT staff can do it, or allow it.")
    return _page(request, _("Not allowed"), sentence, 403)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:  # noqa: ARG001
    return _page(request, _("Not found"), _("There is no such page or record."), 404)


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:  # noqa: ARG001
    """Somebody logged in anew in another tab, cookies are blocked, or another site sent the form."""
    sentence = _("This page was open for too long. Nothing was changed: go back, reload it, and try again.")
    return _page(request, _("Not accepted"), sentence, 403)


def _page(request: HttpRequest, title: str, sentence: str, status: int) -> HttpResponse:
    context = {**admin.site.each_context(request), "title": title, "sentence": sentence}
    return render(request, "admin/refused.html", context, status=status)
