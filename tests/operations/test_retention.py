"""What a clean-up removes and what it never removes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from backups_app import config, tasks
from backups_app.checks import check_settings
from backups_app.config import Retention
from backups_app.errors import NotConfigured
from backups_app.models import Backup, BackupCopy, Operation, RestoreEvent
from backups_app.operations import retention
from backups_app.operations.places import Sight
from backups_app.operations.retention import Candidate, Decision, choose_expired
from tests.operations.site import WHO, Site

NOW = datetime(2026, 5, 25, 14, 30, tzinfo=UTC)


def policy(keep: int = 5, **more: int) -> Retention:
    numbers = {"daily": 0, "weekly": 0, "monthly": 0, **more}
    days = numbers.pop("safety_days", 7)
    return Retention(keep=keep, safety_for=timedelta(days=days), **numbers)


def aged(days: float, name: str = "", **facts: Any) -> Candidate:
    return Candidate(name or f"{days} days", NOW - timedelta(days=days), **facts)


def gone(decisions: list[Decision]) -> list[str]:
    return [decision.name for decision in decisions if decision.goes]


# --- the choice: properties ---------------------------------------------------------------------------------

candidates = st.lists(
    st.builds(
        Candidate,
        name=st.uuids().map(str),
        created_at=st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
        is_safety=st.booleans(),
        is_validated=st.sampled_from([True, True, True, False]),
        is_proven=st.sampled_from([True, False, False, False, False]),
        is_pinned=st.sampled_from([True, False, False, False]),
        in_use=st.sampled_from(["", "", "", "In use."]),
        has_intact_copy=st.sampled_from([True, True, False]),
        is_out_of_sight=st.booleans(),
        was_proven=st.booleans(),
        imported_at=st.none()
        | st.datetimes(datetime(2024, 1, 1), NOW.replace(tzinfo=None), timezones=st.just(UTC)),  # noqa: DTZ001
    ),
    max_size=30,
)
policies = st.builds(
    Retention,
    keep=st.integers(1, 8),
    daily=st.integers(0, 10),
    weekly=st.integers(0, 5),
    monthly=st.integers(0, 5),
    safety_for=st.integers(1, 400).map(lambda days: timedelta(days=days)),
)


@settings(max_examples=200, deadline=None)
@given(candidates, policies)
def test_what_must_stay_stays_whatever_the_settings(found: list[Candidate], rules: Retention) -> None:
    decisions = choose_expired(found, rules, NOW)

    assert sorted(one.name for one in decisions) == sorted(one.name for one in found)
    assert all(decision.reason for decision in decisions)
    goes = set(gone(decisions))
    good = sorted((one for one in found if one.counts), key=lambda one: (one.created_at, one.name))
    if good:
        assert good[-1].name not in goes
    proven = [one for one in good if one.is_proven]
    if proven:
        assert proven[-1].name not in goes
    perhaps = sorted(
        (one for one in found if one.counts or (one.is_validated and one.is_out_of_sight)),
        key=lambda one: (one.created_at, one.name),
    )
    for those in (perhaps, [one for one in perhaps if one.is_proven]):
        assert not those or those[-1].name not in goes
    ordinary = [one for one in good if not one.is_safety]
    assert not goes & {one.name for one in ordinary[-rules.keep :]}
    for one in found:
        if one.is_pinned or one.in_use:
            assert one.name not in goes
        if one.is_safety and NOW - one.created_at < rules.safety_for:
            assert one.name not in goes
        if one.imported_at and NOW - one.imported_at < rules.safety_for:
            assert one.name not in goes
        if one.name in goes and not one.is_safety:
            assert sum(other.created_at > one.created_at for other in ordinary) >= rules.keep
            assert len(ordinary) >= rules.keep


@settings(max_examples=100, deadline=None)
@given(candidates, policies)
def test_a_clean_up_after_a_clean_up_removes_nothing(found: list[Candidate], rules: Retention) -> None:
    goes = set(gone(choose_expired(found, rules, NOW)))

    left = [one for one in found if one.name not in goes]

    assert gone(choose_expired(left, rules, NOW)) == []


@settings(max_examples=100, deadline=None)
@given(candidates, policies)
def test_keeping_more_never_removes_more(found: list[Candidate], rules: Retention) -> None:
    more = Retention(
        rules.keep + 1, rules.daily + 1, rules.weekly + 1, rules.monthly + 1, rules.safety_for * 2
    )

    assert set(gone(choose_expired(found, more, NOW))) <= set(gone(choose_expired(found, rules, NOW)))


# --- the choice: examples -----------------------------------------------------------------------------------


def test_the_newest_five_stay_and_the_reason_is_said() -> None:
    decisions = choose_expired([aged(days) for days in range(7)], policy(), NOW)

    assert gone(decisions) == ["5 days", "6 days"]
    assert decisions[1].reason == "Number 2 of the 5 newest."
    assert decisions[6].reason == "Older than the 5 newest intact ones."


def test_what_is_damaged_or_lost_does_not_count_as_kept() -> None:
    lost = [aged(0, has_intact_copy=False), aged(1, is_validated=False)]
    found = [*lost, *(aged(days) for days in range(2, 9))]

    assert gone(choose_expired(found, policy(), NOW)) == ["7 days", "8 days"]


def test_with_too_few_good_ones_nothing_goes() -> None:
    found = [aged(1), aged(2), aged(300, is_validated=False), aged(400, has_intact_copy=False)]

    assert gone(choose_expired(found, policy(), NOW)) == []


def test_days_weeks_and_months_keep_the_newest_of_each() -> None:
    found = [aged(hours / 24, f"{hours} h") for hours in range(0, 24 * 100, 12)]

    kept = {
        one.name
        for one in choose_expired(found, policy(1, daily=3, weekly=2, monthly=3), NOW)
        if not one.goes
    }

    # the 25th, a Monday; the 24th 14:30; the 23rd; the last of the week before is the 24th; April, March
    april, march = (
        (NOW - datetime(2026, 4, 30, 14, 30, tzinfo=UTC)),
        (NOW - datetime(2026, 3, 31, 14, 30, tzinfo=UTC)),
    )
    assert kept == {"0 h", "24 h", "48 h"} | {
        f"{round(age.total_seconds() / 3600)} h" for age in (april, march)
    }


def test_safety_backups_have_a_period_of_their_own() -> None:
    found = [aged(days) for days in range(5)] + [
        aged(6, "young", is_safety=True),
        aged(8, "old", is_safety=True),
    ]

    decisions = choose_expired(found, policy(), NOW)

    assert gone(decisions) == ["old"]
    assert decisions[-1].reason == "A safety backup, older than 7 days."


def test_a_backup_from_the_future_is_harmless() -> None:
    """The clock was ahead once: what is made now is not taken for the oldest, and nothing is lost."""
    ahead = [aged(-3), aged(-2), aged(-1, "safety", is_safety=True)]

    decisions = choose_expired([*ahead, aged(0), aged(1), aged(2)], policy(2), NOW)

    assert gone(decisions) == ["2 days"]
    assert {one.reason for one in decisions if one.name.startswith("-")} == {
        "Its date lies ahead: the clock was set back since then."
    }


def test_the_newest_proven_stays_while_it_may_lie_in_a_location_that_is_down() -> None:
    hidden = aged(9, "proven", is_proven=True, has_intact_copy=False, is_out_of_sight=True)
    older = aged(10, "seen", is_proven=True)
    lost = aged(8, "lost", is_proven=True, has_intact_copy=False)
    found = [*(aged(days) for days in range(1, 4)), lost, hidden, older]

    assert gone(choose_expired(found, policy(2), NOW)) == ["3 days", "lost"]


def test_what_lies_in_a_location_that_is_down_is_known_to_lie_there(
    site: Site, three: list[Backup], settings: Settings
) -> None:
    settings.BACKUP_KEEP = "1"
    Backup.objects.filter(pk=three[0].pk).update(proven_at=timezone.now())
    (site.working / three[0].name).unlink()
    away = site.second.rename(site.second.with_name("away"))

    operation = prune(site)
    away.rename(site.second)
    prune(site)

    assert three[0].name not in operation.result["removed"]
    assert (site.second / three[0].name).exists()


# --- the settings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BACKUP_KEEP", "0"),
        ("BACKUP_KEEP", "-1"),
        ("BACKUP_KEEP", "five"),
        ("BACKUP_KEEP", ""),
        ("BACKUP_KEEP", "5.5"),
        ("BACKUP_KEEP_DAILY", "-3"),
        ("SAFETY_BACKUP_DAYS", "0"),
    ],
)
def test_a_wrong_number_is_said_and_removes_nothing(
    one_folder: Site, settings: Settings, name: str, value: str
) -> None:
    kept = one_folder.backup()
    setattr(settings, name, value)

    with pytest.raises(NotConfigured, match=f"{name} has to be a whole number"):
        tasks.request_prune(**WHO)
    with pytest.raises(NotConfigured):
        retention.plan()
    assert name in "".join(message.msg for message in check_settings(None))
    backup = one_folder.try_backup()
    assert backup.state == "succeeded"
    assert any(f"{name} has to be" in warning for warning in backup.result["warnings"])
    assert one_folder.files() >= {kept.name}


# --- the removal --------------------------------------------------------------------------------------------


def older(backup: Backup, days: int, origin: str = "manual") -> Backup:
    """``backup`` as if it had been taken some days ago, with its files under a fitting name."""
    Backup.objects.filter(pk=backup.pk).update(
        created_at=timezone.now() - timedelta(days=days), origin=origin
    )
    backup.refresh_from_db()
    return backup


def prune(site: Site) -> Operation:
    return site.attempt(tasks.request_prune(**WHO))


@pytest.fixture
def three(site: Site, settings: Settings) -> list[Backup]:
    """Three backups in two locations, the oldest first, of which two are to be kept."""
    settings.BACKUP_KEEP = "50"
    made = [older(site.backup(), days) for days in (3, 2, 1)]
    settings.BACKUP_KEEP = "2"
    return made


def test_files_go_from_every_location_and_the_row_stays_with_its_reason(
    site: Site, three: list[Backup]
) -> None:
    operation = prune(site)

    assert operation.state == "succeeded", operation.error
    assert operation.result["removed"] == [three[0].name]
    assert site.files() == {name for one in three[1:] for name in (one.name, f"{one.name}.json")}
    row = Backup.objects.get(pk=three[0].pk)
    assert (row.state, row.removed_reason) == ("removed", "Older than the 2 newest intact ones.")
    assert set(row.copies.values_list("state", flat=True)) == {"removed"}
    assert any(three[0].name in what for what in operation.steps.values_list("what", flat=True))
    assert prune(site).result["removed"] == []


def test_a_backup_prunes_as_its_last_step(site: Site, three: list[Backup]) -> None:
    operation = site.try_backup()

    assert operation.state == "succeeded"
    assert operation.result["removed"] == [three[0].name, three[1].name][::-1]
    assert {name for name in site.files() if name.endswith(".sql")} == {
        three[2].name,
        operation.result["backup"],
    }


def test_a_file_that_is_gone_counts_as_removed(site: Site, three: list[Backup]) -> None:
    (site.second / three[0].name).unlink()
    (site.working / three[0].name).unlink()
    Backup.objects.filter(pk=three[0].pk).update(is_pinned=False)

    operation = prune(site)

    assert operation.result == {"removed": [three[0].name], "frozen": "", "waiting": []}


def test_a_location_that_is_down_keeps_its_file_for_later(site: Site, three: list[Backup]) -> None:
    away = site.second.with_name("away")
    site.second.rename(away)

    operation = prune(site)

    assert operation.state == "succeeded"
    assert operation.result["waiting"] == [f"{three[0].name} in second"]
    assert three[0].name not in {path.name for path in site.working.iterdir()}
    away.rename(site.second)
    assert prune(site).result["waiting"] == []
    assert three[0].name not in site.files()


def test_a_location_that_was_taken_away_is_told_once_and_what_never_arrived_there_is_done_with(
    site: Site, three: list[Backup], settings: Settings
) -> None:
    settings.BACKUP_KEEP = "1"
    for backup in three:
        BackupCopy.objects.create(backup=backup, location="old", state="pending")
        BackupCopy.objects.create(backup=backup, location="older", state="stored")

    operation = prune(site)

    assert not BackupCopy.objects.filter(location="old", state="pending", backup__in=three[:2]).exists()
    assert operation.result["waiting"] == [f"{one.name} in older" for one in three[:2]]
    told = operation.steps.filter(what__contains="goes with a later clean-up")
    assert [step.what.partition(":")[0] for step in told] == [
        "What is to go is still in older and goes with a later clean-up"
    ]


def test_newer_backups_whose_files_are_lost_do_not_make_older_ones_go(
    site: Site, three: list[Backup]
) -> None:
    for folder in (site.working, site.second):
        (folder / three[2].name).unlink()

    assert prune(site).result["removed"] == []
    assert three[0].name in site.files()


def test_a_copy_cut_short_does_not_count(site: Site, three: list[Backup]) -> None:
    for folder in (site.working, site.second):
        (folder / three[1].name).write_bytes(b"short")

    assert prune(site).result["removed"] == []


def test_pinned_used_and_guarding_backups_stay(site: Site, three: list[Backup]) -> None:
    Backup.objects.filter(pk=three[0].pk).update(is_pinned=True)
    assert prune(site).result["removed"] == []
    Backup.objects.filter(pk=three[0].pk).update(is_pinned=False)

    waiting = tasks.request_prove_backup(three[0], **WHO)
    assert [one.reason for one in retention.plan().decisions if one.name == three[0].name] == [
        "In use by an operation."
    ]
    waiting.request_cancel("tester")

    event = RestoreEvent.objects.create(
        operation=waiting,
        backup=three[2],
        safety_backup=three[0],
        replaced_database="qrdb_replaced",
        outcome="restored",
    )
    assert prune(site).result["removed"] == []

    event.change(outcome="untouched")
    assert three[0].name in prune(site).result["removed"]


def test_what_is_pinned_between_choice_and_removal_stays(
    site: Site, three: list[Backup], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = retention.plan

    def pin_meanwhile(sight: Sight | None = None) -> retention.Plan:
        chosen = real(sight)
        Backup.objects.filter(pk=three[0].pk).update(is_pinned=True)
        return chosen

    monkeypatch.setattr(retention, "plan", pin_meanwhile)

    assert prune(site).result["removed"] == []
    assert three[0].name in site.files()


@pytest.mark.parametrize("state", ["failed", "interrupted", "expired"])
def test_nothing_goes_while_the_last_backup_has_failed(site: Site, three: list[Backup], state: str) -> None:
    now = timezone.now()
    bad = Operation.objects.create(kind="backup", state=state, expires_at=now, finished_at=now)

    operation = prune(site)

    assert (
        operation.result["frozen"]
        == f"Nothing is removed while the last backup has failed (operation {bad.pk})."
    )
    assert operation.result["removed"] == []
    assert len([name for name in site.files() if name.endswith(".sql")]) == 3


def test_nothing_goes_while_the_newest_backup_is_damaged(site: Site, three: list[Backup]) -> None:
    three[2].mark_damaged("It is.")

    assert "is not validated" in prune(site).result["frozen"]


def test_a_damaged_one_from_the_future_freezes_nothing(site: Site, three: list[Backup]) -> None:
    older(three[2], -1).mark_damaged("It is.")

    assert retention.plan().frozen == ""


def test_what_failed_before_the_last_good_backup_holds_nothing_up(site: Site, three: list[Backup]) -> None:
    now = timezone.now()
    Operation.objects.create(kind="backup", state="failed", expires_at=now, finished_at=now)

    operation = site.try_backup()

    assert operation.result["frozen"] == ""
    assert sorted(operation.result["removed"]) == [three[0].name, three[1].name]


def test_another_s_file_at_the_place_of_a_waiting_copy_is_left_alone(site: Site, three: list[Backup]) -> None:
    (site.second / three[0].name).write_text("somebody else's")
    (site.second / f"{three[0].name}.json").unlink()
    BackupCopy.objects.filter(backup=three[0], location="second").update(state="pending")
    site.check_copies(only_pending=True)

    assert prune(site).result["waiting"] == []

    assert (site.second / three[0].name).read_text() == "somebody else's"
    assert not (site.working / three[0].name).exists()


def test_the_policy_is_read_from_the_settings(settings: Settings) -> None:
    settings.BACKUP_KEEP, settings.BACKUP_KEEP_WEEKLY, settings.SAFETY_BACKUP_DAYS = "3", " 4 ", "10"

    assert config.retention() == policy(3, weekly=4, safety_days=10)
