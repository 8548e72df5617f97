"""Storage locations as an operator writes them: ``alias=URL-or-path``, separated by commas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from backups_app.errors import NotConfigured
from backups_app.sentences import say
from backups_app.systems.vault import bounded
from backups_app.systems.vault.local import LocalLocation
from backups_app.systems.vault.location import ConnectionBroken, Credentials, Location
from backups_app.systems.vault.names import MANAGED_NAMES, Naming
from backups_app.systems.web_addresses import is_web_address

_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_BUCKET_OPTIONS = {"endpoint_url", "region", "addressing_style"}
_SECRET_WORDS = re.compile(r"key|secret|token|password", re.IGNORECASE)
LOOK_SECONDS = 3.0  # whether two folders are one is asked wherever the locations are
_EXAMPLE = "local=/var/backups/qradmin or offsite=s3://bucket/prefix?region=eu-central-1"


@dataclass(frozen=True)
class LocationSpec:
    """One configured location; ``url`` is without its options, ``folder`` is None for a bucket."""

    alias: str
    url: str
    options: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def is_local(self) -> bool:
        return self.folder is not None


def parse_locations(text: str) -> tuple[LocationSpec, ...]:
    """The locations of a setting, in order; NotConfigured with the sentence that names what is wrong."""
    entries = [entry.strip() for entry in text.split(",")]
    if not any(entries):
        raise NotConfigured(
            say(
                "No storage location is set: BACKUP_LOCATIONS needs at least one, as {example}.",
                example=_EXAMPLE,
            )
        )
    specs = tuple(_spec(entry) for entry in entries if entry)
    _refuse_twins(specs)
    return specs


def open_location(
    spec: LocationSpec, credentials: Credentials | None = None, naming: Naming = MANAGED_NAMES
) -> Location:
    """The location of a spec for one family of files; nothing is touched before its first use."""
    if spec.folder is not None:
        return LocalLocation(alias=spec.alias, folder=spec.folder, naming=naming)
    from backups_app.systems.vault.objects import ObjectLocation

    bucket, _, prefix = spec.url.removeprefix("s3://").partition("/")
    return ObjectLocation(
        alias=spec.alias,
        bucket=bucket,
        prefix=prefix,
        endpoint_url=spec.options.get("endpoint_url"),
        region=spec.options.get("region"),
        addressing_style=spec.options.get("addressing_style"),
        credentials=credentials,
        naming=naming,
    )


def _spec(entry: str) -> LocationSpec:
    alias, equals, place = entry.partition("=")
    alias, place = alias.strip(), place.strip()
    if not equals or not _ALIAS.fullmatch(alias):
        raise NotConfigured(
            say(
                "BACKUP_LOCATIONS: {entry} has no proper alias: write {example} (letters, digits, "
                "- and _, at most 40).",
                entry=_masked(entry),
                example=_EXAMPLE,
            )
        )
    if place.startswith("/") and not place.startswith("//"):
        return _folder_spec(alias, place)
    try:
        url = urlsplit(place)
    except ValueError as error:
        raise NotConfigured(
            say("BACKUP_LOCATIONS: the place of {alias} is not a valid URL.", alias=alias)
        ) from error
    if url.scheme == "file":
        return _file_url_spec(alias, url)
    if url.scheme == "s3":
        return _bucket_spec(alias, url)
    if url.scheme and "://" in place:
        raise NotConfigured(
            say(
                "BACKUP_LOCATIONS: {alias} uses the unknown scheme {scheme}: use a path, file:// or s3://.",
                alias=alias,
                scheme=ascii(url.scheme),
            )
        )
    raise NotConfigured(
        say(
            "BACKUP_LOCATIONS: {alias} needs an absolute path or a URL, as {example}.",
            alias=alias,
            example=_EXAMPLE,
        )
    )


def _folder_spec(alias: str, place: str) -> LocationSpec:
    if "\0" in place:
        raise NotConfigured(say("BACKUP_LOCATIONS: the path of {alias} holds a NUL character.", alias=alias))
    folder = Path(place)
    if ".." in folder.parts:
        raise NotConfigured(
            say("BACKUP_LOCATIONS: the path of {alias} holds '..': write it out.", alias=alias)
        )
    if folder == Path("/"):
        raise NotConfigured(
            say("BACKUP_LOCATIONS: {alias} is the root folder: name a folder of its own.", alias=alias)
        )
    return LocationSpec(alias=alias, url=folder.as_uri(), folder=folder)


def _file_url_spec(alias: str, url: SplitResult) -> LocationSpec:
    if url.netloc not in {"", "localhost"} or url.query or not url.path.startswith("/"):
        raise NotConfigured(
            say("BACKUP_LOCATIONS: {alias} has to look like file:///absolute/path.", alias=alias)
        )
    return _folder_spec(alias, unquote(url.path))


def _bucket_spec(alias: str, url: SplitResult) -> LocationSpec:
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    if "@" in url.netloc + options.get("endpoint_url", "") or any(
        _SECRET_WORDS.search(name) for name in options
    ):
        raise NotConfigured(
            say(
                "BACKUP_LOCATIONS: the URL of {alias} holds credentials: set them in their own variables.",
                alias=alias,
            )
        )
    if not _BUCKET.fullmatch(url.netloc):
        raise NotConfigured(
            say("BACKUP_LOCATIONS: {alias} has to look like s3://bucket/prefix.", alias=alias)
        )
    unknown = sorted(set(options) - _BUCKET_OPTIONS)
    if unknown:
        raise NotConfigured(
            say(
                "BACKUP_LOCATIONS: {alias} has the unknown option {option}: known are {names}.",
                alias=alias,
                option=ascii(unknown[0]),
                names=", ".join(sorted(_BUCKET_OPTIONS)),
            )
        )
    for name, value in options.items():
        if not value:
            raise NotConfigured(
                say(
                    "BACKUP_LOCATIONS: the {name} of {alias} is empty: set it or leave it out.",
                    name=name,
                    alias=alias,
                )
            )
    if not is_web_address(options.get("endpoint_url", "https://of.the.region")):
        raise NotConfigured(
            say(
                "BACKUP_LOCATIONS: the endpoint_url of {alias} has to look like https://store.example.org:9000.",
                alias=alias,
            )
        )
    if not _REGION.fullmatch(options.get("region", "none")):
        raise NotConfigured(
            say("BACKUP_LOCATIONS: the region of {alias} has to look like eu-central-1.", alias=alias)
        )
    if options.get("addressing_style", "auto") not in {"auto", "path", "virtual"}:
        raise NotConfigured(
            say("BACKUP_LOCATIONS: the addressing_style of {alias} is auto, path or virtual.", alias=alias)
        )
    prefix = unquote(url.path).strip("/")
    if "\0" in prefix or ".." in prefix.split("/"):
        raise NotConfigured(say("BACKUP_LOCATIONS: the prefix of {alias} is not a plain path.", alias=alias))
    address = f"s3://{url.netloc}/{prefix}".rstrip("/")
    return LocationSpec(alias=alias, url=address, options=options)


def _refuse_twins(specs: tuple[LocationSpec, ...]) -> None:
    aliases: set[str] = set()
    places: dict[str, str] = {}
    for spec in specs:
        if spec.alias.lower() in aliases:
            raise NotConfigured(say("BACKUP_LOCATIONS: the alias {alias} is used twice.", alias=spec.alias))
        aliases.add(spec.alias.lower())
        other = places.setdefault(_identity(spec), spec.alias)
        if other != spec.alias:
            raise NotConfigured(
                say(
                    "BACKUP_LOCATIONS: {other} and {alias} are the same place: two copies there would be "
                    "one.",
                    other=other,
                    alias=spec.alias,
                )
            )


def _identity(spec: LocationSpec) -> str:
    """Of a folder that answers the file system's own, which sees through links and mounts of one folder."""
    if spec.folder is None:
        return f"{_endpoint(spec)} {spec.url}"
    try:
        return bounded.in_time(str(spec.folder), partial(_identity_of_folder, spec.folder), LOOK_SECONDS)
    except ConnectionBroken:
        return str(spec.folder)


def _identity_of_folder(folder: Path) -> str:
    try:
        found = folder.stat()
    except OSError:
        return str(folder.resolve())
    return f"{found.st_dev} {found.st_ino}"


def _endpoint(spec: LocationSpec) -> str:
    """As it is asked: host names know no upper case, and a scheme has its own port."""
    url = urlsplit(spec.options.get("endpoint_url", ""))
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return f"{url.scheme} {url.hostname} {port} {url.path.rstrip('/')}"


def _masked(entry: str) -> str:
    """The beginning of an entry, before anything that might be a secret."""
    return repr(re.split(r"[@?]|://", entry, maxsplit=1)[0][:60])
