"""Texts without the passwords and keys that this site knows, for the trail, the records and the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit

from django.conf import settings

from backups_app import config
from backups_app.errors import QradminError
from backups_app.systems.postgres.connections import Server
from backups_app.systems.secrecy import hidden

Told = TypeVar("Told")


def masked(value: Told) -> Told:
    """``value``, a text or lists and dictionaries of them, with each secret replaced by ``***``."""
    return _replaced(value, _secrets(), _names())  # type: ignore[return-value]


def _replaced(value: object, secrets: set[str], names: set[str]) -> object:
    if isinstance(value, str):
        return hidden(value, secrets, names)
    if isinstance(value, dict):
        return {key: _replaced(item, secrets, names) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(item, secrets, names) for item in value]
    return value


def _secrets() -> set[str]:
    """As they are and as a URL holds them."""
    known = {settings.S3_SECRET_KEY, settings.S3_SESSION_TOKEN, settings.SECRET_KEY}
    known |= {word for _access, *words in settings.S3_KEYS.values() for word in words}
    known |= {str(site.get("PASSWORD") or "") for site in settings.DATABASES.values()}
    known |= {server.password for server in _servers()}
    with suppress(ValueError):
        known.add(unquote(urlsplit(settings.QUEUE_REDIS_URL).password or ""))
    return {text for secret in known if secret for text in (secret, quote(secret, safe=""))}


def _names() -> set[str]:
    """What everybody may read, and what the names of files and databases are made from."""
    names = {name for server in _servers() for name in (server.database, server.user, server.host)}
    for site in settings.DATABASES.values():
        names |= {str(site.get(word) or "") for word in ("NAME", "USER", "HOST")}
    return names - {""}


def _servers() -> Iterator[Server]:
    for read in (config.managed_database, config.drill_database):
        with suppress(QradminError):
            yield read()
