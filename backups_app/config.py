"""The settings as frozen values, read when called; NotConfigured says which variable is wrong."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.conf import settings

from backups_app.errors import NotConfigured
from backups_app.sentences import say
from backups_app.systems import vault
from backups_app.systems.api_container import Api, ApiContainer, NoContainer
from backups_app.systems.postgres import addresses
from backups_app.systems.postgres.connections import Server
from backups_app.systems.postgres.health import Expectations
from backups_app.systems.web_addresses import is_web_address

MANAGED_EXAMPLE = "postgresql://user:password@host:5432/qrdb"
COMPRESSION = re.compile(r"best|none|gzip(:[1-9])?|zstd(:([1-9]|1[0-9]|2[0-2]))?|lz4(:([1-9]|1[0-2]))?")


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
    told = {name: str(value) for name, value in site.get("OPTIONS", {}).items()}
    return Server(
        host=str(site["HOST"]),
        port=int(site.get("PORT") or 5432),
        user=str(site["USER"]),
        password=str(site["PASSWORD"]),
        database=str(site["NAME"]),
        sslmode=told.get("sslmode", "prefer"),
        options=_options(told),
    )


def site_identity() -> dict[str, str]:
    """By what this site's own backups are told from another's that lie in the same place."""
    managed = managed_database()
    return {
        "site": str(next(iter(settings.ALLOWED_HOSTS), "")),
        "managed_database": f"{managed.host}:{managed.port}/{managed.database}",
    }


def site_backup_keep() -> int:
    """How many backups of the site's own database each location keeps."""
    return int(settings.SITE_BACKUP_KEEP)


def location_specs() -> tuple[vault.LocationSpec, ...]:
    return vault.parse_locations(settings.BACKUP_LOCATIONS)


def locations(naming: vault.Naming = vault.MANAGED_NAMES) -> tuple[vault.Location, ...]:
    """Every storage location, the working location first, for one family of files."""
    return tuple(vault.open_location(spec, _store_key(spec.alias), naming) for spec in location_specs())


def _store_key(alias: str) -> vault.Credentials | None:
    """A location's own key, else the common one; None where the machine itself has access."""
    common = (settings.S3_ACCESS_KEY, settings.S3_SECRET_KEY, settings.S3_SESSION_TOKEN)
    access, secret, token = settings.S3_KEYS.get(alias, common)
    return vault.Credentials(access, secret, token) if access and secret else None


def location(alias: str) -> vault.Location | None:
    """The location of that alias; None when it is no longer configured."""
    return next((place for place in locations() if place.alias == alias), None)


def upload_limit_bytes() -> int:
    """The largest backup file that may be handed in through the page."""
    return int(settings.UPLOAD_LIMIT_MB) * 1024 * 1024


def scratch_folder() -> Path | None:
    """Where fetched copies lie while they are used: beside the working files, as there is room for them.

    None, the system's own place, while the working location is down.
    """
    folder = location_specs()[0].folder
    return folder if folder is not None and os.access(folder, os.W_OK) else None


def upload_folder() -> Path:
    """Where the web process leaves an uploaded file for the worker; both have to see it.

    NotConfigured when it is not set and the first storage location is not a folder of this machine.
    """
    if settings.UPLOAD_FOLDER:
        return Path(settings.UPLOAD_FOLDER)
    working, *_others = location_specs()
    if working.folder is None:
        raise NotConfigured(
            say(
                "The first storage location, {alias}, is no folder of this machine: set UPLOAD_FOLDER.",
                alias=working.alias,
            )
        )
    return working.folder


def client_folders() -> tuple[Path, ...]:
    """Where pg_dump and pg_restore are looked for before anywhere else."""
    return tuple(Path(folder) for folder in settings.POSTGRES_CLIENT_FOLDERS)


def compression() -> str:
    """``best``, or a method with its level such as ``gzip:1``."""
    chosen = str(settings.BACKUP_COMPRESSION).strip().lower()
    if not COMPRESSION.fullmatch(chosen):
        raise NotConfigured(
            say(
                "BACKUP_COMPRESSION has to be best, none, gzip:1 to gzip:9, zstd:1 to zstd:22 or "
                "lz4:1 to lz4:12."
            )
        )
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
        raise NotConfigured(say("KNOWN_REVISIONS names a revision twice: list each one once, oldest first."))
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


def keep_trials_for() -> timedelta:
    """How long the database of a trial is kept."""
    return timedelta(hours=settings.TRIAL_DATABASE_HOURS)


def api() -> Api:
    """The API's container, or its absence."""
    if not settings.API_CONTAINER:
        return NoContainer()
    return ApiContainer(
        name=_container_name(settings.API_CONTAINER),
        docker_host=settings.DOCKER_HOST or None,
        health_url=_health_url(settings.API_HEALTH_URL),
        stop_grace_seconds=settings.API_STOP_GRACE,
        healthy_timeout_seconds=settings.API_HEALTHY_TIME_LIMIT,
        probe_timeout_seconds=settings.API_ANSWER_TIME_LIMIT,
        engine_timeout_seconds=settings.DOCKER_TIME_LIMIT,
        program_timeout_seconds=settings.API_MIGRATE_TIME_LIMIT,
    )


def _container_name(text: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", text):
        raise NotConfigured(
            say("API_CONTAINER has to be the name of a container, not {text}.", text=repr(text))
        )
    return text


def _health_url(text: str) -> str | None:
    if text and not is_web_address(text):
        raise NotConfigured(say("API_HEALTH_URL has to look like http://qr_generator_api:8000/health."))
    return text or None


def allowed_hosts() -> tuple[str, ...]:
    """The names under which the site is asked for; a single one that is wrong would shut everybody out."""
    for host in settings.ALLOWED_HOSTS:
        if not re.fullmatch(r"\*|\.?[\w-]+(\.[\w-]+)*|\[[0-9a-fA-F:.]+\]", host):
            raise NotConfigured(
                say(
                    "ALLOWED_HOSTS: {host} is no host name: leave out the scheme, the port and the path.",
                    host=repr(host),
                )
            )
    if not settings.ALLOWED_HOSTS:
        raise NotConfigured(say("ALLOWED_HOSTS is empty: nobody could reach the site."))
    return tuple(settings.ALLOWED_HOSTS)


def trusted_origins() -> tuple[str, ...]:
    """From where forms may be sent; Django itself names one without a scheme."""
    for origin in settings.CSRF_TRUSTED_ORIGINS:
        if "://" in origin and not re.fullmatch(
            r"https?://(\*\.)?([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d+)?", origin
        ):
            raise NotConfigured(
                say(
                    "CSRF_TRUSTED_ORIGINS: {origin} has to be an address without a path,"
                    " such as https://backup.example.org, with no / at its end.",
                    origin=repr(origin),
                )
            )
    return tuple(settings.CSRF_TRUSTED_ORIGINS)


def contacts() -> list[tuple[str, str]]:
    """Who is to be asked, and how: name and value."""
    return _pairs("CONTACTS")


def response_times() -> list[tuple[str, str]]:
    """What happened, and within which time it is to be mended."""
    return _pairs("RESPONSE_TIMES")


def _pairs(variable: str) -> list[tuple[str, str]]:
    found = []
    for entry in filter(None, (part.strip() for part in getattr(settings, variable).split(";"))):
        name, _colon, value = (part.strip() for part in entry.partition(":"))
        if not name or not value:
            raise NotConfigured(
                say("{variable} has to look like: Database team: 4711; Out of hours: 112.", variable=variable)
            )
        found.append((name, value))
    return found


def migrate_command() -> tuple[str, ...]:
    """The command that brings the managed database to its newest revision, in the API's container."""
    try:
        command = tuple(shlex.split(settings.API_MIGRATE_COMMAND))
    except ValueError as error:
        raise NotConfigured(say("API_MIGRATE_COMMAND has an open quote.")) from error
    if not command:
        raise NotConfigured(
            say("API_MIGRATE_COMMAND is empty: set it to a command such as alembic upgrade head.")
        )
    return command


def _count(variable: str, *, least: int) -> int:
    """What cannot be understood is never guessed: a wrong number could remove backups."""
    text = str(getattr(settings, variable)).strip()
    if not re.fullmatch(r"\d{1,5}", text) or int(text) < least:
        raise NotConfigured(
            say(
                "{variable} has to be a whole number, at least {least}, not {text}.",
                variable=variable,
                least=least,
                text=repr(text),
            )
        )
    return int(text)


def _server(variable: str, url: str) -> Server:
    if not url:
        raise NotConfigured(
            say(
                "{variable} is not set: it has to look like {example}.",
                variable=variable,
                example=MANAGED_EXAMPLE,
            )
        )
    address = addresses.parse(variable, url, options=addresses.OPTIONS, example=MANAGED_EXAMPLE)
    if not address.user:
        raise addresses.incomplete(variable, MANAGED_EXAMPLE)
    return Server(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password,
        database=address.database,
        sslmode=address.options.get("sslmode", "prefer"),
        options=_options(address.options),
    )


def _options(told: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What a connection takes beside the sslmode; how long it waits is its own affair."""
    names = [name for name in addresses.OPTIONS if name != "sslmode"]
    return tuple((name, told[name]) for name in names if name in told)


def _columns(text: str) -> dict[str, tuple[str, ...]]:
    columns: dict[str, tuple[str, ...]] = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        table, colon, names = entry.partition(":")
        words = names.replace(",", " ").split()
        if not colon or not table.strip() or not words:
            raise NotConfigured(
                say("REQUIRED_COLUMNS has to look like: qr_codes: id content; scan_logs: id qr_code_id.")
            )
        columns[table.strip()] = tuple(words)
    return columns


def content_alarm_share() -> float:
    """The share of a table's rows whose loss between two backups is warned of, between 0 and 1."""
    share = float(settings.CONTENT_ALARM_PERCENT) / 100
    if not 0 < share <= 1:
        raise NotConfigured(say("CONTENT_ALARM_PERCENT has to be above 0 and at most 100."))
    return share


def alarms() -> Alarms:
    return Alarms(
        backup_age=timedelta(hours=settings.HEALTH_BACKUP_HOURS),
        drill_age=timedelta(days=settings.DRILL_OVERDUE_DAYS),
        least_bytes=settings.MINIMUM_BACKUP_BYTES,
    )
