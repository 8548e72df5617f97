"""No password gets into argv, the log, the trail or the records, whatever the server says."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import psycopg
import pytest
from django.db import connection
from pytest_django.fixtures import Settings

from backups_app.errors import ServerUnavailable
from backups_app.models import Backup, Operation
from backups_app.operations.masking import masked
from backups_app.systems.postgres import databases
from tests.conftest import OWNER_PASSWORD
from tests.operations.site import Site, beside, wait_for

TABLES = ("operation", "step", "backup", "backupcopy", "restoreevent")


def all_records() -> str:
    """Every column of every row, as text."""
    with connection.cursor() as cursor:
        rows: list[object] = []
        for table in TABLES:
            cursor.execute(f"SELECT * FROM backups_app_{table}")
            rows += cursor.fetchall()
    return repr(rows)


def test_no_password_is_in_the_arguments_of_a_running_program(site: Site) -> None:
    backup = site.backup()
    seen: set[bytes] = set()
    ended: list[bool] = []

    def look() -> None:
        while not ended:
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    arguments = (process / "cmdline").read_bytes()
                except OSError:
                    continue
                if b"pg_dump" in arguments or b"pg_restore" in arguments:
                    seen.add(arguments)

    with beside(look):
        wait_for(lambda: True)
        try:
            site.prove(backup)
            site.restore(backup)
        finally:
            ended.append(True)

    programs = {Path(part.decode()).name for one in seen for part in one.split(b"\0")[:5]}
    assert {"pg_dump", "pg_restore"} <= programs
    assert not [one for one in seen if OWNER_PASSWORD.encode() in one]


def test_no_password_is_in_the_records_the_files_or_the_log(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    backup = site.backup()
    site.prove(backup)
    site.restore(backup)
    site.undo(site.event())
    site.validate_database()

    assert OWNER_PASSWORD not in all_records()
    assert OWNER_PASSWORD not in caplog.text
    for file in site.working.glob("*.json"):
        assert OWNER_PASSWORD not in file.read_text()


@pytest.mark.parametrize("password", ["s3cret pa/ss%wörd", OWNER_PASSWORD], ids=["odd", "plain"])
def test_a_password_that_an_error_repeats_is_masked_everywhere(
    site: Site,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    password: str,
) -> None:
    from urllib.parse import quote

    caplog.set_level(logging.DEBUG)
    server = site.server
    settings.MANAGED_DATABASE_URL = (
        f"postgresql://{server.user}:{quote(password, safe='')}@{server.host}:{server.port}/qrdb"
    )

    def fail(*_: object, **__: object) -> None:
        try:
            raise ValueError(f"cannot parse {settings.MANAGED_DATABASE_URL}")
        except ValueError as error:
            raise ServerUnavailable(
                f"The login with {password} failed.",
                detail=f"FATAL: {password} in {quote(password, safe='')}",
            ) from error

    monkeypatch.setattr(databases, "facts", fail)

    operation = site.try_backup()

    assert operation.error == "The login with *** failed. Nothing was changed."
    fields = repr([vars(record) for record in caplog.records])
    for text in (all_records(), caplog.text, fields, operation.error_detail):
        assert password not in text
        assert quote(password, safe="") not in text


def test_something_unexpected_is_told_without_its_secrets(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def fail(*_: object, **__: object) -> None:
        raise ValueError(f"password={OWNER_PASSWORD}")

    monkeypatch.setattr(databases, "facts", fail)

    operation = site.try_backup()

    assert operation.error == (
        "Something unexpected went wrong (ValueError); the log has the details. Nothing was changed."
    )
    assert operation.error_detail == "ValueError: password=***"
    assert OWNER_PASSWORD not in caplog.text + repr([vars(record) for record in caplog.records])
    (cause,) = [str(vars(record)["error"]) for record in caplog.records if "error" in vars(record)]
    assert cause.endswith("ValueError: password=***")


def test_a_password_that_is_the_databases_name_tears_no_name_apart(
    site: Site, settings: Settings, superuser: psycopg.Connection[object]
) -> None:
    superuser.execute("ALTER ROLE qr_owner PASSWORD 'qrdb'")
    at = f"{site.server.host}:{site.server.port}"
    settings.MANAGED_DATABASE_URL = f"postgresql://{site.server.user}:qrdb@{at}/qrdb"

    backup = site.backup()
    settings.MANAGED_DATABASE_URL = f"postgresql://{site.server.user}:qrdb@{at}/qrdb_gone"
    settings.DRILL_DATABASE_URL = f"postgresql://{site.server.user}:qrdb@{at}/qrdb"
    failed = site.try_backup()

    assert backup.name.startswith("qrdb_")
    assert Operation.objects.earliest("pk").result["backup"] == backup.name
    assert f"There is no database qrdb_gone at {at}" in failed.error


def test_masking_reaches_into_lists_and_dictionaries(settings: Settings) -> None:
    settings.MANAGED_DATABASE_URL = "postgresql://me:hunter2@db:5432/qrdb"
    settings.S3_SECRET_KEY = "very/secret"
    settings.S3_KEYS = {"far": ("AKIAFAR", "of-the-far-one", "")}

    told = masked({"a": ["x hunter2", 3, None], "b": {"c": "very%2Fsecret of-the-far-one AKIAFAR"}})

    assert json.dumps(told) == '{"a": ["x ***", 3, null], "b": {"c": "*** *** AKIAFAR"}}'


def test_the_page_s_models_hold_no_password_field() -> None:
    for model in (Operation, Backup):
        assert not [field.name for field in model._meta.get_fields() if "password" in field.name]
