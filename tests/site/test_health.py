"""/health tells monitors whether backups are being made, /health/ready whether the pages can be served."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from backups_app.models import Backup, WorkerBeat
from qradmin import health

CLOSED = "The site's database does not answer."


def make_all_well() -> None:
    WorkerBeat.objects.create(name="w:1", at=timezone.now())
    make_backup(hours=1)


def make_backup(*, hours: float, **changes: object) -> None:
    now = timezone.now()
    facts = {"origin": "manual", "size": 1, "sha256": "0", "validated_at": now} | changes
    Backup.objects.create(
        name=f"qrdb_{Backup.objects.count()}.sql", created_at=now - timedelta(hours=hours), **facts
    )


@pytest.mark.django_db
def test_all_is_well_with_a_worker_and_a_fresh_validated_backup(client: Client) -> None:
    make_all_well()

    answer = client.get("/health")

    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    told = answer.json()
    assert told["status"] == "healthy"
    assert set(told["checks"]) == {"site_database", "worker", "last_validated_backup"}
    assert told["checks"]["last_validated_backup"]["hours"] == pytest.approx(1, abs=0.1)


@pytest.mark.django_db
def test_a_silent_worker_is_unhealthy(client: Client) -> None:
    make_all_well()
    WorkerBeat.objects.update(at=timezone.now() - timedelta(minutes=2))

    answer = client.get("/health")

    assert answer.status_code == 503
    assert answer.json()["checks"]["worker"]["status"] == "fail"


@pytest.mark.django_db
def test_no_worker_and_no_backup_yet_is_unhealthy_but_ready(client: Client) -> None:
    answer = client.get("/health")

    assert answer.status_code == 503
    checks = answer.json()["checks"]
    assert [checks[name]["status"] for name in ("worker", "last_validated_backup")] == ["fail", "fail"]
    assert client.get("/health/ready").status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize(
    "changes", [{"validated_at": None}, {"damage": "one byte differs"}, {"removed_at": timezone.now()}]
)
def test_a_backup_that_is_not_whole_does_not_count(client: Client, changes: dict[str, object]) -> None:
    WorkerBeat.objects.create(name="w:1", at=timezone.now())
    make_backup(hours=1, **changes)

    assert client.get("/health").status_code == 503


@pytest.mark.django_db
def test_an_old_backup_is_unhealthy(client: Client, settings: Settings) -> None:
    make_all_well()
    Backup.objects.update(created_at=timezone.now() - timedelta(hours=27))

    answer = client.get("/health")

    assert answer.status_code == 503
    assert "26 hours" in answer.json()["checks"]["last_validated_backup"]["message"]
    settings.HEALTH_BACKUP_HOURS = 30
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize("address", ["/health", "/health/ready"])
def test_a_database_that_is_away_is_said_without_its_details(
    client: Client, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_args: object) -> None:
        raise OperationalError("connection to server at 10.1.2.3 as user site failed")

    monkeypatch.setattr(connection, "cursor", away)

    answer = client.get(address)

    assert answer.status_code == 503
    checks = answer.json()["checks"]
    assert checks == {"site_database": {"status": "fail", "message": CLOSED}}


@pytest.mark.django_db
def test_it_answers_by_any_name_and_without_tls(client: Client, settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["backup.example.edu"]
    settings.SECURE_SSL_REDIRECT = True

    assert client.get("/health/ready", headers={"Host": "172.18.0.3:8000"}).status_code == 200
    assert client.get("/health/", headers={"Host": "web"}).status_code == 503


@pytest.mark.django_db
def test_it_only_reads(client: Client) -> None:
    assert client.post("/health").status_code == 405
    assert client.head("/health/ready").status_code == 200


@pytest.mark.django_db
def test_tables_that_were_not_migrated_yet_are_said(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> dict[str, object]:
        raise OperationalError("no such table")

    monkeypatch.setattr(health, "_worker", missing)

    answer = client.get("/health")

    assert answer.status_code == 503
    assert "migrations" in answer.json()["checks"]["site_database"]["message"]
