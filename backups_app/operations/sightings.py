"""How the API's container is: those who work on it look and write it down, so that no page asks Docker."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import Error as RecordsError
from django.utils import timezone

from backups_app import config
from backups_app.errors import ContainerProblem, QradminError
from backups_app.models import ApiSighting
from backups_app.sentences import say
from backups_app.systems.api_container import Api, ApiContainer

# For each answer; with all of them a look takes less than the time for which a sighting counts.
PATIENCE_SECONDS = 5.0
# A little less than the pause between a worker's signs of life: of all workers one looks within it.
ENOUGH_FOR = timedelta(seconds=9)

log = logging.getLogger(__name__)


def look_now_and_then() -> None:
    """What each worker does beside its sign of life, unless somebody has looked just now."""
    api = config.api()
    just_now = ApiSighting.objects.of_late(settings.API_CONTAINER, timezone.now(), within=ENOUGH_FOR)
    if api.is_managed and not just_now.exists():
        look(api)


def look(api: Api) -> None:
    """Write down how the API's container is now, or why that is not known. Never fails."""
    if not api.is_managed:
        return
    began = timezone.now()
    seen = _seen(api)
    try:
        ApiSighting.objects.record(settings.API_CONTAINER, began, **seen)
    except RecordsError:
        log.warning("How the API's container is could not be written down", exc_info=True)


def insist_on_no_trouble(api: Api) -> None:
    """ContainerProblem when somebody has just seen that the engine or the container is not there.

    Where nobody has looked of late nothing is refused: the operation itself asks before it touches anything.
    """
    if not api.is_managed:
        return
    seen = ApiSighting.objects.of_late(settings.API_CONTAINER, timezone.now()).first()
    if seen is not None and seen.problem:
        raise ContainerProblem(seen.problem)
    if seen is not None and not seen.is_there:
        raise missing(seen.container)


def missing(container: str) -> ContainerProblem:
    """The error for a container that is not there."""
    return ContainerProblem(
        say("There is no container {container}: check API_CONTAINER.", container=container)
    )


def _seen(api: Api) -> dict[str, Any]:
    if isinstance(api, ApiContainer):
        api = replace(api, engine_timeout_seconds=min(PATIENCE_SECONDS, api.engine_timeout_seconds))
    try:
        state = api.state()
    except QradminError as error:
        return {"problem": error.message}
    return {"is_there": state.exists, "is_running": state.running, "health": state.health or ""}
