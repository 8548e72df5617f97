"""The configured locations during one operation: each is asked whether it answers before it is used."""

from __future__ import annotations

from collections.abc import Iterator

from backups_app import config
from backups_app.errors import QradminError
from backups_app.operations.journal import Journal
from backups_app.systems import vault


class Places:
    """Every location; one that does not answer is a warning, stands in ``down``, and is left alone."""

    def __init__(self, journal: Journal, locations: tuple[vault.Location, ...] | None = None) -> None:
        self._journal = journal
        self._locations = {place.alias: place for place in locations or config.locations()}
        self.down: dict[str, str] = {}
        self.files: dict[str, list[vault.StoredFile]] = {}
        with journal.stage("See which locations answer"):
            for alias in self._locations:
                self.ask_again(alias)

    def __iter__(self) -> Iterator[vault.Location]:
        return iter(self._locations.values())

    @property
    def up(self) -> list[vault.Location]:
        return [place for place in self if place.alias not in self.down]

    def ask_again(self, alias: str) -> None:
        """After something went wrong there: is it the whole location?"""
        if alias in self.down:
            return
        try:
            self.files[alias] = self._locations[alias].names()
        except QradminError as error:
            self.down[alias] = error.message
            self._journal.warn(error.message, location=alias)
