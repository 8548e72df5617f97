"""Texts without the passwords and keys that this site knows, for the trail, the records and the log."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit

from django.conf import settings

from backups_app import config
from backups_app.errors import QradminError
from backups_app.systems.postgres.connections import Server

Told = TypeVar("Told")


def masked(value: Told) -> Told:
    """``value``, a text or lists and dictionaries of them, with each secret replaced by ``***``."""
    return _replaced(value, _secrets())  # type: ignore[return-value]


def _replaced(value: object, secrets: list[str]) -> object:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "***")
        return value
    if isinstance(value, dict):
        return {key: _replaced(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(item, secrets) for item in value]
    return value


def _secrets() -> list[str]:
    """As they are and as a URL holds them, the longest first."""
    known = {settings.S3_SECRET_KEY, settings.S3_SESSION_TOKEN, settings.SECRET_KEY}
    known |= {str(site.get("PASSWORD") or "") for site in settings.DATABASES.values()}
    known |= {_password(server) for server in (config.managed_database, config.drill_database)}
    with suppress(ValueError):
        known.add(unquote(urlsplit(settings.QUEUE_REDIS_URL).password or ""))
    spelled = {text for secret in known if secret for text in (secret, quote(secret, safe=""))}
    return sorted(spelled, key=len, reverse=True)


def _password(server: Callable[[], Server]) -> str:
    with suppress(QradminError):
        return server().password
    return ""
