"""Only names of the pattern are ever made, read or opened."""

from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups_app.errors import Refused
from backups_app.systems.vault import NAME_PATTERN, is_name, make_name, parse_name, prefix_for
from backups_app.systems.vault.names import name_behind

MOMENT = datetime(2025, 5, 25, 14, 30, 22, tzinfo=UTC)

NO_NAMES = [
    "",
    ".",
    "..",
    "qrdb.sql",
    "qrdb_20250525_143022",
    "qrdb_20250525_143022.sql ",
    "qrdb_20250525_143022.sql\n",
    "\nqrdb_20250525_143022.sql",
    "qrdb_20250525_143022.sql\0",
    "qrdb_20250525_143022.sql/",
    "./qrdb_20250525_143022.sql",
    "../qrdb_20250525_143022.sql",
    "/etc/passwd",
    "..\\qrdb_20250525_143022.sql",
    "a/../qrdb_20250525_143022.sql",
    "qrdb_20250525_143022.SQL",
    "qrdb_20250525_143022.sql.json",
    "qrdb_20250525_143022_after_restore.sql",
    "qrdb_20251325_143022.sql",
    "qrdb_20250230_143022.sql",
    "qrdb_20250525_246022.sql",
    "qrdb_٢٠٢٥٠٥٢٥_143022.sql",
    "bücher_20250525_143022.sql",
    "-qrdb_20250525_143022.sql",
    ".qrdb_20250525_143022.sql",
    "qr db_20250525_143022.sql",
    "_20250525_143022.sql",
    "q" * 64 + "_20250525_143022.sql",
]


def test_a_name_says_the_database_and_the_time_in_utc() -> None:
    berlin = timezone(timedelta(hours=2))

    assert make_name("qrdb", MOMENT) == "qrdb_20250525_143022.sql"
    assert make_name("qrdb", MOMENT, safety=True) == "qrdb_20250525_143022_before_restore.sql"
    assert make_name("qrdb", datetime(2025, 5, 25, 16, 30, 22, tzinfo=berlin)) == "qrdb_20250525_143022.sql"


def test_a_name_is_never_made_from_a_time_without_zone() -> None:
    with pytest.raises(ValueError, match="aware"):
        make_name("qrdb", datetime(2025, 5, 25, 14, 30, 22))  # noqa: DTZ001


def test_what_a_name_says_is_read_back() -> None:
    plain = parse_name("qrdb_20250525_143022.sql")
    safety = parse_name("My-Data_base2_20250525_143022_before_restore.sql")

    assert (plain.prefix, plain.moment, plain.is_safety) == ("qrdb", MOMENT, False)
    assert (safety.prefix, safety.moment, safety.is_safety) == ("My-Data_base2", MOMENT, True)


@pytest.mark.parametrize("name", NO_NAMES)
def test_anything_else_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_name(name)

    assert not is_name(name)
    assert refused.value.message.endswith(".")
    assert len(refused.value.message.splitlines()) == 1


@pytest.mark.parametrize("day", ["99991231", "22000101", "19691231", "00010101"])
def test_a_date_that_no_backup_can_have_is_refused(day: str) -> None:
    name = f"qrdb_{day}_235959.sql"

    assert not is_name(name)
    with pytest.raises(Refused, match="is not the name of a backup file"):
        parse_name(name)


@given(st.text(max_size=80), st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31)), st.booleans())  # noqa: DTZ001
def test_every_database_gets_names_that_are_read_back(database: str, moment: datetime, safety: bool) -> None:
    name = make_name(database, moment.replace(tzinfo=UTC), safety=safety)

    parsed = parse_name(name)
    assert str(parsed) == name
    assert parsed.prefix == prefix_for(database)
    assert parsed.is_safety is safety
    assert set(name) <= set(string.ascii_letters + string.digits + "_-.")
    assert len(name.encode()) < 200


@given(st.text(alphabet="qr_20250525143022.sql/\\\0\nbefore-", max_size=60))
def test_no_accepted_name_can_leave_its_folder(name: str) -> None:
    if is_name(name):
        assert "/" not in name
        assert "\0" not in name
        assert ".." not in name
        assert NAME_PATTERN.fullmatch(name)


def test_only_temporary_names_of_our_own_are_swept() -> None:
    ours = [
        ".qrdb_20250525_143022.sql.part",
        ".qrdb_20250525_143022.sql.0a1b2c3d.part",
        ".qrdb_20250525_143022.sql.json.0a1b2c3d.part",
        ".qradmin-check-0123456789abcdef",
    ]
    foreign = [
        "qrdb_20250525_143022.sql",
        "qrdb_20250525_143022.sql.part",
        ".film.part",
        ".x.sql.part",
        ".qradmin-check-me",
    ]

    assert [name_behind(name) for name in ours] == [*3 * ["qrdb_20250525_143022.sql"], ours[-1]]
    assert not any(name_behind(name) for name in foreign)
