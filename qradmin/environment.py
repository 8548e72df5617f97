"""Environment variables as typed values: a wrong one is noted for the start-up checks instead of raised."""

from __future__ import annotations

import io
import re
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote

from environ import FileAwareEnv

from backups_app.errors import NotConfigured
from backups_app.systems.postgres import addresses

YES = frozenset({"1", "true", "yes", "on", "y", "t"})
STORE_KEY_NAMES = ("S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_SESSION_TOKEN")
NO = frozenset({"0", "false", "no", "off", "n", "f"})
# What stands in for a database URL that cannot be understood: the checks refuse to start with it.
NO_DATABASE = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
ASSIGNMENT = re.compile(r"(?:export )?[A-Za-z_0-9]+=")
# No number is larger, if nothing else is said.
MOST = 1_000_000_000
# The class below has methods of these names.
Text: TypeAlias = str
Switch: TypeAlias = bool
Whole: TypeAlias = int
Number: TypeAlias = float
Words: TypeAlias = list[str]
DATABASES_EXAMPLE = "postgresql://user:password@host:5432/name or sqlite:////absolute/path"
URL_HINT = "In a password @ : / ? # % are written %40 %3A %2F %3F %23 %25; no quotes stand around the URL."
# What may stand behind the question mark of the site's own database.
DATABASE_OPTIONS = {**addresses.OPTIONS, "connect_timeout": "[1-9][0-9]{0,2}"}


@dataclass(frozen=True)
class Problem:
    """A variable that is set to something unusable; ``id`` is that of its start-up check."""

    id: str
    variable: str
    message: str
    hint: str


class Environment(FileAwareEnv):  # type: ignore[misc]
    """Reads NAME, or the file that NAME_FILE names; an empty number or switch counts as not set.

    What is wrong goes to ``problems`` and the default is used, so that the settings always load and the
    checks can say everything that is wrong at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[Problem] = []

    def read_file(self, var: Text, path: Text, *, is_named: Switch) -> None:
        """The variables of a file, beneath those of the environment; the usual one may be absent.

        What the library would say of a line that it cannot read holds the line, which may hold a secret.
        """
        try:
            lines = Path(path).read_text("utf-8-sig").splitlines()
        except FileNotFoundError as error:
            if is_named:
                self._note_file(var, f"cannot be read: {error.strerror}")
            return
        except OSError as error:
            self._note_file(var, f"cannot be read: {error.strerror}")
            return
        except UnicodeDecodeError:
            self._note_file(var, "cannot be read: it is no text in UTF-8")
            return
        wanted = {at: line for at, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")}
        wrong = [str(at) for at, line in wanted.items() if not ASSIGNMENT.match(line)]
        if wrong:
            self._note_file(var, f"has lines that are not NAME=value: lines {', '.join(wrong[:10])}")
        self.read_env(io.StringIO("\n".join(line for line in wanted.values() if ASSIGNMENT.match(line))))

    def str(self, var: Text, default: Text = "") -> Text:
        """The text as it is: a leading $ stands for itself."""
        found = self._read(var)
        return default if found is None else found

    def choice(self, var: Text, among: Sequence[Text], default: Text) -> Text:
        """One of a few words, in any case."""
        found = self._read(var)
        if not found:
            return default
        for word in among:
            if word.lower() == found.strip().lower():
                return word
        self._note("E036", var, f"{var} is {_shown(found)}.", f"It has to be one of: {', '.join(among)}.")
        return default

    def bool(self, var: Text, default: Switch = False) -> Switch:
        found = self._read(var)
        if not found:
            return default
        word = found.strip().lower()
        if word not in YES | NO:
            self._note("E032", var, f"{var} is {_shown(found)}.", "It has to be True or False.")
            return default
        return word in YES

    def int(self, var: Text, default: Whole = 0, least: Whole = 0, most: Whole = MOST) -> Whole:
        found = self._read(var)
        if not found:
            return default
        try:
            number = int(found)
        except ValueError:
            self._note("E030", var, f"{var} is {_shown(found)}.", "It has to be a whole number.")
            return default
        return number if self._is_between(var, found, number, least, most) else default

    def float(self, var: Text, default: Number = 0.0, least: Number = 0.0, most: Number = MOST) -> Number:
        found = self._read(var)
        if not found:
            return default
        try:
            number = float(found)
        except ValueError:
            self._note("E031", var, f"{var} is {_shown(found)}.", "It has to be a number.")
            return default
        return number if self._is_between(var, found, number, least, most) else default

    def list(self, var: Text, default: Sequence[Text] = ()) -> Words:
        """Words separated by commas."""
        found = self._read(var)
        if found is None:
            return list(default)
        return [word.strip() for word in found.split(",") if word.strip()]

    def time_zone(self, var: Text, default: Text = "UTC") -> Text:
        found = self._read(var)
        if not found:
            return default
        try:
            zoneinfo.ZoneInfo(found)
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
            hint = "It has to be a name such as Europe/Berlin; the package tzdata has to be installed."
            self._note("E037", var, f"{var} is {_shown(found)}, which is not known here.", hint)
            return default
        return found

    def db_url(self, var: Text, default: Text = "") -> dict[Text, Any]:
        """The site's own database, PostgreSQL or SQLite; its URL is never shown, as it holds a password."""
        found = self._read(var)
        url = (default if found is None else found).strip()
        try:
            return _sqlite(var, url) if url.startswith("sqlite:") else _postgresql(var, url)
        except NotConfigured as error:
            self._note("E034", var, error.message, URL_HINT)
            return dict(NO_DATABASE)

    def store_keys(self, locations: Text) -> dict[Text, tuple[Text, Text, Text]]:
        """Access key, secret key and session token of each alias that has a key of its own.

        That of the location ``off-site`` is S3_ACCESS_KEY_OFF_SITE with S3_SECRET_KEY_OFF_SITE.
        """
        keys = {}
        for alias in re.findall(r"(?:^|,)\s*([\w-]+)\s*=", locations, re.ASCII):
            suffix = alias.upper().replace("-", "_")
            access, secret, token = (self._read(f"{name}_{suffix}") or "" for name in STORE_KEY_NAMES)
            if access or secret or token:
                keys[alias] = (access, secret, token)
        return keys

    def _read(self, var: Text) -> Text | None:
        """The value, or None when it is not set. A file's last line break is not part of a secret."""
        try:
            value = str(self.ENVIRON[var])
        except KeyError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            self._note(
                "E033",
                f"{var}_FILE",
                f"The file that {var}_FILE names cannot be read: {reason}.",
                "Correct the path, or let the user of this service read the file.",
            )
            return None
        if not _is_text(value):
            self._note("E052", var, f"{var} is no text in UTF-8.", "Write it in UTF-8.")
            return None
        return value.rstrip("\r\n") if self.ENVIRON.get(f"{var}_FILE") else value

    def _is_between(self, var: Text, found: Text, number: Number, least: Number, most: Number) -> Switch:
        # A comparison with "not a number" is never true.
        if least <= number <= most:
            return True
        hint = f"It has to be at least {least:g} and at most {most:.15g}."
        self._note("E035", var, f"{var} is {_shown(found)}.", hint)
        return False

    def _note_file(self, var: Text, what: Text) -> None:
        hint = "Correct the path or the file, or let the user of this service read it."
        self._note("E051", var, f"The file of {var} {what}.", hint)

    def _note(self, identity: Text, var: Text, message: Text, hint: Text) -> None:
        self.problems.append(Problem(f"qradmin.{identity}", var, message, hint))


def _is_text(value: str) -> bool:
    """Python keeps the bytes of a variable that are no UTF-8 as halves of characters."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _shown(text: str) -> str:
    """Enough of a value to recognise it."""
    return repr(text if len(text) <= 40 else text[:40] + "…")


def _postgresql(var: str, url: str) -> dict[str, Any]:
    address = addresses.parse(var, url, options=DATABASE_OPTIONS, example=DATABASES_EXAMPLE)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": address.host,
        "PORT": address.port,
        "USER": address.user,
        "PASSWORD": address.password,
        "NAME": address.database,
        "OPTIONS": dict(address.options),
    }


def _sqlite(var: str, url: str) -> dict[str, Any]:
    """A file by its whole path: web and worker start anywhere, and memory would forget the trail."""
    path = unquote(url.removeprefix("sqlite://"))
    if not path.startswith("//") or not path.strip("/") or "?" in path or "\0" in path:
        raise addresses.incomplete(var, DATABASES_EXAMPLE)
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": path[1:]}
