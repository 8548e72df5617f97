"""Who holds up a running operation in the managed database, and ending exactly these sessions."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext

from backups_app import config
from backups_app.errors import MissingPrivilege, Refused
from backups_app.models import Operation
from backups_app.operations.journal import Journal
from backups_app.sentences import say
from backups_app.systems.postgres import activity
from backups_app.systems.postgres.activity import Session

PREPARED = 0  # what pg_blocking_pids says for a prepared transaction, which has no session
GONE_SECONDS = 5.0


@dataclass(frozen=True)
class Blocker:
    """A session that an operation waits for; one with ``is_root`` waits for nobody itself."""

    session: Session
    is_root: bool

    @property
    def is_endable(self) -> bool:
        return self.session.pid != PREPARED

    def describe(self) -> str:
        """Who, since when, and doing what, for a sentence or a line of the trail."""
        session = self.session
        if not self.is_endable:
            return "a prepared transaction: see pg_prepared_xacts, and commit it or roll it back"
        who = session.user or "an unknown role"
        where = ", ".join(filter(None, [session.application, session.address, f"process {session.pid}"]))
        since = f" since {session.since:%Y-%m-%d %H:%M:%S %Z}" if session.since else ""
        what = f": {' '.join(session.query.split())[:200]}" if session.query else ""
        return f"{who} ({where}){since}, {session.state or 'state not known'}{what}"


def blockers_of(operation: Operation) -> list[Blocker]:
    """The sessions that the operation's sessions wait for, directly or behind each other, oldest first.

    Empty when nothing holds it up. Raises EnvironmentProblem when the server cannot be asked.
    """
    server = config.managed_database()
    found = {session.pid: session for session in activity.sessions(server, server.database)}
    ours = {pid for pid, session in found.items() if session.application == operation.application_name}
    blocking: set[int] = set()
    waiting = list(ours)
    while waiting:
        session = found.get(waiting.pop())
        new = set(session.blocked_by if session else ()) - blocking - ours
        blocking |= new
        waiting += new
    found[PREPARED] = _prepared()
    return [Blocker(found[pid], not found[pid].blocked_by) for pid in found if pid in blocking]


def end_blocking_sessions(journal: Journal) -> None:
    """The operation: end the sessions that were chosen, as far as they still block the other operation."""
    parameters = journal.operation.parameters
    blocked = Operation.objects.filter(pk=parameters.get("operation")).first()
    if blocked is None:
        raise Refused(say("The operation that was held up is not known."))
    chosen = {int(pid) for pid in parameters.get("pids", [])}
    with journal.stage(say("Look who blocks")):
        blockers = [one for one in blockers_of(blocked) if one.session.pid in chosen and one.is_endable]
    for blocker in blockers:
        journal.note(
            say("Blocks {blocked}: {session}", blocked=blocked, session=blocker.describe()),
            pid=blocker.session.pid,
        )
    spared = sorted(chosen - {one.session.pid for one in blockers})
    if spared:
        journal.warn(
            say(
                "Left alone, because they do not block {blocked} any more: {names}.",
                blocked=blocked,
                names=_named(spared),
            )
        )
    told = _end(journal, blockers) if blockers else {}
    ended = sorted(pid for pid, is_told in told.items() if is_told)
    journal.result |= {"ended": ended, "left": spared, "not_allowed": sorted(set(told) - set(ended))}
    if ended:
        blocked.note(
            say(
                "{who} ended what blocked: {names}.",
                who=journal.operation.requested_by_name or "Somebody",
                names=_named(ended),
            )
        )
    if len(ended) < len(told):
        raise MissingPrivilege(
            say(
                "This role may not end {names}: GRANT pg_signal_backend TO {user};",
                names=_named(sorted(set(told) - set(ended))),
                user=config.managed_database().user,
            )
        )


def request_parameters(operation: Operation, pids: Iterable[int]) -> dict[str, Any]:
    """What a request to end sessions stores; Refused when there is nothing to end."""
    chosen = sorted({int(pid) for pid in pids} - {PREPARED})
    if not chosen:
        raise Refused(gettext("Choose at least one session to end."))
    if operation.state != Operation.State.RUNNING:
        raise Refused(gettext("%(operation)s is not running: nothing blocks it.") % {"operation": operation})
    return {"operation": operation.pk, "pids": chosen}


def _end(journal: Journal, blockers: list[Blocker]) -> dict[int, bool]:
    server = config.managed_database()
    pids = [one.session.pid for one in blockers]
    with journal.stage(say("End the sessions")):
        told = activity.end_these(server, pids)
        journal.consequence = say("These sessions were told to end: {names}.", names=_named(pids))
        deadline = time.monotonic() + GONE_SECONDS
        while time.monotonic() < deadline:
            present = {session.pid for session in activity.sessions(server, server.database)}
            if not present & {pid for pid, is_told in told.items() if is_told}:
                break
            time.sleep(0.1)
    return told


def _named(pids: Iterable[int]) -> str:
    return ", ".join(f"process {pid}" for pid in pids)


def _prepared() -> Session:
    return Session(PREPARED, "", "a prepared transaction", "", "", None, None, "", ())
