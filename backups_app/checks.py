"""Start-up checks: what is missing or wrong in the settings, each with an id and a hint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from backups_app import config
from backups_app.errors import NotConfigured
from backups_app.systems.postgres.connections import Server

EXAMPLES = "See .env.example for every variable and its form."


@register
def check_settings(app_configs: Any, **_options: Any) -> Sequence[CheckMessage]:  # noqa: ARG001
    """Every setting that is read later, read once now."""
    return list(_problems())


def _problems() -> Iterator[CheckMessage]:
    if not settings.IS_SECRET_KEY_SET:
        yield Error("SECRET_KEY is not set.", hint="Set it to a long random text.", id="qradmin.E001")
    for number, read in enumerate(_READ, start=2):
        yield from _tried(read, f"qradmin.E{number:03}")
    yield from _same_database()


def _tried(read: Callable[[], object], identity: str) -> Iterator[CheckMessage]:
    try:
        read()
    except NotConfigured as error:
        yield Error(error.message, hint=EXAMPLES, id=identity)


def _same_database() -> Iterator[CheckMessage]:
    """A restore of the managed database must not wipe the audit trail."""
    site = settings.DATABASES["default"]
    if "postgresql" not in site["ENGINE"]:
        return
    try:
        managed = config.managed_database()
    except NotConfigured:
        return
    if _place(site) == _place_of(managed):
        yield Error(
            "DATABASE_URL and MANAGED_DATABASE_URL are the same database.",
            hint="Give the site a database of its own: a restore would wipe its audit trail.",
            id="qradmin.E020",
        )


def _place(site: dict[str, Any]) -> tuple[str, int, str]:
    return _host(site.get("HOST") or "localhost"), int(site.get("PORT") or 5432), str(site["NAME"])


def _place_of(server: Server) -> tuple[str, int, str]:
    return _host(server.host), server.port, server.database


def _host(name: str) -> str:
    return "localhost" if name.lower() in {"127.0.0.1", "::1", "localhost"} else name.lower()


_READ: tuple[Callable[[], object], ...] = (
    config.managed_database,
    config.drill_database,
    config.location_specs,
    config.compression,
    config.expectations,
    config.migrate_command,
    config.content_alarm_share,
    config.retention,
    config.known_revisions,
)
