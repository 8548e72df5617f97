"""Who may see and do what: every address of ours, for each kind of person."""

from __future__ import annotations

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.urls import URLPattern, URLResolver, get_resolver

from backups_app.models import Backup, Operation
from tests.interface.conftest import Log_in, count_on, make_backup, make_operation, make_restore

SEEN = {"anonymous": 302, "helpdesk": 200, "itstaff": 200, "superuser": 200}
REFUSED_TO_HELP_DESK = {"anonymous": 302, "helpdesk": 403, "itstaff": 200, "superuser": 200}
ONLY_POST = {"anonymous": 302, "helpdesk": 403, "itstaff": 405, "superuser": 405}
FOR_NOBODY = {"anonymous": 302, "helpdesk": 403, "itstaff": 403, "superuser": 403}
SUPERUSER_ONLY = {"anonymous": 302, "helpdesk": 403, "itstaff": 403, "superuser": 200}
AWAY = {"anonymous": 302, "helpdesk": 302, "itstaff": 302, "superuser": 302}
ONLY_POST_FOR_ALL = {"anonymous": 302, "helpdesk": 405, "itstaff": 405, "superuser": 405}
# Django's own ways in that nothing here uses: they lead nowhere.
UNUSED = {"anonymous": 302, "helpdesk": 403, "itstaff": 403, "superuser": 403}
NOWHERE = {"anonymous": 302, "helpdesk": 404, "itstaff": 404, "superuser": 404}

SOMEBODY = 900
# Written as patterns: the indexes of both applications, and what leads on to "not found".
PATTERNS = {"(?P<app_label>backups_app|auth)/": ["backups_app/", "auth/"], "(?P<url>.*)": []}
OLD_ADDRESSES = [
    "backups_app/backup",
    "backups_app/operation",
    "backups_app/restoreevent",
    "auth/user",
    "auth/group",
]  # Django leads them on to /change/
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
    "backups_app/backup/1/trial/": ONLY_POST,
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
    "backups_app/operation/3/change/": SEEN,
    "backups_app/operation/3/trial/validate/": ONLY_POST,
    "backups_app/operation/3/trial/drop/": ONLY_POST,
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
    "backups_app/": AWAY,
    "auth/": AWAY,
    "auth/user/": SUPERUSER_ONLY,
    f"auth/user/{SOMEBODY}/change/": SUPERUSER_ONLY,
    f"auth/user/{SOMEBODY}/password/": SUPERUSER_ONLY,
    f"auth/user/{SOMEBODY}/history/": SUPERUSER_ONLY,
    f"auth/user/{SOMEBODY}/delete/": SUPERUSER_ONLY,
    "auth/user/add/": SUPERUSER_ONLY,
    "auth/group/": SUPERUSER_ONLY,
    f"auth/group/{SOMEBODY}/change/": SUPERUSER_ONLY,
    f"auth/group/{SOMEBODY}/history/": SUPERUSER_ONLY,
    f"auth/group/{SOMEBODY}/delete/": SUPERUSER_ONLY,
    "auth/group/add/": SUPERUSER_ONLY,
    "login/": {**AWAY, "anonymous": 200},
    "logout/": ONLY_POST_FOR_ALL,
    "password_change/": SEEN,
    "password_change/done/": SEEN,
    "i18n/setlang/": AWAY,
    "jsi18n/": SEEN,
    "autocomplete/": UNUSED,
    "r/1/1/": NOWHERE,
    **{
        f"runbooks/{slug}/": SEEN
        for slug in (
            "corruption",
            "accidental-deletion",
            "failed-validation",
            "hung-backup",
            "no-backups",
            "api-down",
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
DEEDS_OF_SUPERUSERS = [
    "auth/user/add/",
    f"auth/user/{SOMEBODY}/change/",
    f"auth/user/{SOMEBODY}/password/",
    f"auth/user/{SOMEBODY}/delete/",
    "auth/group/add/",
    f"auth/group/{SOMEBODY}/change/",
    f"auth/group/{SOMEBODY}/delete/",
]
# Whoever is not logged in is led from these to somewhere else than the login.
OPEN_TO_ALL = {"logout/": "/", "i18n/setlang/": "/"}
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
    left = {"what": "trial", "name": "qrdb_trial_3_a1b2c3", "kept_until": "2126-05-25T14:30:22+00:00"}
    make_operation("trial", pk=3, backup=backup, leftovers=[left])
    User.objects.create(pk=SOMEBODY, username="somebody")
    Group.objects.create(pk=SOMEBODY, name="some")
    count_on(User, Group)


@pytest.mark.parametrize("role", list(SEEN))
@pytest.mark.parametrize("address", list(GETS))
def test_each_page_answers_each_person_as_it_should(log_in: Log_in, address: str, role: str) -> None:
    answer = log_in(role).get(f"/{address}")

    assert answer.status_code == GETS[address][role]
    if role == "anonymous" and answer.status_code == 302:
        assert answer.headers["Location"].startswith(OPEN_TO_ALL.get(address, "/login/"))


def test_no_address_of_ours_is_left_out() -> None:
    """An address that is added has to say who may use it."""
    ours = {
        re.sub(r"<[^>]+>", "1", address)
        for route in _routes(get_resolver().url_patterns)
        for address in PATTERNS.get(route, [route])
    }
    known = {re.sub(r"(api|runbooks|schedules|trial)/[a-z_-]+/$", r"\1/1/", address) for address in GETS}
    known = {address.replace("/3/", "/1/") for address in known}
    known = {address.replace(f"/{SOMEBODY}/", "/1/") for address in known}

    assert ours - known - {f"{model}/1/" for model in OLD_ADDRESSES} == set()


@pytest.mark.parametrize("address", DEEDS)
@pytest.mark.parametrize(("role", "status"), [("helpdesk", 403), ("anonymous", 302)])
def test_the_help_desk_and_strangers_can_do_nothing(
    log_in: Log_in, address: str, role: str, status: int
) -> None:
    before = Operation.objects.count()

    answer = log_in(role).post(f"/{address}", {"typed": "x", "reason": "x", "text": "x"})

    assert answer.status_code == status
    if role == "anonymous":
        assert answer.headers["Location"].startswith("/login/")
    assert Operation.objects.count() == before
    assert not Backup.objects.get(pk=1).is_pinned


@pytest.mark.parametrize("address", DEEDS)
@pytest.mark.parametrize("role", ["itstaff", "superuser"])
def test_who_may_act_is_not_turned_away(log_in: Log_in, address: str, role: str) -> None:
    """Done, or refused with a sentence: the form again, or a page that tells."""
    answer = log_in(role).post(f"/{address}", {"typed": "x", "reason": "x", "text": "x"})

    assert answer.status_code in {200, 302, 422}
    assert not answer.headers.get("Location", "").startswith("/login/")


@pytest.mark.parametrize("address", DEEDS_OF_SUPERUSERS)
@pytest.mark.parametrize(
    ("role", "status"), [("anonymous", 302), ("helpdesk", 403), ("itstaff", 403), ("superuser", None)]
)
def test_people_and_groups_are_for_superusers_alone(
    log_in: Log_in, address: str, role: str, status: int | None
) -> None:
    client = log_in(role)
    before = _people()

    answer = client.post(f"/{address}", {"post": "yes", "username": "x", "name": "x", "is_superuser": "on"})

    if status is None:
        assert answer.status_code in {200, 302}
        return
    assert answer.status_code == status
    assert role != "anonymous" or answer.headers["Location"].startswith("/login/")
    assert _people() == before


@pytest.mark.parametrize("address", DEEDS)
def test_a_get_never_acts(log_in: Log_in, address: str) -> None:
    before = Operation.objects.count()

    log_in("superuser").get(f"/{address}", {"reason": "x", "typed": "qrdb_20260525_143022.sql", "unpin": "1"})

    assert Operation.objects.count() == before
    assert not Backup.objects.get(pk=1).is_pinned


@pytest.mark.parametrize("address", DEEDS_OF_SUPERUSERS)
def test_a_get_changes_nobody(log_in: Log_in, address: str) -> None:
    client = log_in("superuser")
    before = _people()

    client.get(f"/{address}", {"post": "yes", "username": "x", "name": "x"})

    assert _people() == before


@pytest.mark.parametrize(
    "address",
    [
        *DEEDS,
        *DEEDS_OF_SUPERUSERS,
        "logout/",
        "password_change/",
        "i18n/setlang/",
        "backups_app/backup/",
        "backups_app/restoreevent/",
    ],
)
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


def test_the_undo_of_a_restore_is_not_chosen_by_the_help_desk(log_in: Log_in) -> None:
    answer = log_in("helpdesk").post(
        "/backups_app/restoreevent/", {"action": "undo_one", "_selected_action": ["1"]}
    )

    assert answer.status_code == 403 or "/undo/" not in answer.headers["Location"]
    assert not Operation.objects.active().filter(kind="undo_restore").exists()


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


def _people() -> list[tuple[object, ...]]:
    groups = Group.objects.order_by("pk").values_list("pk", "name", "permissions")
    return [*User.objects.order_by("pk").values_list("pk", "username", "is_superuser", "password"), *groups]


def _routes(patterns: list[URLPattern | URLResolver], before: str = "") -> list[str]:
    found: list[str] = []
    for pattern in patterns:
        route = before + str(pattern.pattern).lstrip("^").rstrip("$")
        if isinstance(pattern, URLResolver):
            found += _routes(pattern.url_patterns, route)
        else:
            found.append(route)
    return found


@pytest.mark.parametrize(
    ("address", "title"),
    [("backup", "Backups"), ("operation", "Audit history"), ("restoreevent", "Restores")],
)
def test_a_list_bears_its_name_in_its_heading_and_in_the_browser_s_tab(
    log_in: Log_in, address: str, title: str
) -> None:
    page = log_in("helpdesk").get(f"/backups_app/{address}/").content.decode()

    assert f"<h1>{title}</h1>" in page
    assert f"<title>{title} | " in page
