"""/health tells monitors whether backups are being made, /health/ready whether the pages can be served."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import InterfaceError, OperationalError, ProgrammingError
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


@pytest.mark.django_db(transaction=True)
def test_all_is_well_with_a_worker_and_a_fresh_validated_backup(client: Client) -> None:
    make_all_well()

    answer = client.get("/health")

    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    told = answer.json()
    assert told["status"] == "healthy"
    assert set(told["checks"]) == {"site_database", "worker", "last_validated_backup"}
    assert told["checks"]["last_validated_backup"]["hours"] == pytest.approx(1, abs=0.1)


@pytest.mark.django_db(transaction=True)
def test_a_silent_worker_is_unhealthy(client: Client) -> None:
    make_all_well()
    WorkerBeat.objects.update(at=timezone.now() - timedelta(minutes=2))

    answer = client.get("/health")

    assert answer.status_code == 503
    assert answer.json()["checks"]["worker"]["status"] == "fail"


@pytest.mark.django_db(transaction=True)
def test_no_worker_and_no_backup_yet_is_unhealthy_but_ready(client: Client) -> None:
    answer = client.get("/health")

    assert answer.status_code == 503
    checks = answer.json()["checks"]
    assert [checks[name]["status"] for name in ("worker", "last_validated_backup")] == ["fail", "fail"]
    assert client.get("/health/ready").status_code == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "changes", [{"validated_at": None}, {"damage": "one byte differs"}, {"removed_at": timezone.now()}]
)
def test_a_backup_that_is_not_whole_does_not_count(client: Client, changes: dict[str, object]) -> None:
    WorkerBeat.objects.create(name="w:1", at=timezone.now())
    make_backup(hours=1, **changes)

    assert client.get("/health").status_code == 503


@pytest.mark.django_db(transaction=True)
def test_an_old_backup_is_unhealthy(client: Client, settings: Settings) -> None:
    make_all_well()
    Backup.objects.update(created_at=timezone.now() - timedelta(hours=27))

    answer = client.get("/health")

    assert answer.status_code == 503
    assert "26 hours" in answer.json()["checks"]["last_validated_backup"]["message"]
    settings.HEALTH_BACKUP_HOURS = 30
    assert client.get("/health").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_worker_from_before_the_clock_was_set_back_is_not_alive(client: Client) -> None:
    make_all_well()
    WorkerBeat.objects.update(at=timezone.now() + timedelta(hours=3))

    answer = client.get("/health")

    assert answer.status_code == 503
    assert answer.json()["checks"]["worker"] == {"status": "fail", "message": "No worker runs."}


@pytest.mark.django_db(transaction=True)
def test_a_backup_from_before_the_clock_was_set_back_does_not_count(client: Client) -> None:
    make_all_well()
    Backup.objects.update(created_at=timezone.now() + timedelta(days=30))

    answer = client.get("/health")

    assert answer.status_code == 503
    assert answer.json()["checks"]["last_validated_backup"]["message"] == "There is no validated backup."
    make_backup(hours=2)
    assert client.get("/health").json()["checks"]["last_validated_backup"]["hours"] == pytest.approx(
        2, abs=0.1
    )


@pytest.mark.parametrize("address", ["/health", "/health/ready"])
@pytest.mark.parametrize(
    "error",
    [
        OperationalError("connection to server at 10.1.2.3 as user site failed"),
        OperationalError("the connection is lost"),
        OperationalError("canceling statement due to statement timeout"),
        InterfaceError("connection already closed"),
    ],
    ids=["refused", "lost", "time-out", "closed"],
)
def test_a_database_that_is_away_is_said_without_its_details(
    client: Client, address: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise error

    monkeypatch.setattr(health, "_worker" if address == "/health" else "_knock", away)
    monkeypatch.setattr(health, "_knock", away if address != "/health" else lambda: None)

    answer = client.get(address)

    assert answer.status_code == 503
    checks = answer.json()["checks"]
    assert checks == {"site_database": {"status": "fail", "message": CLOSED}}


@pytest.mark.parametrize("address", ["/health", "/health/ready"])
def test_a_database_that_is_silent_holds_up_one_look_and_no_other(
    client: Client, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, looks = threading.Event(), []

    def wait_in_vain() -> None:
        looks.append(threading.current_thread())
        silent.wait(30)

    monkeypatch.setattr(health, "LIMIT_SECONDS", 0.2)
    monkeypatch.setattr(health, "_knock", wait_in_vain)

    answers = [client.get(address) for _ in range(5)]

    assert [answer.status_code for answer in answers] == 5 * [503]
    assert answers[0].json()["checks"] == {"site_database": {"status": "fail", "message": CLOSED}}
    assert len(looks) == 1, "the others did not begin a look of their own"
    silent.set()
    looks[0].join(10)
    monkeypatch.setattr(health, "_knock", lambda: None)
    assert client.get("/health/ready").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_it_answers_by_any_name_and_without_tls(client: Client, settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["backup.example.edu"]
    settings.SECURE_SSL_REDIRECT = True

    assert client.get("/health/ready", headers={"Host": "172.18.0.3:8000"}).status_code == 200
    assert client.get("/health/", headers={"Host": "web"}).status_code == 503


@pytest.mark.django_db(transaction=True)
def test_it_only_reads(client: Client) -> None:
    assert client.post("/health").status_code == 405
    assert client.head("/health/ready").status_code == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "error",
    [OperationalError("no such table: backups_app_workerbeat"), ProgrammingError("relation does not exist")],
    ids=["sqlite", "postgresql"],
)
def test_tables_that_were_not_migrated_yet_are_said(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def missing() -> dict[str, object]:
        raise error

    monkeypatch.setattr(health, "_worker", missing)

    answer = client.get("/health")

    assert answer.status_code == 503
    assert "migrations" in answer.json()["checks"]["site_database"]["message"]
