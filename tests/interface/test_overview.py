"""The first page: what it says when all is well, when something is wrong, and when there is nothing yet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from backups_app.errors import ContainerProblem
from backups_app.models import Operation
from backups_app.presentation import charts, surroundings, words
from backups_app.presentation.charts import nice_top
from backups_app.systems.api_container import ContainerState
from tests.interface.conftest import Log_in, make_backup, make_beat, make_operation, make_restore

pytestmark = pytest.mark.django_db


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


class Container:
    """Stands for the API's container."""

    is_managed = True

    def __init__(self, state: ContainerState | Exception) -> None:
        self._state = state

    def state(self) -> ContainerState:
        if isinstance(self._state, Exception):
            raise self._state
        return self._state


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (ContainerState(True, False, "exited"), "stopped"),
        (ContainerState(False, False, "missing"), "its container is missing"),
        (ContainerProblem("Docker does not answer."), "Docker does not answer."),
    ],
)
def test_an_api_that_is_down_is_told(
    staff: Client, monkeypatch: pytest.MonkeyPatch, state: ContainerState | Exception, told: str
) -> None:
    monkeypatch.setattr(surroundings.config, "api", lambda: Container(state))
    surroundings.cache.clear()

    found = banners(staff)
    surroundings.cache.clear()

    assert [text for text in found if text.startswith("The API is down") and told in text]


@pytest.mark.parametrize(
    ("health", "owing", "told"),
    [
        (None, True, "Restore 7 stopped the API, and it is not well again since then"),
        ("starting", True, "Restore 7 stopped the API, and it is not well again since then"),
        ("unhealthy", False, "Docker's health check says that it is not well"),
        ("starting", False, ""),
        (None, False, ""),
    ],
)
def test_an_api_that_runs_but_is_not_well_is_told(
    staff: Client, monkeypatch: pytest.MonkeyPatch, health: str | None, owing: bool, told: str
) -> None:
    running = ContainerState(True, True, "running", health)
    monkeypatch.setattr(surroundings.config, "api", lambda: Container(running))
    surroundings.cache.clear()
    make_operation("restore", "interrupted", pk=7, api_stop_intended=owing)

    found = [text for text in banners(staff) if "API" in text]
    surroundings.cache.clear()

    assert bool(found) is bool(told)
    assert told in "".join(found).replace("&#x27;", "'")


def test_what_one_reader_saw_is_not_told_to_another_in_his_language(staff: Client, settings: Any) -> None:
    settings.API_CONTAINER = ""
    surroundings.cache.clear()

    german = staff.get("/", headers={"Accept-Language": "de"}).content.decode()
    english = staff.get("/", headers={"Accept-Language": "en"}).content.decode()
    surroundings.cache.clear()

    assert ("nicht verwaltet" in german, "nicht verwaltet" in english) == (True, False)


def test_an_api_that_an_operation_stopped_is_no_alarm(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings.config, "api", lambda: Container(ContainerState(True, False, "exited")))
    surroundings.cache.clear()
    make_operation("restore", "running", api_stop_intended=True)

    found = banners(staff)
    surroundings.cache.clear()

    assert not [text for text in found if text.startswith("The API is down")]


def test_with_no_backup_yet_the_page_says_what_to_do(log_in: Log_in) -> None:
    assert "Click “Back up now”" in log_in("itstaff").get("/").content.decode()
    assert "Ask the IT staff" in log_in("helpdesk").get("/").content.decode()


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
