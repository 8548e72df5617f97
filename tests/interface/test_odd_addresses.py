"""Whatever stands in an address or in a form: a page, a way back or a refusal, and never an error."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.messages import get_messages
from django.test import Client

from backups_app.models import Backup, Operation
from tests.interface.conftest import Log_in, count_on, make_backup, make_operation, make_restore
from tests.interface.test_every_page import GETS, SEEN, SOMEBODY, SUPERUSER_ONLY

pytestmark = pytest.mark.django_db

HUGE = "9" * 25
ENDLESS = "9" * 5000
NUL = "%00"
CATASTROPHIC = quote("(a+)+$")

LISTS = ["backups_app/backup/", "backups_app/operation/", "backups_app/restoreevent/"]
EXPORT = "backups_app/operation/export/"
PEOPLE = ["auth/user/", "auth/group/"]
# Of the date hierarchy that every list has.
DATES = [
    f"created_at__year={value}"
    for value in ("9999", "10000", "0", "1", "-1", HUGE, ENDLESS, "abc", NUL, "", "２０２６", "2026.5")
] + [
    "created_at__year=9999&created_at__month=12",
    "created_at__year=2026&created_at__month=13",
    "created_at__year=2026&created_at__month=2&created_at__day=31",
    "created_at__year=2026&created_at__day=31",
    f"created_at__month={HUGE}",
    f"created_at__month={ENDLESS}",
    f"created_at__day={HUGE}",
    "created_at__month=5",
    "created_at__day=abc",
    "created_at__year=2026&created_at__year=abc",
]
# No page offers these: some reach a database's edges, one can be made to take for ever.
NOT_OFFERED = [
    "created_at__iso_year=0",
    "created_at__date__year=0",
    "created_at__gte=0001-01-01",
    "id__range=1",
    f"id__in={HUGE}",
    f"pk__in={HUGE}",
    f"size__in={HUGE}",
    "name__regex=(",
    f"name={NUL}",
    f"reason__regex={CATASTROPHIC}",
    f"created_by__iregex={CATASTROPHIC}",
    "validated_at__year=99999",
    "replaced_kept_until__year=99999",
    f"result__x={NUL}",
    "requested_by__password=1",
    "operation__requested_by__password__startswith=p",
    "steps__what__regex=(",
]
OFFERED_WITH_NONSENSE = [
    f"{name}__{rest}"
    for name in ("state", "origin", "outcome", "is_pinned", "is_staff", "groups__id")
    for rest in (f"exact={NUL}", f"exact={HUGE}", f"exact={ENDLESS}", f"in={HUGE},x", f"in={NUL}", "isnull=x")
] + [
    f"state={NUL}",
    "state=nonsense",
    "&".join(f"state__exact={number}" for number in range(900)),
    "&".join(f"state={number}" for number in range(1100)),
]
OF_THE_LIST_ITSELF = [
    f"q={NUL}",
    "q=" + "x" * 5000,
    "q=" + "+".join("x" * 2000),
    "q=%22",
    "q=%27+%22x",
    "q=%ED%A0%80",
    "q=%25_%5C",
    "p=abc",
    "p=0",
    "p=-1",
    f"p={HUGE}",
    f"p={ENDLESS}",
    "o=999",
    "o=-1.-999.abc",
    f"o={ENDLESS}",
    "e",
    "e=1",
    "e=1&created_at__year=9999",
    "all=",
    "_to_field=password",
    "_to_field=id",
    "_popup=1",
    "_facets=True",
    "nonsense=1",
    "__=1",
    "=",
    "&&&",
    f"after={HUGE}",
    f"after={ENDLESS}",
    f"after={NUL}",
]
ODD = [*DATES, *NOT_OFFERED, *OFFERED_WITH_NONSENSE, *OF_THE_LIST_ITSELF]


@pytest.fixture(autouse=True)
def trail(db: None) -> None:
    backup = make_backup(pk=1)
    make_operation(pk=1, backup=backup)
    make_restore(backup, pk=1, operation_pk=2)
    make_operation("trial", pk=3, backup=backup)
    User.objects.create(pk=SOMEBODY, username="somebody")
    Group.objects.create(pk=SOMEBODY, name="some")
    count_on(User, Group)


def answer_of(client: Client, address: str) -> int:
    """The status of the answer, read to its end."""
    answer = client.get(f"/{address}")
    b"".join(answer)
    return answer.status_code


@pytest.mark.parametrize("address", [*LISTS, EXPORT])
def test_no_list_breaks_at_an_odd_address(log_in: Log_in, address: str) -> None:
    client = log_in("helpdesk", raise_request_exception=False)

    answers = {query[:60]: answer_of(client, f"{address}?{query}") for query in ODD}

    assert not {query for query, status in answers.items() if status not in {200, 302, 400}}


@pytest.mark.parametrize("address", PEOPLE)
def test_no_list_of_people_breaks_at_an_odd_address(log_in: Log_in, address: str) -> None:
    client = log_in("superuser", raise_request_exception=False)

    answers = {query[:60]: answer_of(client, f"{address}?{query}") for query in ODD}

    assert not {query for query, status in answers.items() if status not in {200, 302, 400}}


@pytest.mark.parametrize(
    "address", [address for address, answers in GETS.items() if answers in (SEEN, SUPERUSER_ONLY)]
)
def test_no_page_breaks_at_an_odd_address(log_in: Log_in, address: str) -> None:
    client = log_in("superuser", raise_request_exception=False)
    odd = f"created_at__year=9999&q={NUL}&after={ENDLESS}&next={NUL}&e&_changelist_filters={NUL}&p=x&_popup=1"

    assert answer_of(client, f"{address}?{odd}") in {200, 302, 400}


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Los_Angeles"])
def test_the_edges_of_time_break_no_list_in_any_zone(log_in: Log_in, settings: Any, zone: str) -> None:
    settings.TIME_ZONE = zone
    client = log_in("helpdesk", raise_request_exception=False)

    answers = {query[:60]: answer_of(client, f"{LISTS[0]}?{query}") for query in DATES}

    assert not {query for query, status in answers.items() if status not in {200, 302, 400}}


@pytest.mark.parametrize("query", NOT_OFFERED)
def test_what_no_page_offers_is_not_looked_up(log_in: Log_in, query: str) -> None:
    """The help desk could have the database work for ever, or guess at what it may not read."""
    client = log_in("helpdesk", raise_request_exception=False)

    answers = {address: answer_of(client, f"{address}?{query}") for address in [*LISTS, EXPORT]}

    assert set(answers.values()) <= {302, 400}, answers


@pytest.mark.parametrize(
    ("address", "query"),
    [
        ("backup", "state=validated&origin__exact=manual&is_pinned__exact=0&is_api_stopped__exact=0"),
        ("backup", "origin__in=manual,scheduled&q=qrdb"),
        ("backup", "created_at__month=5"),
        ("operation", "kind__exact=backup&state__in=succeeded,failed&source__exact=page"),
        ("restoreevent", "outcome__exact=restored"),
        ("restoreevent", "outcome__isnull=False"),
    ],
)
def test_what_a_page_offers_is_looked_up(log_in: Log_in, address: str, query: str) -> None:
    Backup.objects.update(created_at="2026-05-25T12:00:00Z")

    answer = log_in("helpdesk").get(f"/backups_app/{address}/?{query}")

    assert answer.status_code == 200
    assert answer.context["cl"].result_count == 1


@pytest.mark.parametrize("address", [*LISTS, EXPORT])
def test_a_filter_without_sense_leads_to_the_list_with_a_sentence(log_in: Log_in, address: str) -> None:
    answer = log_in("helpdesk").get(f"/{address}?created_at__year=9999", follow=True)

    assert answer.status_code == 200
    assert "cannot be understood" in answer.content.decode()


def test_one_that_stays_without_sense_blames_no_database(log_in: Log_in) -> None:
    answer = log_in("helpdesk").get("/backups_app/backup/?e=1&created_at__year=9999")

    text = answer.content.decode()
    assert "database" not in text.partition("<main")[2].lower()
    assert "cannot be understood" in text


def test_a_search_that_is_too_long_is_said(log_in: Log_in) -> None:
    answer = log_in("helpdesk").get("/backups_app/operation/?q=" + "+".join("x" * 2000))

    assert "at most 200 characters" in "".join(map(str, get_messages(answer.wsgi_request)))


# --- what is posted -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "action"),
    [
        ("backups_app/backup/", "validate_backups"),
        ("backups_app/backup/", "restore_one"),
        ("backups_app/restoreevent/", "undo_one"),
        ("auth/user/", "delete_selected"),
        ("auth/group/", "delete_selected"),
    ],
)
def test_a_selection_without_sense_does_nothing(log_in: Log_in, address: str, action: str) -> None:
    client = log_in("superuser", raise_request_exception=False)
    before = Operation.objects.count()

    for chosen in (["abc"], [HUGE], [ENDLESS], ["1", "\x00"], ["1", "-1"], [""]):
        posted = {"action": action, "_selected_action": chosen, "index": "0"}
        answer = client.post(f"/{address}", posted)

        assert answer.status_code == 302, chosen
        assert "choose again" in "".join(map(str, get_messages(answer.wsgi_request)))
    assert Operation.objects.count() == before


@pytest.mark.parametrize("pid", [ENDLESS, HUGE, "-1", "abc", "\x00", "²", "4.5"])
def test_a_process_that_cannot_be_is_refused(log_in: Log_in, pid: str) -> None:
    before = Operation.objects.count()

    answer = log_in("itstaff").post(
        "/backups_app/operation/1/end-sessions/", {"pid": [pid], "reason": "it hangs"}, follow=True
    )

    assert answer.status_code == 200
    assert 'class="error"' in answer.content.decode()
    assert Operation.objects.count() == before


@pytest.mark.parametrize("reason", ["x\x00y", "x" * 501, "  "])
def test_a_reason_that_cannot_be_kept_is_refused(log_in: Log_in, reason: str) -> None:
    before = Operation.objects.count()

    answer = log_in("itstaff").post(
        "/backups_app/operation/1/end-sessions/", {"pid": ["17"], "reason": reason}, follow=True
    )

    assert answer.status_code == 200
    assert 'class="error"' in answer.content.decode()
    assert Operation.objects.count() == before


@pytest.mark.parametrize(
    "address",
    [
        "backups_app/backup/1/pin/",
        "backups_app/backup/1/restore/",
        "backups_app/restoreevent/1/undo/",
        "backups_app/restoreevent/1/note/",
        "backups_app/operation/api/stop/",
        "schedules/backup/",
        "i18n/setlang/",
    ],
)
def test_no_form_breaks_at_a_nul(log_in: Log_in, address: str) -> None:
    nul = dict.fromkeys(("reason", "typed", "text", "at", "days", "language", "next", "unpin"), "x\x00y")

    answer = log_in("itstaff").post(f"/{address}", nul)

    assert answer.status_code in {200, 302, 422}


@pytest.mark.parametrize("number", [HUGE, ENDLESS, "٣", "1%00"])
@pytest.mark.parametrize(
    "address",
    [
        "backups_app/backup/{}/change/",
        "backups_app/backup/{}/restore/",
        "backups_app/operation/{}/progress/",
        "backups_app/restoreevent/{}/undo/",
        "auth/user/{}/change/",
        "r/{}/1/",
    ],
)
def test_a_number_that_no_record_has_is_not_found(log_in: Log_in, address: str, number: str) -> None:
    answer = log_in("superuser").get("/" + address.format(number), follow=True)

    assert answer.status_code in {
        200,
        404,
    }  # the stock pages of people lead to the first page with a sentence


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize(
    "moment",
    [datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)],
    ids=["last", "first"],
)
def test_a_backup_of_the_first_or_last_day_there_is_breaks_no_page(
    staff: Client, settings: Any, zone: str, moment: datetime
) -> None:
    settings.TIME_ZONE = zone
    odd = make_backup("qrdb_99991231_235959.sql", created_at=moment)

    for address in (
        "/backups_app/backup/",
        f"/backups_app/backup/{odd.pk}/change/",
        "/backups_app/backup/prune/",
        "/",
        "/runbooks/accidental-deletion/",
    ):
        answer = staff.get(address)
        assert answer.status_code == 200, address
