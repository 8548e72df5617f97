"""Wrong passwords are throttled, and a restore asks for the password again."""

from __future__ import annotations

import time

import pytest
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.urls import reverse
from pytest_django.fixtures import Settings

from backups_app import reauthentication
from backups_app.models import Operation
from qradmin.headers import client_address
from tests.interface.conftest import make_backup, make_user

PASSWORD = "pw"


@pytest.fixture
def throttled(settings: Settings) -> None:
    settings.AXES_ENABLED = True


def log_in(client: Client, password: str, **headers: str) -> int:
    data = {"username": "itstaff", "password": password}
    return client.post(reverse("admin:login"), data, headers=headers).status_code


@pytest.mark.django_db
@pytest.mark.usefixtures("throttled")
def test_after_five_wrong_passwords_even_the_right_one_is_refused_for_a_while(client: Client) -> None:
    make_user("itstaff")

    first = [log_in(client, "wrong") for _ in range(5)]
    right = client.post(reverse("admin:login"), {"username": "itstaff", "password": PASSWORD})

    assert first[:4] == [200] * 4
    assert right.status_code == 429
    assert "Too many failed logins" in right.content.decode()
    assert "_auth_user_id" not in client.session


@pytest.mark.django_db
@pytest.mark.usefixtures("throttled")
def test_the_right_password_forgives_the_wrong_ones(client: Client) -> None:
    make_user("itstaff")

    for _ in range(3):
        assert [log_in(client, "wrong") for _ in range(4)] == [200] * 4
        assert log_in(client, PASSWORD) == 302
        client.logout()


@pytest.mark.django_db
@pytest.mark.usefixtures("throttled")
def test_others_can_log_in_meanwhile_and_so_can_the_owner_from_elsewhere(
    client: Client, settings: Settings
) -> None:
    settings.BEHIND_TLS_PROXY = True
    make_user("itstaff")
    for _ in range(6):
        log_in(client, "wrong", **{"X-Forwarded-For": "198.51.100.7"})

    assert log_in(client, PASSWORD, **{"X-Forwarded-For": "198.51.100.7"}) == 429
    assert log_in(client, PASSWORD, **{"X-Forwarded-For": "192.0.2.9"}) == 302


@pytest.mark.parametrize(
    ("is_behind_proxy", "forwarded", "expected"),
    [
        (False, "203.0.113.5", "127.0.0.1"),
        (True, "203.0.113.5", "203.0.113.5"),
        (True, "1.1.1.1, 203.0.113.5", "203.0.113.5"),
        (True, "nonsense", "127.0.0.1"),
        (True, "", "127.0.0.1"),
    ],
)
def test_the_address_of_a_login_cannot_be_made_up(
    rf: RequestFactory, settings: Settings, is_behind_proxy: bool, forwarded: str, expected: str
) -> None:
    settings.BEHIND_TLS_PROXY = is_behind_proxy

    assert client_address(rf.get("/", headers={"X-Forwarded-For": forwarded})) == expected


# --- the password again --------------------------------------------------------------------------------


@pytest.fixture
def restore_page(db: None, monkeypatch: pytest.MonkeyPatch) -> str:
    return reverse("admin:backups_app_backup_restore", args=[make_backup().pk])


@pytest.fixture
def staff(db: None) -> Client:
    """IT staff who have just logged in by the form."""
    make_user("itstaff")
    client = Client()
    assert log_in(client, PASSWORD) == 302
    return client


def let_time_pass(client: Client, minutes: float) -> None:
    session = client.session
    session[reauthentication.SESSION_KEY] = time.time() - minutes * 60
    session.save()


def asked(**more: str) -> dict[str, str]:
    return {"typed": "qrdb_20260525_143022.sql", "reason": "a test", **more}


def test_soon_after_the_login_a_restore_asks_for_no_password(staff: Client, restore_page: str) -> None:
    let_time_pass(staff, 14)

    assert 'name="password"' not in staff.get(restore_page).content.decode()
    assert staff.post(restore_page, asked()).status_code == 302
    assert Operation.objects.filter(kind="restore").count() == 1


def test_later_a_restore_without_the_password_starts_nothing(staff: Client, restore_page: str) -> None:
    let_time_pass(staff, 16)

    page = staff.get(restore_page).content.decode()
    refused = [staff.post(restore_page, asked()), staff.post(restore_page, asked(password="wrong"))]

    assert 'name="password"' in page
    assert [answer.status_code for answer in refused] == [422, 422]
    assert "This is not your password" in refused[1].content.decode()
    assert not Operation.objects.exists()


def test_later_a_restore_with_the_password_starts(staff: Client, restore_page: str) -> None:
    let_time_pass(staff, 16)

    answer = staff.post(restore_page, asked(password=PASSWORD))

    assert answer.status_code == 302
    assert Operation.objects.filter(kind="restore").count() == 1


def test_another_accounts_password_does_not_help(staff: Client, restore_page: str) -> None:
    User.objects.create_user("other", password="another password")
    let_time_pass(staff, 16)

    assert staff.post(restore_page, asked(password="another password")).status_code == 422


@pytest.mark.usefixtures("throttled")
def test_a_stolen_session_cannot_guess_the_password(staff: Client, restore_page: str) -> None:
    let_time_pass(staff, 16)

    answers = [staff.post(restore_page, asked(password="guess")).status_code for _ in range(5)]

    assert answers[:4] == [422] * 4
    assert staff.post(restore_page, asked(password=PASSWORD)).status_code == 429
    assert not Operation.objects.exists()


@pytest.mark.parametrize("given", [None, 10.0, -10.0])
def test_a_moment_that_is_unknown_or_in_the_future_does_not_count(
    staff: Client, rf: RequestFactory, given: float | None, settings: Settings
) -> None:
    settings.REAUTHENTICATION_MINUTES = 0 if given == 10.0 else 15
    request = rf.get("/")
    request.session = staff.session
    request.session[reauthentication.SESSION_KEY] = 0.0 if given is None else time.time() - given

    assert reauthentication.is_due(request)
