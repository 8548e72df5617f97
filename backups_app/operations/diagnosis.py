"""Why work hangs or fails: who blocks whom, which program or folder is missing. Tells, never raises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from backups_app import config
from backups_app.errors import QradminError
from backups_app.operations.preview import LiveView
from backups_app.systems.postgres import activity, clients
from backups_app.systems.postgres.activity import Session


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``trouble`` is empty when it is in order."""

    what: str
    trouble: str = ""


@dataclass(frozen=True)
class Blocking:
    """The sessions that others wait for, with how many wait; or why nobody can tell."""

    sessions: tuple[tuple[Session, int], ...] = ()
    trouble: str = ""


def blocking_sessions() -> Blocking:
    """Who holds what others of the managed database wait for."""
    try:
        server = config.managed_database()
        found = activity.sessions(server, server.database)
    except QradminError as error:
        return Blocking(trouble=error.message)
    waiting: dict[int, int] = {}
    for session in found:
        for pid in session.blocked_by:
            waiting[pid] = waiting.get(pid, 0) + 1
    return Blocking(tuple((session, waiting[session.pid]) for session in found if session.pid in waiting))


def look_around(live: LiveView) -> list[Finding]:
    """Server, as ``live`` tells of it, client programs and every storage location, each by itself."""
    findings = [Finding("PostgreSQL", "" if live.facts else live.trouble)]
    if live.facts:
        major, folders = live.facts.major, config.client_folders()
        findings += [
            _tried("pg_dump", lambda: clients.for_dump(major, folders)),
            _tried("pg_restore", lambda: clients.for_restore(major, folders)),
        ]
    try:
        return [*findings, *(_tried(place.describe(), place.check) for place in config.locations())]
    except QradminError as error:
        return [*findings, Finding("BACKUP_LOCATIONS", error.message)]


def _tried(what: str, look: Callable[[], object]) -> Finding:
    try:
        look()
    except QradminError as error:
        return Finding(what, error.message)
    return Finding(what)
