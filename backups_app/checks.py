"""Start-up checks: what is missing or wrong in the settings, each with an id and a hint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from backups_app import config
from backups_app.errors import NotConfigured
from backups_app.sentences import say

SHORTEST_KEY, FEWEST_LETTERS = 32, 5
EXAMPLES = "See .env.example for every variable and its form."


@register
def check_settings(app_configs: Any, **_options: Any) -> Sequence[CheckMessage]:  # noqa: ARG001
    """Every setting that is read later, read once now."""
    return list(_problems())


def _problems() -> Iterator[CheckMessage]:
    yield from _secret_key()
    told: set[str] = set()
    for number, read in enumerate(_READ, start=2):
        for problem in _tried(read, f"qradmin.E{number:03}"):
            if problem.msg not in told:  # the server for proofs is the managed database's own by default
                yield problem
            told.add(problem.msg)
    yield from _same_database()


def _secret_key() -> Iterator[CheckMessage]:
    key, hint = settings.SECRET_KEY, "Set it to a long random text."
    if not settings.IS_SECRET_KEY_SET:
        yield Error("SECRET_KEY is not set.", hint=hint, id="qradmin.E001")
    elif len(key) < SHORTEST_KEY:
        told = say("SECRET_KEY is shorter than {least} characters.", least=SHORTEST_KEY)
        yield Error(told, hint=hint, id="qradmin.E050")
    elif len(set(key)) < FEWEST_LETTERS:
        yield Error("SECRET_KEY is always the same few characters.", hint=hint, id="qradmin.E050")


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
    if _places(site) & _places({"HOST": managed.host, "PORT": managed.port, "NAME": managed.database}):
        yield Error(
            "DATABASE_URL and MANAGED_DATABASE_URL are the same database.",
            hint="Give the site a database of its own: a restore would wipe its audit trail.",
            id="qradmin.E020",
        )


def _places(database: dict[str, Any]) -> set[tuple[str, int, str]]:
    """Each host of it with port and name."""
    port, name = int(database.get("PORT") or 5432), str(database["NAME"])
    return {(_host(host), port, name) for host in str(database.get("HOST") or "localhost").split(",")}


def _host(name: str) -> str:
    """A socket's folder is on this machine, as localhost is."""
    is_here = name.startswith("/") or name.lower() in {"127.0.0.1", "::1", "localhost"}
    return "localhost" if is_here else name.lower()


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
    config.api,
    config.allowed_hosts,
    config.contacts,
    config.response_times,
    config.trusted_origins,
)
