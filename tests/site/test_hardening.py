"""What each answer and each account is held to, whatever page it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.test import Client

from tests.site.conftest import Run

POLICIES = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none';"
    " form-action 'self'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def policies_of(answer: Any) -> dict[str, str]:
    return {name: answer.headers.get(name) for name in POLICIES}


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/login/", 200),
        ("/", 302),
        ("/health", 503),
        ("/health/ready", 200),
        ("/i18n/setlang/", 302),
    ],
)
def test_every_answer_carries_the_policies(db: None, address: str, status: int) -> None:
    answer = Client().get(address)

    assert answer.status_code == status
    assert policies_of(answer) == POLICIES


def test_a_page_that_is_not_there_carries_them_too(db: None) -> None:
    client = Client()
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))

    answer = client.get("/no-such-page/")

    assert answer.status_code == 404
    assert policies_of(answer) == POLICIES


@pytest.mark.parametrize("file", ["site.css", "site.js", "icon.svg"])
def test_a_file_of_the_pages_carries_them_too(db: None, settings: Any, tmp_path: Path, file: str) -> None:
    """The tests' settings leave the middleware out that hands them out."""
    place = next(n for n, name in enumerate(settings.MIDDLEWARE) if name.endswith("SecurityMiddleware")) + 1
    whitenoise = "whitenoise.middleware.WhiteNoiseMiddleware"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE[:place], whitenoise, *settings.MIDDLEWARE[place:]]
    settings.WHITENOISE_USE_FINDERS, settings.STATIC_ROOT = True, str(tmp_path)

    answer = Client().get(f"/static/backups_app/{file}")

    assert answer.status_code == 200
    assert policies_of(answer) == POLICIES
    answer.close()


def test_a_redirect_to_tls_carries_them_too(db: None, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True

    answer = Client().get("/login/")

    assert answer.status_code == 301
    assert policies_of(answer) == POLICIES


@pytest.mark.parametrize("redirects", [True, False])
def test_a_request_for_another_site_is_refused_on_a_page_that_carries_them(
    db: None, settings: Any, redirects: bool
) -> None:
    settings.SECURE_SSL_REDIRECT = redirects

    answer = Client().get("/login/", headers={"host": "evil.example"})

    assert answer.status_code == 400
    assert policies_of(answer) == POLICIES
    assert "does not answer to the name in the address" in answer.content.decode()
    assert "evil.example" not in answer.content.decode()


def test_a_fault_of_ours_carries_them_too(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("django.contrib.admin.sites.AdminSite.has_permission", break_down)

    answer = Client(raise_request_exception=False).get("/login/")

    assert answer.status_code == 500
    assert policies_of(answer) == POLICIES


@pytest.mark.parametrize("wanted", ["", "https://evil.example/", "//evil.example"])
def test_a_login_without_a_place_to_go_to_leads_to_the_overview(db: None, wanted: str) -> None:
    User.objects.create_user("root", password="pw", is_staff=True, is_superuser=True)

    answer = Client().post(f"/login/?next={wanted}", {"username": "root", "password": "pw", "next": wanted})

    assert (answer.status_code, answer.headers["Location"]) == (302, "/")


@pytest.mark.parametrize("password", ["short", "password123", "1234567890123"])
def test_a_weak_password_is_refused(password: str) -> None:
    with pytest.raises(ValidationError):
        validate_password(password)


@pytest.mark.parametrize("tls", ["True", "False"])
def test_no_cookie_is_sent_without_tls_where_there_is_tls(run: Run, tls: str) -> None:
    names = [f"{cookie}_COOKIE_SECURE" for cookie in ("SESSION", "CSRF", "LANGUAGE")]
    look = f"from django.conf import settings; print([getattr(settings, name) for name in {names}])"

    done = run("-c", look, HTTPS_ONLY=tls)

    assert done.stdout.strip() == f"[{tls}, {tls}, {tls}]", done.stderr


def test_every_cookie_stays_with_this_site(db: None) -> None:
    User.objects.create_user("root", password="pw", is_staff=True, is_superuser=True)
    client = Client()

    client.post("/login/", {"username": "root", "password": "pw"})
    client.post("/i18n/setlang/", {"language": "de"})

    assert {"sessionid", "csrftoken", "django_language"} == set(client.cookies)
    assert {cookie["samesite"] for cookie in client.cookies.values()} == {"Lax"}
    assert client.cookies["django_language"]["httponly"]


def test_a_session_lasts_for_a_working_day_at_most() -> None:
    assert settings.SESSION_COOKIE_AGE <= 12 * 3600
    assert settings.SESSION_COOKIE_HTTPONLY
