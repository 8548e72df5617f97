"""The site's own database is backed up beside the backups, and never taken for one of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlencode

import psycopg
import pytest
from django.conf import settings as django_settings
from pytest_django.fixtures import Settings

from backups_app import config
from backups_app.models import Backup, Operation
from backups_app.operations import site_recovery
from backups_app.systems import site_file, vault
from backups_app.systems.postgres import connections
from backups_app.systems.postgres.connections import Server
from qradmin.environment import Environment
from tests.operations.site import WHO, Site, change_bytes

on_sqlite = pytest.mark.skipif(
    "sqlite" not in django_settings.DATABASES["default"]["ENGINE"], reason="the site's database is PostgreSQL"
)


@pytest.fixture
def in_a_file(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The SQLite file that holds the tests' records now."""
    from django.db import connection

    file = Path(str(connection.settings_dict["NAME"]))
    monkeypatch.setattr(config, "site_database", lambda: file)
    return file


def execute(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute(statement)


def ruin_a_page(file: Path) -> None:
    """The first page of an index: a query of the table alone does not see it."""
    with closing(sqlite3.connect(file)) as database:
        (size,) = database.execute("PRAGMA page_size").fetchone()
        query = (
            "SELECT rootpage FROM sqlite_master WHERE type = 'index' AND tbl_name = 'backups_app_backupcopy'"
        )
        (page,) = database.execute(query).fetchone()
    data = bytearray(file.read_bytes())
    data[(page - 1) * size : page * size] = b"\xff" * size
    file.write_bytes(data)


@on_sqlite
def test_the_sites_database_is_copied_whole_to_every_location(site: Site, in_a_file: Path) -> None:
    site.backup()

    operation = site.backup_site()

    assert operation.state == "succeeded", operation.error
    name = operation.result["file"]
    assert vault.SITE_NAMES.fits(name)
    for folder in (site.working, site.second):
        told = json.loads((folder / f"{name}.json").read_text())
        assert told["sha256"] == vault.sha256_of(folder / name) == operation.result["sha256"]
        assert (folder / name).stat().st_mode & 0o777 == 0o600
        with closing(sqlite3.connect(folder / name)) as copied:
            assert copied.execute("SELECT count(*) FROM backups_app_backup").fetchone() == (1,)
            assert copied.execute("PRAGMA journal_mode").fetchone() == ("delete",)


@on_sqlite
def test_only_the_newest_are_kept_and_nothing_else_is_touched(
    site: Site, in_a_file: Path, settings: Settings
) -> None:
    settings.SITE_BACKUP_KEEP = 3
    backup = site.backup()
    old = [f"qradmin_site_2025010{day}_000000.{'dump' if day % 2 else 'sqlite3'}" for day in range(1, 6)]
    foreign = ["qradmin_site_20250101_000000.sql", "qradmin_site.sqlite3", "other_20250101_000000.sqlite3"]
    for folder in (site.working, site.second):
        for name in [*old, *foreign]:
            (folder / name).write_bytes(b"x")
            (folder / f"{name}.json").write_bytes(b"{}")

    operation = site.backup_site()

    kept = {*old[-2:], operation.result["file"], *foreign, backup.name}
    for folder in (site.working, site.second):
        assert {path.name for path in folder.iterdir()} == kept | {f"{name}.json" for name in kept}
    assert len(operation.result["removed"]) == 6


@on_sqlite
def test_the_new_one_stays_where_the_others_names_look_newer(
    site: Site, in_a_file: Path, settings: Settings
) -> None:
    """The clock was ahead once, and was set back."""
    settings.SITE_BACKUP_KEEP = 2
    later = [f"qradmin_site_2099010{day}_000000.sqlite3" for day in (1, 2, 3)]
    for name in later:
        (site.working / name).write_bytes(b"x")

    operation = site.backup_site()

    made = operation.result["file"]
    assert (site.working / made).exists()
    assert (site.second / made).exists()
    assert sorted(path.name for path in site.working.glob("*.sqlite3")) == [made, later[2]]


@on_sqlite
def test_what_another_site_keeps_in_the_same_place_is_left_alone(
    site: Site, in_a_file: Path, settings: Settings
) -> None:
    settings.SITE_BACKUP_KEEP = 1
    ours, theirs, unclear = (f"qradmin_site_2025010{day}_000000.sqlite3" for day in (1, 2, 3))
    told = {
        ours: json.dumps({"site": "testserver", "size": 1}),
        theirs: json.dumps({"site": "testserver", "managed_database": "elsewhere:5432/qrdb"}),
        unclear: "[" * 100_000,
    }
    for name, text in told.items():
        (site.working / name).write_bytes(b"x")
        (site.working / f"{name}.json").write_text(text)

    operation = site.backup_site()

    assert operation.result["removed"] == [f"{ours} in working"]
    assert {path.name for path in site.working.glob("*.sqlite3")} == {
        theirs,
        unclear,
        operation.result["file"],
    }
    made = json.loads((site.working / f"{operation.result['file']}.json").read_text())
    assert (made["site"], made["managed_database"].rpartition("/")[2]) == ("testserver", "qrdb")


@on_sqlite
def test_no_import_and_no_check_takes_it_for_a_backup(site: Site, in_a_file: Path) -> None:
    site.backup_site()
    before = site.files()

    found = site.import_found()
    site.check_copies()

    assert found.result["adopted"] == found.result["refused"] == []
    assert not Backup.objects.exists()
    assert site.files() == before


@on_sqlite
def test_a_location_that_is_down_is_a_warning_and_keeps_what_it_has(
    site: Site, in_a_file: Path, settings: Settings
) -> None:
    site.second.rmdir()

    operation = site.backup_site()

    assert operation.state == "succeeded"
    assert operation.result["locations"] == ["working"]
    assert operation.result["warnings"][0].startswith("No copy in second: ")


@on_sqlite
def test_two_within_one_second_get_two_names(site: Site, in_a_file: Path) -> None:
    names = {site.backup_site().result["file"] for _ in range(2)}

    assert len(names) == 2


@on_sqlite
@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b"not a database" * 500),
        lambda file: file.write_bytes(file.read_bytes()[:8192]),
        ruin_a_page,
        lambda file: execute(file, "ALTER TABLE backups_app_operation RENAME TO gone"),
    ],
    ids=["foreign", "truncated", "a ruined page", "without the trail"],
)
def test_a_copy_that_is_not_whole_gets_no_name(
    site: Site, in_a_file: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object]
) -> None:
    real = site_file.copy

    def damaged(source: Path, target: Path) -> None:
        real(source, target)
        damage(target)

    monkeypatch.setattr(site_file, "copy", damaged)

    operation = site.backup_site()

    assert operation.state == "failed"
    assert "The copy of the site's own database" in operation.error
    assert site.files() == set()


@on_sqlite
def test_a_database_that_cannot_be_read_is_said(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(config, "site_database", lambda: tmp_path / "gone.sqlite3")

    operation = site.backup_site()

    assert (operation.state, operation.blame) == ("failed", "environment")
    assert operation.error.startswith("The site's own database could not be copied")
    assert site.files() == set()


@on_sqlite
def test_a_location_that_was_down_for_a_moment_gets_the_newest_with_the_next_check(
    site: Site, in_a_file: Path
) -> None:
    site.second.rmdir()
    made = site.backup_site().result
    site.second.mkdir()

    check = site.check_copies()

    assert vault.sha256_of(site.second / made["file"]) == made["sha256"]
    assert json.loads((site.second / f"{made['file']}.json").read_text())["sha256"] == made["sha256"]
    assert (check.result["site_backup"], check.result["site_warnings"]) == (made["file"], [])
    told = f"second holds an intact copy of {made['file']} again."
    assert told in check.steps.values_list("what", flat=True)


@on_sqlite
@pytest.mark.parametrize("where", ["working", "second"])
def test_a_damaged_copy_of_the_newest_is_replaced_from_an_intact_one(
    site: Site, in_a_file: Path, where: str
) -> None:
    made = site.backup_site().result
    folder = getattr(site, where)
    change_bytes(folder / made["file"], lambda data: data.reverse())

    check = site.check_copies()

    assert vault.sha256_of(folder / made["file"]) == made["sha256"]
    assert check.result["site_warnings"] == []


@on_sqlite
def test_a_file_that_is_not_ours_is_left_alone_at_the_place_of_the_newest(
    site: Site, in_a_file: Path
) -> None:
    made = site.backup_site().result
    (site.second / made["file"]).write_text("theirs")
    (site.second / f"{made['file']}.json").write_text('{"sha256": "theirs"}')

    check = site.check_copies()

    assert check.state == "succeeded"
    assert (site.second / made["file"]).read_text() == "theirs"
    assert check.result["site_warnings"] == [
        f"second holds another file named {made['file']}: it was left as it is."
    ]


@on_sqlite
def test_a_location_that_is_down_holds_up_no_check_of_the_newest(site: Site, in_a_file: Path) -> None:
    made = site.backup_site().result
    (site.working / f"{made['file']}.json").unlink()
    site.second.rename(site.second.with_name("away"))

    check = site.check_copies()

    assert check.state == "succeeded"
    assert json.loads((site.working / f"{made['file']}.json").read_text())["sha256"] == made["sha256"]
    assert check.result["site_warnings"] == []


@on_sqlite
def test_where_no_copy_of_the_newest_is_intact_it_is_said(site: Site, in_a_file: Path) -> None:
    made = site.backup_site().result
    for folder in (site.working, site.second):
        (folder / made["file"]).write_bytes(b"x")

    check = site.check_copies()

    assert check.result["site_warnings"] == [
        f"No location that answers holds an intact copy of {made['file']}: back up this site again."
    ]


def test_a_site_in_postgresql_is_dumped(
    site: Site, managed: Server, superuser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    superuser.execute(f"CREATE DATABASE qradmin OWNER {managed.user}")
    own = managed.at("qradmin")
    with site.connected("qradmin") as connection:
        connection.execute("CREATE TABLE backups_app_operation (id int)")
        connection.execute("INSERT INTO backups_app_operation VALUES (7)")
    monkeypatch.setattr(config, "site_database", lambda: own)

    operation = site.backup_site()

    assert operation.state == "succeeded", operation.error
    assert operation.result["file"].endswith(".dump")
    assert operation.result["locations"] == ["working", "second"]
    assert managed.password not in (site.working / f"{operation.result['file']}.json").read_text()


def test_a_dump_without_the_trail_gets_no_name(
    site: Site, managed: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "site_database", lambda: managed)  # which holds no operations

    operation = site.backup_site()

    assert operation.error.startswith("The copy of the site's own database does not hold the audit trail.")
    assert site.files() == set()


def test_the_settings_say_where_the_sites_database_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "db",
        "PORT": "",
        "USER": "u",
        "PASSWORD": "secret-word",
        "NAME": "qradmin",
        "OPTIONS": {"sslmode": "require"},
    }
    monkeypatch.setitem(django_settings.DATABASES, "default", told)

    found = config.site_database()

    assert found == Server("db", 5432, "u", "secret-word", "qradmin", "require")
    assert "secret-word" not in repr(found)


TLS = {
    "sslrootcert": "/etc/tls/ca.pem",
    "sslcert": "/etc/tls/site.pem",
    "sslkey": "/etc/tls/site.key",
    "target_session_attrs": "read-write",
}


@pytest.mark.parametrize("ask", [config.site_database, config.managed_database, config.drill_database])
def test_tls_is_carried_from_the_url_to_connections_and_programs(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, ask: Callable[[], Any]
) -> None:
    url = f"postgresql://u:pw@db/name?sslmode=verify-full&{urlencode(TLS)}"
    monkeypatch.setenv("IT", f"{url}&connect_timeout=3")
    monkeypatch.setitem(django_settings.DATABASES, "default", Environment().db_url("IT"))
    settings.MANAGED_DATABASE_URL = settings.DRILL_DATABASE_URL = url

    server = ask()

    told = connections.environment(server, "test")
    assert {name: told[name] for name in told if name.startswith(("PGSSL", "PGTARGET"))} == {
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/etc/tls/ca.pem",
        "PGSSLCERT": "/etc/tls/site.pem",
        "PGSSLKEY": "/etc/tls/site.key",
        "PGTARGETSESSIONATTRS": "read-write",
    }
    connect = mock.Mock()
    monkeypatch.setattr(psycopg, "connect", connect)
    with connections.connect(server, application_name="test"):
        pass
    assert TLS.items() <= connect.call_args.kwargs.items()


def test_what_was_open_then_is_closed_and_never_done_again(site: Site) -> None:
    from django_q.models import OrmQ

    from backups_app import tasks

    backup = site.backup()
    waiting = tasks.request_restore(backup, reason="a test", **WHO)
    running = tasks.request_validate_backup(backup, **WHO)
    Operation.objects.claim(running.pk, host="gone", pid=1)
    OrmQ.objects.create(key="qradmin", payload="x")

    closed = site_recovery.close_open_operations()

    assert closed == sorted([waiting.pk, running.pk])
    assert set(Operation.objects.filter(pk__in=closed).values_list("state", flat=True)) == {"interrupted"}
    assert not OrmQ.objects.exists()
    assert tasks.run(waiting.pk) == "was already started, or is no longer wanted"
    assert site_recovery.close_open_operations() == []
