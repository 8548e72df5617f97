"""Environment variables as typed values: a wrong one is noted for the start-up checks instead of raised."""

from __future__ import annotations

import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from environ import FileAwareEnv

YES = frozenset({"1", "true", "yes", "on", "y", "t"})
NO = frozenset({"0", "false", "no", "off", "n", "f"})
# What stands in for a database URL that cannot be understood: the checks refuse to start with it.
NO_DATABASE = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
# The class below has methods of these names.
Text: TypeAlias = str
Switch: TypeAlias = bool
Whole: TypeAlias = int
Number: TypeAlias = float
Words: TypeAlias = list[str]
DATABASES_EXAMPLE = "postgresql://user:password@host:5432/name or sqlite:////absolute/path"


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

    def int(self, var: Text, default: Whole = 0, least: Whole = 0) -> Whole:
        found = self._read(var)
        if not found:
            return default
        try:
            number = int(found)
        except ValueError:
            self._note("E030", var, f"{var} is {_shown(found)}.", "It has to be a whole number.")
            return default
        return number if self._is_enough(var, number, least) else default

    def float(self, var: Text, default: Number = 0.0, least: Number = 0.0) -> Number:
        found = self._read(var)
        if not found:
            return default
        try:
            number = float(found)
        except ValueError:
            self._note("E031", var, f"{var} is {_shown(found)}.", "It has to be a number.")
            return default
        return number if self._is_enough(var, number, least) else default

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
        url = default if found is None else found.strip()
        try:
            config: dict[Text, Any] = dict(self.db_url_config(url)) if url else {}
        except Exception:  # noqa: BLE001 - the library raises whatever the URL led it to
            config = {}
        engine = config.get("ENGINE", "")
        is_whole = bool(config.get("NAME")) and (engine.endswith("sqlite3") or bool(config.get("HOST")))
        if engine not in {"django.db.backends.sqlite3", "django.db.backends.postgresql"} or not is_whole:
            self._note(
                "E034", var, f"{var} cannot be understood.", f"It has to look like {DATABASES_EXAMPLE}."
            )
            return dict(NO_DATABASE)
        return config

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
        return value.rstrip("\r\n") if self.ENVIRON.get(f"{var}_FILE") else value

    def _is_enough(self, var: Text, number: Number, least: Number) -> Switch:
        # A comparison with "not a number" is never true.
        if least <= number < float("inf"):
            return True
        self._note("E035", var, f"{var} is {number:g}.", f"It has to be at least {least:g}, and finite.")
        return False

    def _note(self, identity: Text, var: Text, message: Text, hint: Text) -> None:
        self.problems.append(Problem(f"qradmin.{identity}", var, message, hint))


def _shown(text: str) -> str:
    """Enough of a value to recognise it."""
    return repr(text if len(text) <= 40 else text[:40] + "…")
