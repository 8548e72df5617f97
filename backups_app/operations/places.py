"""What lies in the configured locations now, and which of them do not answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from backups_app import config
from backups_app.errors import EnvironmentProblem, QradminError, Stopped
from backups_app.models import Backup
from backups_app.operations.journal import Journal
from backups_app.sentences import say
from backups_app.systems import vault
from backups_app.systems.waiting import Watch, answer, no_watch

PAGE_SECONDS = 5.0  # a page waits for no location for longer
LONGEST_LOOK_SECONDS = 120.0


@dataclass
class Sight:
    """Alias -> the files that lie there now; ``troubles`` says which locations did not answer."""

    files: dict[str, list[vault.StoredFile]] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)


def look_around(watch: Watch | None = None, *, seconds: float | None = None) -> Sight:
    """Ask every location, each for ``seconds`` at most: by default as long as a page waits, or with
    ``watch`` for as long as it lets them.

    NotConfigured when the settings say nothing sensible.
    """
    sight = Sight()
    limit = seconds or (None if watch else PAGE_SECONDS)
    for location in config.locations():
        try:
            sight.files[location.alias] = answer(location.names, watch or no_watch, limit_seconds=limit)
        except EnvironmentProblem as problem:
            sight.troubles.append(problem.message)
        except TimeoutError:
            sight.troubles.append(silent(location))
    return sight


def silent(location: vault.Location) -> str:
    return say("The storage location {location} did not answer in time.", location=location.describe())


def holding(backup: Backup) -> Iterator[vault.Location]:
    """The locations that hold an intact copy of it, as far as known, the nearest first."""
    aliases = set(backup.copies.intact().values_list("location", flat=True))
    return (location for location in config.locations() if location.alias in aliases)


class Places:
    """Every location; one that does not answer is a warning, stands in ``down``, and is left alone."""

    def __init__(self, journal: Journal, locations: tuple[vault.Location, ...] | None = None) -> None:
        self._journal = journal
        self._locations = {place.alias: place for place in locations or config.locations()}
        self.down: dict[str, str] = {}
        self.files: dict[str, list[vault.StoredFile]] = {}
        with journal.stage(say("See which locations answer")):
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
            names = self._locations[alias].names
            self.files[alias] = answer(names, self._journal.watch, limit_seconds=LONGEST_LOOK_SECONDS)
        except Stopped:
            raise
        except QradminError as error:
            self._note_down(alias, error.message)
        except TimeoutError:
            self._note_down(alias, silent(self._locations[alias]))

    def _note_down(self, alias: str, why: str) -> None:
        self.down[alias] = why
        self._journal.warn(why, location=alias)
