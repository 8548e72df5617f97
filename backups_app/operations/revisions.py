"""How a backup's migration revision compares with the live database's, told before a restore."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backups_app import config
from backups_app.errors import QradminError
from backups_app.models import Backup
from backups_app.sentences import say
from backups_app.systems.postgres import archive, clients, recent
from backups_app.systems.waiting import Watch, no_watch, patience

READING_SECONDS = 5.0

Relation = Literal["same", "older", "newer", "unknown"]


@dataclass(frozen=True)
class Comparison:
    """``relation`` is the backup's side: ``older`` means that it has had fewer migrations than the live one.

    ``advice`` is one sentence for whoever is about to restore; empty when there is nothing to do.
    """

    relation: Relation
    backup: str
    live: str
    advice: str

    @property
    def is_warning(self) -> bool:
        return self.relation in {"newer", "unknown"}

    @property
    def offers_migrations(self) -> bool:
        return self.relation == "older"


def compare(backup: str | None, live: str | None) -> Comparison:
    """Compare two revisions by the order that KNOWN_REVISIONS gives."""
    backup, live = backup or "", live or ""
    relation = _relation(backup, live, config.known_revisions())
    return Comparison(relation, backup, live, _advice(relation, backup, live))


def compare_with(live: str, backup: Backup) -> Comparison:
    """The backup's revision, by its record or by its archive, against the live database's, within seconds."""
    return compare(revision_of(backup, watch=patience(READING_SECONDS, say("Reading the revision"))), live)


def compare_with_live(backup: Backup) -> Comparison:
    """The same, asking the live database. EnvironmentProblem when it cannot be asked."""
    return compare_with(recent.revision(config.managed_database()), backup)


def revision_of(backup: Backup, *, watch: Watch = no_watch) -> str:
    """The backup's revision by its record, else read from its archive without restoring it.

    Empty when neither says it, or no copy of the file lies in a folder of this machine.
    """
    if backup.revision or not backup.is_present:
        return backup.revision
    return _read(backup, watch)


def _relation(backup: str, live: str, known: tuple[str, ...]) -> Relation:
    if backup and backup == live:
        return "same"
    if backup not in known or live not in known:
        return "unknown"
    return "older" if known.index(backup) < known.index(live) else "newer"


def _advice(relation: Relation, backup: str, live: str) -> str:
    if relation == "same":
        return ""
    told = {"backup": backup or say("not known"), "live": live or say("not known")}
    if relation == "older":
        return say(
            "The backup is at the older migration revision {backup}, the live database at {live}:"
            " choose whether the migrations are run after the restore.",
            **told,
        )
    if relation == "newer":
        return say(
            "The backup is at the migration revision {backup}, newer than the live database's {live}:"
            " an API that does not know it may fail to start or damage the data. Update the API first.",
            **told,
        )
    return say(
        "The backup's migration revision is {backup}, the live database's {live}, and KNOWN_REVISIONS does"
        " not say which one is older: make sure that the API knows the backup's revision before you restore.",
        **told,
    )


def _read(backup: Backup, watch: Watch) -> str:
    for location in config.locations():
        try:
            file = location.local_path(backup.name)
            if file is None:
                continue
            reader = clients.newest_restore(config.client_folders())
            return archive.alembic_revision(reader, file, watch=watch) or ""
        except QradminError:
            continue
    return ""
