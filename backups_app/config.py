"""The settings as frozen values, read when called; NotConfigured says which variable is wrong."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from django.conf import settings

from backups_app.errors import NotConfigured
from backups_app.systems import vault
from backups_app.systems.api_container import Api, ApiContainer, NoContainer
from backups_app.systems.postgres.connections import Server
from backups_app.systems.postgres.health import Expectations

MANAGED_EXAMPLE = "postgresql://user:password@host:5432/qrdb"
COMPRESSION = re.compile(r"best|none|gzip(:[1-9])?|zstd(:\d{1,2})?|lz4(:\d{1,2})?")


@dataclass(frozen=True)
class Limits:
    """How long work may take, in seconds; ``standstill``: how long nothing moves before a page asks why."""

    operation: int
    safety_backup: int
    stall: int
    standstill: int


@dataclass(frozen=True)
class Retention:
    """How many backups are kept at least: the newest ones, and the newest of so many days, weeks, months."""

    keep: int
    daily: int
    weekly: int
    monthly: int
    safety_for: timedelta


@dataclass(frozen=True)
class Alarms:
    """When the morning check speaks up: ages of the last good ones, and the least size of a backup."""

    backup_age: timedelta
    drill_age: timedelta
    least_bytes: int


def managed_database() -> Server:
    """The database that is backed up."""
    return _server("MANAGED_DATABASE_URL", settings.MANAGED_DATABASE_URL)


def drill_database() -> Server:
    """The server on which backups are proven: an own one when set, else the managed database's."""
    url = settings.DRILL_DATABASE_URL
    return _server("DRILL_DATABASE_URL", url) if url else managed_database()


def site_database() -> Server | Path:
    """The site's own database: a server's, or the file of SQLite."""
    site = settings.DATABASES["default"]
    if "postgresql" not in site["ENGINE"]:
        return Path(str(site["NAME"]))
    return Server(
        host=str(site["HOST"]),
        port=int(site.get("PORT") or 5432),
        user=str(site["USER"]),
        password=str(site["PASSWORD"]),
        database=str(site["NAME"]),
        sslmode=str(site.get("OPTIONS", {}).get("sslmode", "prefer")),
    )


def site_backup_keep() -> int:
    """How many backups of the site's own database each location keeps."""
    return int(settings.SITE_BACKUP_KEEP)


def location_specs() -> tuple[vault.LocationSpec, ...]:
    return vault.parse_locations(settings.BACKUP_LOCATIONS)


def locations(naming: vault.Naming = vault.MANAGED_NAMES) -> tuple[vault.Location, ...]:
    """Every storage location, the working location first, for one family of files."""
    credentials = None
    if settings.S3_ACCESS_KEY and settings.S3_SECRET_KEY:
        credentials = vault.Credentials(
            settings.S3_ACCESS_KEY, settings.S3_SECRET_KEY, settings.S3_SESSION_TOKEN
        )
    return tuple(vault.open_location(spec, credentials, naming) for spec in location_specs())


def location(alias: str) -> vault.Location | None:
    """The location of that alias; None when it is no longer configured."""
    return next((place for place in locations() if place.alias == alias), None)


def upload_limit_bytes() -> int:
    """The largest backup file that may be handed in through the page."""
    return int(settings.UPLOAD_LIMIT_MB) * 1024 * 1024


def upload_folder() -> Path:
    """Where the web process leaves an uploaded file for the worker; both have to see it.

    NotConfigured when it is not set and the first storage location is not a folder of this machine.
    """
    if settings.UPLOAD_FOLDER:
        return Path(settings.UPLOAD_FOLDER)
    working, *_others = location_specs()
    if working.folder is None:
        raise NotConfigured(
            f"The first storage location, {working.alias}, is no folder of this machine: set UPLOAD_FOLDER."
        )
    return working.folder


def client_folders() -> tuple[Path, ...]:
    """Where pg_dump and pg_restore are looked for before anywhere else."""
    return tuple(Path(folder) for folder in settings.POSTGRES_CLIENT_FOLDERS)


def compression() -> str:
    """``best``, or a method with its level such as ``gzip:1``."""
    chosen = str(settings.BACKUP_COMPRESSION).strip().lower()
    if not COMPRESSION.fullmatch(chosen):
        raise NotConfigured("BACKUP_COMPRESSION has to be best, none, gzip:LEVEL, zstd:LEVEL or lz4:LEVEL.")
    return chosen


def limits() -> Limits:
    return Limits(
        operation=settings.OPERATION_TIME_LIMIT,
        safety_backup=settings.SAFETY_BACKUP_TIME_LIMIT,
        stall=settings.STALL_TIME_LIMIT,
        standstill=settings.STANDSTILL_SECONDS,
    )


def expectations() -> Expectations:
    """What a healthy managed database has."""
    return Expectations(
        tables=tuple(settings.REQUIRED_TABLES),
        columns=_columns(settings.REQUIRED_COLUMNS),
        revision=settings.EXPECTED_REVISION or None,
    )


def known_revisions() -> tuple[str, ...]:
    """Every migration revision of the managed system, oldest first."""
    known = tuple(revision.strip() for revision in settings.KNOWN_REVISIONS if revision.strip())
    if len(set(known)) != len(known):
        raise NotConfigured("KNOWN_REVISIONS names a revision twice: list each one once, oldest first.")
    return known


def retention() -> Retention:
    return Retention(
        keep=_count("BACKUP_KEEP", least=1),
        daily=_count("BACKUP_KEEP_DAILY", least=0),
        weekly=_count("BACKUP_KEEP_WEEKLY", least=0),
        monthly=_count("BACKUP_KEEP_MONTHLY", least=0),
        safety_for=timedelta(days=_count("SAFETY_BACKUP_DAYS", least=1)),
    )


def keep_replaced_for() -> timedelta:
    """How long the database that a restore replaced is kept for an undo."""
    return timedelta(hours=settings.REPLACED_DATABASE_HOURS)


def api() -> Api:
    """The API's container, or its absence."""
    if not settings.API_CONTAINER:
        return NoContainer()
    return ApiContainer(
        name=settings.API_CONTAINER,
        docker_host=settings.DOCKER_HOST or None,
        health_url=settings.API_HEALTH_URL or None,
        stop_grace_seconds=settings.API_STOP_GRACE,
        healthy_timeout_seconds=settings.API_HEALTHY_TIME_LIMIT,
        probe_timeout_seconds=settings.API_ANSWER_TIME_LIMIT,
        engine_timeout_seconds=settings.DOCKER_TIME_LIMIT,
        program_timeout_seconds=settings.API_MIGRATE_TIME_LIMIT,
    )


def migrate_command() -> tuple[str, ...]:
    """The command that brings the managed database to its newest revision, in the API's container."""
    try:
        command = tuple(shlex.split(settings.API_MIGRATE_COMMAND))
    except ValueError as error:
        raise NotConfigured("API_MIGRATE_COMMAND has an open quote.") from error
    if not command:
        raise NotConfigured("API_MIGRATE_COMMAND is empty: set it to a command such as alembic upgrade head.")
    return command


def _count(variable: str, *, least: int) -> int:
    """What cannot be understood is never guessed: a wrong number could remove backups."""
    text = str(getattr(settings, variable)).strip()
    if not re.fullmatch(r"\d{1,5}", text) or int(text) < least:
        raise NotConfigured(f"{variable} has to be a whole number, at least {least}, not {text!r}.")
    return int(text)


def _server(variable: str, url: str) -> Server:
    if not url:
        raise NotConfigured(f"{variable} is not set: it has to look like {MANAGED_EXAMPLE}.")
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
    except ValueError as error:
        raise NotConfigured(f"{variable} has a wrong port: it has to look like {MANAGED_EXAMPLE}.") from error
    database = unquote(parts.path.lstrip("/"))
    is_complete = (
        parts.scheme in {"postgresql", "postgres"} and parts.hostname and parts.username and database
    )
    if not is_complete or "/" in database:
        raise NotConfigured(f"{variable} is not complete: it has to look like {MANAGED_EXAMPLE}.")
    return Server(
        host=str(parts.hostname),
        port=port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=database,
        sslmode=parse_qs(parts.query).get("sslmode", ["prefer"])[0],
    )


def _columns(text: str) -> dict[str, tuple[str, ...]]:
    columns: dict[str, tuple[str, ...]] = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        table, colon, names = entry.partition(":")
        if not colon or not table.strip() or not names.split():
            raise NotConfigured(
                "REQUIRED_COLUMNS has to look like: qr_codes: id content; scan_logs: id qr_code_id."
            )
        columns[table.strip()] = tuple(names.split())
    return columns


def content_alarm_share() -> float:
    """The share of a table's rows whose loss between two backups is warned of, between 0 and 1."""
    share = float(settings.CONTENT_ALARM_PERCENT) / 100
    if not 0 < share <= 1:
        raise NotConfigured("CONTENT_ALARM_PERCENT has to be above 0 and at most 100.")
    return share


def alarms() -> Alarms:
    return Alarms(
        backup_age=timedelta(hours=settings.HEALTH_BACKUP_HOURS),
        drill_age=timedelta(days=settings.DRILL_OVERDUE_DAYS),
        least_bytes=settings.MINIMUM_BACKUP_BYTES,
    )
