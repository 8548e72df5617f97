"""What surrounds the database: room in the storage locations, the API, the workers. Tells, never fails."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from backups_app import config
from backups_app.errors import QradminError
from backups_app.models import ApiSighting
from backups_app.operations.places import PAGE_SECONDS
from backups_app.presentation.retelling import in_words
from backups_app.systems import vault


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


def api(seen: ApiSighting | None, now: datetime) -> ApiState:
    """The API's container as somebody has ``seen`` it who may ask Docker; a page never asks."""
    if not settings.API_CONTAINER:
        return ApiState(False, False, _("not managed"), "quiet")
    if seen is None or not seen.is_fresh(now):
        return _not_known(_unseen(seen, now))
    if seen.problem:
        return _not_known(in_words(seen.problem))
    if not seen.is_there:
        detail = _("Docker knows no container %(name)s: correct API_CONTAINER, or create the container.")
        return ApiState(True, False, _("its container is missing"), "bad", detail % {"name": seen.container})
    if not seen.is_running:
        return ApiState(True, False, _("stopped"), "bad")
    if seen.health in {"", "healthy"}:
        return ApiState(True, True, _("healthy") if seen.health else _("running"), "good")
    if seen.health == "unhealthy":
        return ApiState(True, True, _("unhealthy"), "bad")
    return ApiState(True, True, _("starting") if seen.health == "starting" else seen.health, "warn")


def _room(location: vault.Location) -> Room:
    try:
        return Room(location.alias, vault.hurried(location, PAGE_SECONDS).free_bytes())
    except QradminError as error:
        return Room(location.alias, None, in_words(error.message))


def _not_known(why: str) -> ApiState:
    return ApiState(True, False, _("not known"), "warn", why, is_known=False)


def _unseen(seen: ApiSighting | None, now: datetime) -> str:
    name = settings.API_CONTAINER
    if seen is None or seen.at > now:
        return _(
            "No worker has looked at the container %(name)s yet: start one, or start it anew"
            " after a change of API_CONTAINER."
        ) % {"name": name}
    return _("No worker has looked at the container %(name)s since %(time)s: start one.") % {
        "name": name,
        "time": f"{timezone.localtime(seen.at):%Y-%m-%d %H:%M}",
    }
