"""Start-up checks of the surroundings: every variable that is set to something unusable, and this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004

from backups_app import config
from backups_app.errors import QradminError

QUEUES = {"redis", "rediss", "unix"}
ENGINES = {"unix", "tcp", "http", "https", "npipe", "ssh"}


@register
def check_environment(app_configs: Any, **_options: Any) -> Sequence[CheckMessage]:  # noqa: ARG001
    """What could not be read from the environment, and what reads well but cannot work."""
    noted = [
        Error(problem.message, hint=problem.hint, id=problem.id) for problem in settings.ENVIRONMENT_PROBLEMS
    ]
    return [*noted, *_addresses(), *_keys(), *_site_file(), *_client_folders(), *_upload_path()]


@register(deploy=True)
def check_machine(app_configs: Any, **_options: Any) -> Sequence[CheckMessage]:  # noqa: ARG001
    """What only the machine can tell: asked by ``check --deploy``, as the container does when it starts."""
    return [*_writable_folders(), *_upload_folder(), *_static_files()]


def _addresses() -> Iterator[CheckMessage]:
    url = settings.API_HEALTH_URL
    if url and not _is_web_address(url):
        yield Error(
            "API_HEALTH_URL is not a web address.",
            hint="It has to look like http://qr_generator_api:8000/health.",
            id="qradmin.E040",
        )
    if not _is_address(settings.DOCKER_HOST, ENGINES):
        yield Error(
            "DOCKER_HOST is not the address of a Docker Engine.",
            hint="It has to look like unix:///var/run/docker.sock or tcp://docker-proxy:2375.",
            id="qradmin.E041",
        )
    if not _is_address(settings.QUEUE_REDIS_URL, QUEUES):
        yield Error(
            "QUEUE_REDIS_URL is not the address of a Redis server.",
            hint="It has to look like redis://:password@redis:6379/0.",
            id="qradmin.E047",
        )


def _is_address(url: str, schemes: set[str]) -> bool:
    """Whether it is unset, or has one of the schemes and something behind it."""
    scheme, _separator, rest = url.partition("://")
    return not url or (scheme in schemes and bool(rest))


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _keys() -> Iterator[CheckMessage]:
    if bool(settings.S3_ACCESS_KEY) != bool(settings.S3_SECRET_KEY):
        yield Error(
            "Only one of S3_ACCESS_KEY and S3_SECRET_KEY is set.",
            hint="Set both, or neither where the machine itself has access.",
            id="qradmin.E042",
        )


def _site_file() -> Iterator[CheckMessage]:
    """SQLite makes its file, but not the folder for it."""
    site = settings.DATABASES["default"]
    name = str(site["NAME"])
    if not site["ENGINE"].endswith("sqlite3") or name.startswith(":memory:") or "mode=memory" in name:
        return
    folder = Path(name).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        missing = "cannot be written" if folder.is_dir() else "does not exist"
        yield Error(
            f"The folder {folder} of the site's SQLite database {missing}.",
            hint="Make it, owned by the user of this service, or correct DATABASE_URL.",
            id="qradmin.E043",
        )


def _client_folders() -> Iterator[CheckMessage]:
    for folder in config.client_folders():
        if not folder.is_dir():
            yield Warning(
                f"POSTGRES_CLIENT_FOLDERS names {folder}, which does not exist.",
                hint="Name folders that hold pg_dump and pg_restore, such as /usr/lib/postgresql/15/bin.",
                id="qradmin.W044",
            )


def _writable_folders() -> Iterator[CheckMessage]:
    try:
        locations = config.locations()
    except QradminError:
        return  # check_settings says it
    for location in locations:
        if not location.is_local:
            continue
        try:
            location.check()
        except QradminError as error:
            yield Error(
                f"BACKUP_LOCATIONS, {location.alias}: {error.message}",
                hint="The folder or volume has to belong to the user of this service.",
                id="qradmin.E045",
            )


def _upload_path() -> Iterator[CheckMessage]:
    if settings.UPLOAD_FOLDER and not Path(settings.UPLOAD_FOLDER).is_absolute():
        yield Error(
            "UPLOAD_FOLDER is not a whole path.",
            hint="It has to look like /var/lib/qradmin/uploads: the web process and the worker both use it.",
            id="qradmin.E048",
        )


def _upload_folder() -> Iterator[CheckMessage]:
    folder = settings.UPLOAD_FOLDER
    if folder and not (Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        yield Error(
            f"UPLOAD_FOLDER, {folder}, is not a folder that this user may write to.",
            hint="The folder or volume has to belong to the user of this service.",
            id="qradmin.E049",
        )


def _static_files() -> Iterator[CheckMessage]:
    if "Manifest" not in settings.STORAGES["staticfiles"]["BACKEND"]:
        return
    if not (Path(settings.STATIC_ROOT) / "staticfiles.json").is_file():
        yield Error(
            f"The static files are not in {settings.STATIC_ROOT}: no page could be shown.",
            hint="Run manage.py collectstatic, or correct STATIC_ROOT.",
            id="qradmin.E046",
        )
