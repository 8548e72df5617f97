"""Headers: those that Django does not send by itself, and the one that says where a request comes from."""

from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest, HttpResponse

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    # With no-referrer a browser sends "Origin: null" beside a form, which Django refuses.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def security_headers(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Nothing but the site's own files may run on its pages. It comes first: no answer is without them."""

    def add_headers(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return add_headers


def client_address(request: HttpRequest) -> str:
    """Where a login comes from: behind our proxy its word, which it puts last; else the connection's end."""
    if settings.BEHIND_TLS_PROXY:
        forwarded = str(request.headers.get("X-Forwarded-For", "")).split(",")[-1].strip()
        with suppress(ValueError):
            return str(ip_address(forwarded))
    return str(request.META.get("REMOTE_ADDR", ""))
