"""The first page: what it says when all is well, when something is wrong, and when there is nothing yet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from backups_app.models import Operation
from backups_app.presentation import charts, surroundings, words
from backups_app.presentation.charts import nice_top
from tests.interface.conftest import (
    Log_in,
    make_backup,
    make_beat,
    make_operation,
    make_restore,
    make_sighting,
)

pytestmark = pytest.mark.django_db
LONG_AGO = timezone.now() - timedelta(days=60)
NO_SERVER = "PostgreSQL at db:5432 cannot be reached: check that it runs."
UNREACHABLE: dict[str, Any] = {
    "blame": "database",
    "error": f"The database is not valid. Connection: {NO_SERVER}",
    "result": {"checks": [{"name": "connection", "outcome": "failed", "message": NO_SERVER}]},
}


@pytest.fixture(autouse=True)
def room(tmp_path: Path, settings: Any) -> None:
    settings.BACKUP_LOCATIONS = f"working={tmp_path}"


def banners(client: Client) -> list[str]:
    return [banner.text for banner in client.get("/").context["banners"]]


def cards(client: Client) -> dict[str, Any]:
    return {card.title: card for card in client.get("/").context["cards"]}


def test_when_all_is_well_nothing_is_red(staff: Client) -> None:
    make_beat()
    make_backup()
    make_operation("validate_database")

    assert banners(staff) == []
    assert not [card.title for card in cards(staff).values() if card.tone == "bad"]


def test_the_age_of_the_last_validated_backup_comes_first(staff: Client) -> None:
    make_backup(created_at=timezone.now() - timedelta(hours=3))
    make_backup("qrdb_20260526_143022.sql", created_at=timezone.now(), validated_at=None)
    make_backup("qrdb_20260527_143022.sql", created_at=timezone.now(), damage="cut short")

    first = next(iter(staff.get("/").context["cards"]))

    assert (first.title, words.age(timezone.now() - timedelta(hours=3))) == (
        "Last validated backup",
        first.value,
    )


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: None, "No worker is alive"),
        (lambda: make_backup(created_at=timezone.now() - timedelta(days=2)), "too old"),
        (lambda: make_operation("backup", "failed", error="second is full."), "second is full."),
        (lambda: make_operation("validate_database", "failed", blame="database"), "not valid"),
        (lambda: make_operation("validate_database", "failed", **UNREACHABLE), "cannot be reached"),
        (lambda: make_backup(created_at=LONG_AGO, validated_at=None), "no validated backup"),
        (lambda: make_backup(created_at=LONG_AGO, damage="cut short"), "no validated backup"),
        (lambda: make_restore(make_backup(), outcome="rolled_back"), "did not succeed: Rolled back"),
        (lambda: make_restore(make_backup(), outcome="untouched"), "live data untouched"),
    ],
)
def test_what_is_wrong_is_a_banner_with_the_way_out(
    staff: Client, make: Callable[[], Any], told: str
) -> None:
    make()

    (found,) = [banner for banner in staff.get("/").context["banners"] if told in banner.text]

    assert staff.get(found.url).status_code == 200


def test_the_share_of_successes_leads_to_every_failure(staff: Client) -> None:
    for state in ("failed", "interrupted", "expired", "succeeded"):
        make_operation("backup", state)

    page = staff.get("/").content.decode()
    address = "/backups_app/operation/?kind__exact=backup&days=30&state__in=expired,failed,interrupted"

    assert address.replace("&", "&amp;") in page
    assert staff.get(address).context["cl"].result_count == 3


def test_what_failed_before_the_thirty_days_is_not_among_them(staff: Client) -> None:
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    for days, state in ((29, "failed"), (30, "failed"), (400, "failed"), (0, "succeeded")):
        when = midnight - timedelta(days=days) + timedelta(minutes=1)
        make_operation("backup", state, created_at=when)

    card = cards(staff)["Backups, 30 days"]

    assert card.detail == "1 of 2 failed"
    assert staff.get(card.url).context["cl"].result_count == 1


def test_a_success_after_a_failure_ends_the_banner(staff: Client) -> None:
    make_operation(
        "backup", "failed", error="second is full.", created_at=timezone.now() - timedelta(hours=1)
    )
    make_operation("backup")

    assert not [text for text in banners(staff) if "second is full" in text]


def test_little_room_is_told(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    make_backup(size=10**9)
    monkeypatch.setattr(surroundings, "space", lambda: [surroundings.Room("working", 2 * 10**9)])

    assert [text for text in banners(staff) if "working has only" in text]


def test_a_location_that_is_missing_is_told(staff: Client, settings: Any) -> None:
    settings.BACKUP_LOCATIONS = "working=/nonexistent/folder"

    assert [text for text in banners(staff) if "working" in text]


@pytest.fixture
def managed_api(settings: Any) -> None:
    settings.API_CONTAINER = "qr_generator_api"


@pytest.mark.usefixtures("managed_api")
@pytest.mark.parametrize(
    ("seen", "told"), [({}, "stopped"), ({"is_there": False}, "its container is missing")]
)
def test_an_api_that_is_down_is_told(log_in: Log_in, seen: dict[str, Any], told: str) -> None:
    make_sighting(is_running=False, **seen)
    staff = log_in("itstaff")

    (found,) = [one for one in staff.get("/").context["banners"] if one.text.startswith("The API is down")]
    page = staff.get("/").content.decode()
    way_out = {role: log_in(role).get(found.url).content.decode() for role in ("itstaff", "helpdesk")}

    assert told in found.text
    assert f'href="{found.url}"' in page
    assert '<details class="card api" id="api" open>' in page
    assert 'id="api"' in way_out["itstaff"]
    assert 'id="api"' not in way_out["helpdesk"]


@pytest.mark.usefixtures("managed_api")
@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ({"problem": "The Docker Engine does not answer."}, "The Docker Engine does not answer."),
        ({"seconds_ago": 3600}, "No worker has looked at the container qr_generator_api since "),
    ],
    ids=["no-engine", "no-worker"],
)
def test_an_api_that_nobody_can_ask_about_is_not_called_down(
    staff: Client, seen: dict[str, Any], why: str
) -> None:
    make_sighting(**seen)

    card, found = cards(staff)["API"], banners(staff)
    checks = {one.name: one for one in staff.get("/morning-check/").context["findings"]}

    assert not [text for text in found if "API" in text]
    assert (card.value, card.tone) == ("not known", "warn")
    assert card.detail.startswith(why)
    assert checks["api"].message.startswith(f"How the API is, is not known: {why}")
    assert checks["api"].severity.tone == "warn"
    assert staff.get(checks["api"].url).status_code == 200


@pytest.mark.usefixtures("managed_api")
def test_an_api_that_is_owed_a_start_is_an_alarm_even_when_nobody_can_ask_about_it(staff: Client) -> None:
    make_sighting(problem="No answer.")
    make_operation("restore", "interrupted", pk=7, api_stop_intended=True)

    assert [text for text in banners(staff) if text.startswith("Restore 7 stopped the API")]


@pytest.mark.usefixtures("managed_api")
def test_an_api_that_is_not_well_does_not_lead_to_a_corrupt_database(staff: Client) -> None:
    make_sighting(health="unhealthy")

    (found,) = [one for one in staff.get("/").context["banners"] if "health check" in one.text]

    assert found.url == "/runbooks/api-down/"


@pytest.mark.usefixtures("managed_api")
@pytest.mark.parametrize(
    ("health", "owing", "told"),
    [
        ("", True, "Restore 7 stopped the API, and it is not well again since then"),
        ("starting", True, "Restore 7 stopped the API, and it is not well again since then"),
        ("unhealthy", False, "Docker's health check says that it is not well"),
        ("starting", False, ""),
        ("", False, ""),
    ],
)
def test_an_api_that_runs_but_is_not_well_is_told(staff: Client, health: str, owing: bool, told: str) -> None:
    make_sighting(health=health)
    make_operation("restore", "interrupted", pk=7, api_stop_intended=owing)

    found = [text for text in banners(staff) if "API" in text]

    assert bool(found) is bool(told)
    assert told in "".join(found).replace("&#x27;", "'")


def test_what_one_reader_saw_is_not_told_to_another_in_his_language(staff: Client, settings: Any) -> None:
    settings.API_CONTAINER = ""

    german = staff.get("/", headers={"Accept-Language": "de"}).content.decode()
    english = staff.get("/", headers={"Accept-Language": "en"}).content.decode()

    assert ("nicht verwaltet" in german, "nicht verwaltet" in english) == (True, False)


@pytest.mark.usefixtures("managed_api")
def test_an_api_that_an_operation_stopped_is_no_alarm(staff: Client) -> None:
    make_sighting(is_running=False)
    make_operation("restore", "running", api_stop_intended=True)

    assert not [text for text in banners(staff) if text.startswith("The API is down")]


def test_with_no_backup_yet_the_page_says_what_to_do(log_in: Log_in) -> None:
    assert "Click “Back up now”" in log_in("itstaff").get("/").content.decode()
    assert "Ask the IT staff" in log_in("helpdesk").get("/").content.decode()


@pytest.mark.parametrize("state", ["cancelled", "failed"])
def test_it_says_so_still_when_the_first_one_came_to_nothing(staff: Client, state: str) -> None:
    make_operation("backup", state, error="x")

    page = staff.get("/").content.decode()

    assert "Click “Back up now”" in page
    assert '<svg class="chart"' not in page


@pytest.mark.parametrize("state", ["queued", "running"])
def test_while_the_first_one_is_made_it_does_not_ask_for_another(staff: Client, state: str) -> None:
    make_operation("backup", state)

    assert "There is no backup yet." not in staff.get("/").content.decode()


@pytest.mark.parametrize("changes", [{"validated_at": None}, {"damage": "cut short"}])
def test_a_backup_that_is_no_good_is_not_called_none(staff: Client, changes: dict[str, Any]) -> None:
    make_backup(created_at=LONG_AGO, **changes)

    assert "There is no backup yet." not in staff.get("/").content.decode()


def test_a_chart_without_anything_in_it_is_not_drawn(staff: Client) -> None:
    make_backup(seconds=None)

    assert [chart["name"] for chart in staff.get("/").context["charts"]] == ["size"]


def test_the_last_backup_and_the_next_run_have_their_moments_with_utc_on_hover(staff: Client) -> None:
    backup = make_backup()

    found = cards(staff)

    assert words.moment(backup.created_at) in found["Last validated backup"].detail
    assert "UTC" in found["Next scheduled run"].detail


def test_a_database_that_is_away_is_not_called_sick(staff: Client) -> None:
    check = make_operation("validate_database", "failed", **UNREACHABLE)

    (found,) = [one for one in staff.get("/").context["banners"] if "live database" in one.text]

    assert cards(staff)["Database"].value == "cannot be reached"
    assert found.text == f"The live database cannot be reached: {NO_SERVER}"
    assert found.url == f"/backups_app/operation/{check.pk}/change/"


def test_an_empty_audit_history_says_what_to_do(log_in: Log_in) -> None:
    staff = log_in("itstaff").get("/backups_app/operation/").content.decode()
    desk = log_in("helpdesk").get("/backups_app/operation/").content.decode()

    for page in (staff, desk):
        assert "Nothing has been asked for yet." in page
    assert "Begin with a backup" in staff
    assert "Begin with a backup" not in desk


def test_each_day_links_to_its_own_backups(staff: Client) -> None:
    yesterday = timezone.now() - timedelta(days=1)
    make_operation("backup", "failed", created_at=yesterday)
    make_operation("backup", created_at=yesterday)
    make_operation("backup", created_at=timezone.now())

    day = staff.get("/").context["days"][-2]

    assert (day.tone, day.good, day.bad) == ("warn", 1, 1)
    assert staff.get(day.url).context["cl"].result_count == 2


def test_charts_have_a_table_and_no_inline_style(staff: Client) -> None:
    make_backup()

    page = staff.get("/").content.decode()

    assert page.count('<svg class="chart"') == 2
    assert page.count("Show as table") == 2
    assert "style=" not in page
    assert "<script>" not in page


@pytest.mark.parametrize(
    ("highest", "base", "top"),
    [(0, 10, 1), (4.2, 10, 6), (0.37, 10, 0.4), (61, 10, 80), (100, 10, 100), (130_000, 1024, 200 * 1024)],
)
def test_the_top_of_a_chart_is_a_round_number(highest: float, base: int, top: float) -> None:
    assert nice_top(highest, base=base) == pytest.approx(top)


def test_a_chart_of_nothing_is_drawn() -> None:
    assert "svg" in charts.bar_chart([], name="x", title="x", write=words.duration)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0, "0.0 s"), (0.01, "< 0.1 s"), (4.24, "4.2 s"), (59.6, "1 min 0 s"), (3700, "1 h 1 min")],
)
def test_durations_read_well(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


def test_a_waiting_operation_says_what_it_waits_for(staff: Client) -> None:
    running = make_operation("restore", "running")
    waiting = make_operation("backup", "queued")

    page = staff.get(f"/backups_app/operation/{waiting.pk}/change/").content.decode()

    assert f"It waits until {running} has ended." in page
    assert Operation.objects.active().count() == 2


def test_a_warning_among_the_steps_is_told_in_words(staff: Client) -> None:
    running = make_operation("backup", "running")
    running.note("The copy is late.", level="warning")

    assert "<strong>Warning:</strong> The copy is late." in staff.get("/").content.decode()


def test_who_may_not_see_operations_is_shown_none_that_runs(log_in: Log_in) -> None:
    make_operation("backup", "running")
    client = log_in("guest")
    client_user = User.objects.get(username="guest")
    client_user.user_permissions.add(Permission.objects.get(codename="view_backup"))

    page = client.get("/")

    assert page.status_code == 200
    assert "data-live" not in page.content.decode()
