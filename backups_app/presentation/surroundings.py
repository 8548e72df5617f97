"""What surrounds the database: room in the storage locations, the API, the workers. Tells, never fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from django.conf import settings
from django.core.cache import cache
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from backups_app import config
from backups_app.errors import QradminError
from backups_app.operations.places import PAGE_SECONDS
from backups_app.presentation.retelling import in_words
from backups_app.systems import vault
from backups_app.systems.api_container import ApiContainer

Value = TypeVar("Value")
REMEMBERED_SECONDS = 10
PATIENCE_SECONDS = 3  # a page does not wait for longer for an engine that is silent


@dataclass(frozen=True)
class Room:
    """One storage location; ``free`` in bytes, None where nobody can tell."""

    alias: str
    free: int | None
    trouble: str = ""


@dataclass(frozen=True)
class ApiState:
    """The API as a sentence and a tone; ``detail`` says what is wrong, and nothing is known of it unless
    ``is_known``."""

    is_managed: bool
    is_running: bool
    text: str
    tone: str
    detail: str = ""
    is_known: bool = True


def space() -> list[Room]:
    """The free room of every location."""
    try:
        locations = config.locations()
    except QradminError as error:
        return [Room("", None, in_words(error.message))]
    return [_room(location) for location in locations]


def api() -> ApiState:
    """What the engine says of the API's container; remembered for some seconds."""
    return _remembered(f"qradmin:api:{get_language()}", _api)


def _room(location: vault.Location) -> Room:
    try:
        return Room(location.alias, vault.hurried(location, PAGE_SECONDS).free_bytes())
    except QradminError as error:
        return Room(location.alias, None, in_words(error.message))


def _api() -> ApiState:
    container = config.api()
    if not container.is_managed:
        return ApiState(False, False, _("not managed"), "quiet")
    if isinstance(container, ApiContainer):
        container = replace(container, engine_timeout_seconds=PATIENCE_SECONDS)
    try:
        state = container.state()
    except QradminError as error:
        return ApiState(True, False, _("not known"), "warn", in_words(error.message), is_known=False)
    if not state.exists:
        detail = _("Docker knows no container %(name)s: correct API_CONTAINER, or create the container.")
        name = {"name": settings.API_CONTAINER}
        return ApiState(True, False, _("its container is missing"), "bad", detail % name)
    if not state.running:
        return ApiState(True, False, _("stopped"), "bad")
    if state.health in {None, "healthy"}:
        return ApiState(True, True, _("running") if state.health is None else _("healthy"), "good")
    if state.health == "unhealthy":
        return ApiState(True, True, _("unhealthy"), "bad")
    return ApiState(True, True, _("starting") if state.health == "starting" else state.health, "warn")


def _remembered(key: str, look: Callable[[], Value]) -> Value:
    found: Value | None = cache.get(key)
    if found is None:
        found = look()
        cache.set(key, found, REMEMBERED_SECONDS)
    return found
