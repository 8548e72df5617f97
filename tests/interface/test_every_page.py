"""Who may see and do what: every address of ours, for each kind of person."""

from __future__ import annotations

import re

import pytest
from django.contrib import admin
from django.urls import URLPattern, URLResolver, get_resolver

from backups_app.models import Backup, Operation
from tests.interface.conftest import Log_in, make_backup, make_operation, make_restore

SEEN = {"anonymous": 302, "helpdesk": 200, "itstaff": 200, "superuser": 200}
REFUSED_TO_HELP_DESK = {"anonymous": 302, "helpdesk": 403, "itstaff": 200, "superuser": 200}
ONLY_POST = {"anonymous": 302, "helpdesk": 403, "itstaff": 405, "superuser": 405}
FOR_NOBODY = {"anonymous": 302, "helpdesk": 403, "itstaff": 403, "superuser": 403}
SUPERUSER_ONLY = {"anonymous": 302, "helpdesk": 403, "itstaff": 403, "superuser": 200}
AWAY = {"anonymous": 302, "helpdesk": 302, "itstaff": 302, "superuser": 302}

GETS: dict[str, dict[str, int]] = {
    "": SEEN,
    "runbooks/": SEEN,
    "morning-check/": SEEN,
    "schedules/": SEEN,
    "schedules/backup/": REFUSED_TO_HELP_DESK,
    "schedules/validate_database/": REFUSED_TO_HELP_DESK,
    "backups_app/backup/": SEEN,
    "backups_app/backup/1/change/": SEEN,
    "backups_app/backup/1/restore/": REFUSED_TO_HELP_DESK,
    "backups_app/backup/1/pin/": REFUSED_TO_HELP_DESK,
    "backups_app/backup/create/": ONLY_POST,
    "backups_app/backup/check-copies/": ONLY_POST,
    "backups_app/backup/prune/": REFUSED_TO_HELP_DESK,
    "backups_app/backup/import/": REFUSED_TO_HELP_DESK,
    "backups_app/backup/import/found/": ONLY_POST,
    "backups_app/backup/1/validate/": ONLY_POST,
    "backups_app/backup/1/prove/": ONLY_POST,
    "backups_app/backup/1/download/": ONLY_POST,
    "backups_app/backup/add/": FOR_NOBODY,
    "backups_app/backup/1/delete/": FOR_NOBODY,
    "backups_app/backup/1/history/": AWAY,
    "backups_app/operation/": SEEN,
    "backups_app/operation/export/": SEEN,
    "backups_app/operation/1/change/": SEEN,
    "backups_app/operation/1/progress/": SEEN,
    "backups_app/operation/1/cancel/": ONLY_POST,
    "backups_app/operation/1/end-sessions/": ONLY_POST,
    "backups_app/operation/validate-database/": ONLY_POST,
    "backups_app/operation/api/stop/": ONLY_POST,
    "backups_app/operation/api/start/": ONLY_POST,
    "backups_app/operation/api/migrate/": ONLY_POST,
    "backups_app/operation/add/": FOR_NOBODY,
    "backups_app/operation/1/delete/": FOR_NOBODY,
    "backups_app/operation/1/history/": AWAY,
    "backups_app/restoreevent/": SEEN,
    "backups_app/restoreevent/1/change/": SEEN,
    "backups_app/restoreevent/1/undo/": REFUSED_TO_HELP_DESK,
    "backups_app/restoreevent/1/note/": ONLY_POST,
    "backups_app/restoreevent/add/": FOR_NOBODY,
    "backups_app/restoreevent/1/delete/": FOR_NOBODY,
    "backups_app/restoreevent/1/history/": AWAY,
    "auth/user/": SUPERUSER_ONLY,
    "auth/group/": SUPERUSER_ONLY,
    **{
        f"runbooks/{slug}/": SEEN
        for slug in (
            "corruption",
            "accidental-deletion",
            "failed-validation",
            "hung-backup",
            "no-backups",
            "upgrade",
            "new-server",
        )
    },
}
DEEDS = [address for address, statuses in GETS.items() if statuses is ONLY_POST] + [
    "backups_app/backup/1/restore/",
    "backups_app/backup/1/pin/",
    "backups_app/backup/import/",
    "backups_app/backup/prune/",
    "backups_app/restoreevent/1/undo/",
    "schedules/backup/",
]
UNKNOWN = [
    "backups_app/backup/999/change/",
    "backups_app/backup/999/restore/",
    "backups_app/backup/999/pin/",
    "backups_app/backup/nonsense/change/",
    "backups_app/operation/999/change/",
    "backups_app/operation/999/progress/",
    "backups_app/restoreevent/999/change/",
    "backups_app/restoreevent/999/undo/",
    "runbooks/nonsense/",
    "schedules/nonsense/",
    "schedules/Housekeeping/",
    "django_q/schedule/",
    "django_q/schedule/add/",
    "django_q/success/",
    "django_q/ormq/",
]


@pytest.fixture(autouse=True)
def trail(db: None) -> None:
    backup = make_backup(pk=1)
    make_operation(pk=1, backup=backup)
    make_restore(backup, pk=1, operation_pk=2)


@pytest.mark.parametrize("role", list(SEEN))
@pytest.mark.parametrize("address", list(GETS))
def test_each_page_answers_each_person_as_it_should(log_in: Log_in, address: str, role: str) -> None:
    answer = log_in(role).get(f"/{address}")

    assert answer.status_code == GETS[address][role]
    if role == "anonymous":
        assert answer.headers["Location"].startswith("/login/")


def test_no_address_of_ours_is_left_out() -> None:
    """An address that is added has to say who may use it."""
    ours = {
        re.sub(r"<[^>]+>", "1", route)
        for route in _routes(get_resolver().url_patterns)
        if route.startswith(("backups_app/", "runbooks/"))
    }
    known = {re.sub(r"(api|runbooks)/[a-z-]+/$", r"\1/1/", address) for address in GETS} | {
        "backups_app/",
        "backups_app/backup/1/",
        "backups_app/operation/1/",
        "backups_app/restoreevent/1/",
    }

    assert {route for route in ours if not _is_of_another_page(route)} - known == set()


@pytest.mark.parametrize("address", DEEDS)
def test_the_help_desk_can_do_nothing(log_in: Log_in, address: str) -> None:
    before = Operation.objects.count()

    answer = log_in("helpdesk").post(f"/{address}", {"typed": "x", "reason": "x", "text": "x"})

    assert answer.status_code == 403
    assert Operation.objects.count() == before


@pytest.mark.parametrize("address", DEEDS)
def test_a_get_never_acts(log_in: Log_in, address: str) -> None:
    before = Operation.objects.count()

    log_in("superuser").get(f"/{address}", {"reason": "x", "typed": "qrdb_20260525_143022.sql", "unpin": "1"})

    assert Operation.objects.count() == before
    assert not Backup.objects.get(pk=1).is_pinned


@pytest.mark.parametrize("address", DEEDS)
def test_a_post_without_its_token_is_refused(log_in: Log_in, address: str) -> None:
    answer = log_in("superuser", enforce_csrf_checks=True).post(f"/{address}", {"reason": "x"})

    assert answer.status_code == 403


@pytest.mark.parametrize("address", UNKNOWN)
def test_what_is_not_there_is_not_found(log_in: Log_in, address: str) -> None:
    assert log_in("superuser").get(f"/{address}").status_code == 404


@pytest.mark.parametrize(
    "action", ["create_backups", "validate_backups", "prove_backups", "restore_one", "delete_selected"]
)
def test_an_action_that_is_not_ones_own_is_refused(log_in: Log_in, action: str) -> None:
    answer = log_in("helpdesk").post("/backups_app/backup/", {"action": action, "_selected_action": ["1"]})

    assert answer.status_code == 403
    assert not Operation.objects.active().exists()


@pytest.mark.parametrize("model", ["backup", "operation", "restoreevent"])
@pytest.mark.parametrize("role", ["helpdesk", "itstaff", "superuser"])
def test_no_record_is_changed_through_the_admin(log_in: Log_in, model: str, role: str) -> None:
    answer = log_in(role).post(f"/backups_app/{model}/1/change/", {"name": "other", "state": "failed"})

    assert answer.status_code == 405


def test_the_help_desk_sees_no_button(log_in: Log_in) -> None:
    client = log_in("helpdesk")

    for address in (
        "",
        "backups_app/backup/",
        "backups_app/backup/1/change/",
        "backups_app/restoreevent/1/change/",
    ):
        page = client.get(f"/{address}").content.decode()
        forms = set(re.findall(r'<form[^>]*action="([^"]+)"', page))
        assert forms <= {"/logout/", "/i18n/setlang/"}, address
        assert "formaction" not in page


def test_a_stranger_without_a_group_sees_nothing(log_in: Log_in) -> None:
    client = log_in("guest")

    assert client.get("/").status_code == 403
    assert client.get("/backups_app/backup/").status_code == 403
    assert client.get("/runbooks/corruption/").status_code == 403


def test_a_refusal_is_a_page_with_a_way_back(log_in: Log_in) -> None:
    refused = log_in("helpdesk").get("/backups_app/backup/1/restore/")
    missing = log_in("helpdesk").get("/backups_app/backup/999/change/")
    strange = log_in("itstaff", enforce_csrf_checks=True).post("/backups_app/backup/create/")

    assert refused.status_code == strange.status_code == 403
    assert "Your account may not do this." in refused.content.decode()
    assert "There is no such page or record." in missing.content.decode()
    assert "This page was open for too long." in strange.content.decode()
    for answer in (refused, missing, strange):
        assert 'href="/"' in answer.content.decode()


def test_a_fault_of_ours_is_a_page_too(log_in: Log_in, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("backups_app.presentation.live.report", break_down)

    answer = log_in("helpdesk", raise_request_exception=False).get("/backups_app/operation/1/progress/")

    assert answer.status_code == 500
    assert "Something broke here" in answer.content.decode()


def test_the_queues_own_pages_are_for_nobody() -> None:
    assert not [model for model in admin.site._registry if model._meta.app_label == "django_q"]


def _routes(patterns: list[URLPattern | URLResolver], before: str = "") -> list[str]:
    found: list[str] = []
    for pattern in patterns:
        route = before + str(pattern.pattern).lstrip("^").rstrip("$")
        if isinstance(pattern, URLResolver):
            found += _routes(pattern.url_patterns, route)
        else:
            found.append(route)
    return found


def _is_of_another_page(route: str) -> bool:
    """Pages whose own tests say who may use them."""
    return False
