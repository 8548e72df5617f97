"""Start-up checks of the surroundings: every variable that is set to something unusable, and this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004

from backups_app import config
from backups_app.errors import QradminError
from backups_app.sentences import say
from backups_app.systems.web_addresses import is_engine_address, is_web_address

# The tag of the check that the web server asks besides.
STATIC_FILES = "static_files"


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
    return [*_writable_folders(), *_upload_folder()]


@register(STATIC_FILES, deploy=True)
def check_static_files(app_configs: Any, **_options: Any) -> Sequence[CheckMessage]:  # noqa: ARG001
    """What every page needs, and no command: asked by the web server too."""
    return list(_static_files())


def _addresses() -> Iterator[CheckMessage]:
    url = settings.API_HEALTH_URL
    if url and not is_web_address(url):
        yield Error(
            "API_HEALTH_URL is not a web address.",
            hint="It has to look like http://qr_generator_api:8000/health.",
            id="qradmin.E040",
        )
    if settings.DOCKER_HOST and not is_engine_address(settings.DOCKER_HOST):
        yield Error(
            "DOCKER_HOST is not the address of a Docker Engine.",
            hint="It has to look like unix:///var/run/docker.sock or tcp://docker-proxy:2375.",
            id="qradmin.E041",
        )
    if settings.QUEUE_REDIS_URL and not _is_redis(settings.QUEUE_REDIS_URL):
        yield Error(
            "QUEUE_REDIS_URL is not the address of a Redis server.",
            hint="It has to look like redis://:password@redis:6379/0.",
            id="qradmin.E047",
        )


def _is_redis(url: str) -> bool:
    """Whether the client understands it; it is not called."""
    from redis import ConnectionPool

    try:
        pool = ConnectionPool.from_url(url)
        pool.make_connection()
    except Exception:  # noqa: BLE001 - the library raises whatever the URL led it to
        return False
    place = pool.connection_kwargs.get("path") or pool.connection_kwargs.get("host")
    return bool(place) and (url.startswith("unix:") or bool(re.fullmatch(r"/?\d{0,5}", urlsplit(url).path)))


def _keys() -> Iterator[CheckMessage]:
    common = (settings.S3_ACCESS_KEY, settings.S3_SECRET_KEY, settings.S3_SESSION_TOKEN)
    for alias, key in [("", common), *settings.S3_KEYS.items()]:
        access, secret, _token = key
        if any(key) and not (access and secret):
            of_whom = f" of the location {alias}" if alias else ""
            yield Error(
                f"S3_ACCESS_KEY and S3_SECRET_KEY{of_whom} are not both set.",
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
    hint = "Make it, owned by the user of this service, or correct DATABASE_URL."
    if not _is_folder(folder) or not _may(folder, os.W_OK | os.X_OK):
        missing = "cannot be written" if _is_folder(folder) else "does not exist"
        told = f"The folder {folder} of the site's SQLite database {missing}."
        yield Error(told, hint=hint, id="qradmin.E043")
        return
    for file in (name, f"{name}-wal", f"{name}-shm"):
        if os.path.lexists(file) and not (_is_file(file) and _may(file, os.R_OK | os.W_OK)):
            told = say(
                "{file}, of the site's SQLite database, is no file that may be read and written.", file=file
            )
            yield Error(told, hint=hint, id="qradmin.E043")


def _client_folders() -> Iterator[CheckMessage]:
    for folder in config.client_folders():
        if not _is_folder(folder):
            yield Warning(
                say(
                    "POSTGRES_CLIENT_FOLDERS names {folder}, which does not exist or is closed.",
                    folder=folder,
                ),
                hint="Name folders that hold pg_dump and pg_restore, such as /usr/lib/postgresql/15/bin.",
                id="qradmin.W044",
            )


def _writable_folders() -> Iterator[CheckMessage]:
    """Warnings: the other locations, and an API that has to be started again, still need the worker."""
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
            yield Warning(
                f"BACKUP_LOCATIONS, {location.alias}: {error.message}",
                hint="The folder or volume has to belong to the user of this service.",
                id="qradmin.W045",
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
    if folder and not (_is_folder(folder) and _may(folder, os.W_OK | os.X_OK)):
        yield Warning(
            f"UPLOAD_FOLDER, {folder}, is not a folder that this user may write to.",
            hint="The folder or volume has to belong to the user of this service.",
            id="qradmin.W049",
        )


def _static_files() -> Iterator[CheckMessage]:
    if "Manifest" not in settings.STORAGES["staticfiles"]["BACKEND"]:
        return
    if not _is_file(Path(settings.STATIC_ROOT) / "staticfiles.json"):
        yield Error(
            f"The static files are not in {settings.STATIC_ROOT}: no page could be shown.",
            hint="Run manage.py collectstatic, or correct STATIC_ROOT.",
            id="qradmin.E046",
        )


# Unlike a Path's own questions, these are no errors below a folder that may not be entered.


def _is_folder(path: str | Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112


def _is_file(path: str | Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113


def _may(path: str | Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
