"""Which backups are no longer needed, each with its reason, and their removal from every location."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from backups_app import config
from backups_app.config import Retention
from backups_app.errors import EnvironmentProblem, QradminError
from backups_app.models import Backup, BackupCopy, Operation, RestoreEvent
from backups_app.operations import stages
from backups_app.operations.journal import Journal
from backups_app.operations.places import Sight, look_around
from backups_app.sentences import say

Kind, State = Operation.Kind, Operation.State
TAKING = (Kind.BACKUP, Kind.RESTORE, Kind.UNDO_RESTORE)  # a backup of the live database
CLOCKS_DIFFER = timedelta(minutes=10)
# What a backup that is not damaged by its record may still be brought back from.
DOUBTED = (BackupCopy.State.UNREADABLE, BackupCopy.State.CORRUPT)


@dataclass(frozen=True)
class Candidate:
    """What the choice depends on. ``created_at`` is aware; ``in_use`` says by what, or is empty;
    ``is_out_of_sight``: a copy that may be intact lies where nobody can look, or cannot be read now;
    ``was_proven``: that it was once proven is all that speaks for it, for it has been found damaged since."""

    name: str
    created_at: datetime
    is_safety: bool = False
    is_validated: bool = True
    is_proven: bool = False
    is_pinned: bool = False
    in_use: str = ""
    imported_at: datetime | None = None
    has_intact_copy: bool = True
    is_out_of_sight: bool = False
    was_proven: bool = False

    @property
    def counts(self) -> bool:
        """Whether data could be brought back from it: only these are counted as kept."""
        return self.is_validated and self.has_intact_copy


@dataclass(frozen=True)
class Decision:
    """What becomes of one backup, and why, in one sentence."""

    name: str
    goes: bool
    reason: str


@dataclass(frozen=True)
class Plan:
    """Every decision, the newest backup first; ``frozen`` says why nothing is removed now, or is empty;
    ``unseen`` are the locations that did not answer, in sentences."""

    decisions: Sequence[Decision]
    frozen: str = ""
    unseen: Sequence[str] = ()

    @property
    def expired(self) -> list[Decision]:
        """What goes now: nothing while it is frozen."""
        return [] if self.frozen else [decision for decision in self.decisions if decision.goes]


def choose_expired(candidates: Iterable[Candidate], policy: Retention, now: datetime) -> list[Decision]:
    """Decide about each backup; the order is the newest first. Pure: asks nobody, changes nothing.

    Days, weeks and months are those of ``now``'s time zone.
    """
    newest_first = sorted(candidates, key=lambda one: (one.created_at, one.name), reverse=True)
    present = [one for one in newest_first if one.created_at <= now + CLOCKS_DIFFER]
    kept = _kept_for_proof(present)
    for one in newest_first:
        _keep(kept, one, _kept_by_itself(one, policy, now))
    ordinary = [one for one in present if one.counts and not one.is_safety]
    for number, one in enumerate(ordinary[: policy.keep], start=1):
        _keep(
            kept,
            one,
            say("Number {number} of the {keep} newest.", number=number, keep=policy.keep),
        )
    for count, period, reason in _periods(policy):
        for one in _newest_of_each(ordinary, count, period, now.tzinfo):
            _keep(kept, one, reason)
    full = len(ordinary) >= policy.keep
    oldest_needed = ordinary[policy.keep - 1] if full else None
    return [
        Decision(one.name, goes=False, reason=kept[one.name])
        if one.name in kept
        else _of_the_rest(one, policy, oldest_needed)
        for one in newest_first
    ]


def plan(sight: Sight | None = None) -> Plan:
    """What a clean-up would do now. NotConfigured when the settings say nothing sensible.

    Without ``sight`` each location is asked for a few seconds at most.
    """
    policy = config.retention()
    sight = sight or look_around()
    decisions = choose_expired(_candidates(sight), policy, timezone.localtime())
    return Plan(decisions, _why_frozen(), sight.troubles)


def prune(journal: Journal) -> None:
    """Remove what the plan lets go, one backup after the other.

    A backup is first marked as removed, so that nobody restores it, then its files go, location by
    location. One that cannot be reached keeps its file for the next clean-up and does not stop the others.
    """
    chosen = plan(look_around(journal.watch))
    for reason in filter(None, (*chosen.unseen, chosen.frozen)):
        journal.warn(reason)
    removed: list[str] = []
    with journal.stage(stages.CLEAN_UP):
        for decision in chosen.expired:
            journal.watch()
            if _mark_removed(decision):
                removed.append(decision.name)
                journal.note(say("Removed {name}: {reason}", name=decision.name, reason=decision.reason))
                journal.consequence = say("Removed: {names}.", names=", ".join(removed))
        waiting = _remove_files(journal)
    journal.result |= {"removed": removed, "frozen": chosen.frozen, "waiting": waiting}
    if not removed and not chosen.frozen:
        journal.note(_("Nothing to remove."))


def prune_after_backup(journal: Journal) -> None:
    """The same as the last step of a backup, which is done: trouble here is a warning."""
    consequence = journal.consequence
    try:
        prune(journal)
    except QradminError as error:
        journal.consequence = consequence
        warning = say("The clean-up was not done: {problem}", problem=error.message)
        journal.warn(warning)
        journal.keep_warnings(warning)


# --- the choice -------------------------------------------------------------------------------------------


def _kept_for_proof(newest_first: Sequence[Candidate]) -> dict[str, str]:
    """The last line: whatever the settings say, these stay."""
    kept: dict[str, str] = {}
    for is_enough in (_is_perhaps_there, _is_there):
        good = [one for one in newest_first if is_enough(one)]
        for one in [one for one in good if one.is_proven][:1]:
            _keep(kept, one, _("The newest that is proven restorable."))
        for one in good[:1]:
            _keep(kept, one, _("The newest that is validated."))
    if not any(one.is_proven and one.counts for one in newest_first):
        for one in [one for one in newest_first if one.was_proven][:1]:
            _keep(kept, one, _("Damaged, but no other one is proven: it may still be the last resort."))
    return kept


def _is_there(one: Candidate) -> bool:
    return one.counts


def _is_perhaps_there(one: Candidate) -> bool:
    """While a location is down, or a copy cannot be read, what lies there alone is not given up."""
    return one.counts or (one.is_validated and one.is_out_of_sight)


def _kept_by_itself(one: Candidate, policy: Retention, now: datetime) -> str:
    if one.is_pinned:
        return _("Pinned.")
    if one.in_use:
        return one.in_use
    if one.created_at > now + CLOCKS_DIFFER:
        return _("Its date lies ahead: the clock was set back since then.")
    if one.is_safety and now - one.created_at < policy.safety_for:
        days = policy.safety_for.days
        return say("A safety backup, kept for {days} days.", days=days)
    if one.imported_at is not None and now - one.imported_at < policy.safety_for:
        days = policy.safety_for.days
        return say("Imported of late, kept for {days} days.", days=days)
    return ""


def _keep(kept: dict[str, str], one: Candidate, reason: str) -> None:
    if reason:
        kept.setdefault(one.name, reason)


def _periods(policy: Retention) -> list[tuple[int, Callable[[datetime], object], str]]:
    return [
        (policy.daily, lambda at: at.date(), _("The newest of its day.")),
        (policy.weekly, lambda at: at.isocalendar()[:2], _("The newest of its week.")),
        (policy.monthly, lambda at: (at.year, at.month), _("The newest of its month.")),
    ]


def _newest_of_each(
    newest_first: Sequence[Candidate], count: int, period: Callable[[datetime], object], zone: tzinfo | None
) -> list[Candidate]:
    """The newest backup of each of the ``count`` latest periods that have one."""
    chosen: dict[object, Candidate] = {}
    for one in newest_first:
        if len(chosen) == count:
            break
        chosen.setdefault(period(one.created_at.astimezone(zone)), one)
    return list(chosen.values())


def _of_the_rest(one: Candidate, policy: Retention, oldest_needed: Candidate | None) -> Decision:
    """Neither protected nor among the newest: it goes when enough good backups are newer."""
    if one.is_safety:
        days = policy.safety_for.days
        reason = say("A safety backup, older than {days} days.", days=days)
        return Decision(one.name, goes=True, reason=reason)
    if oldest_needed is None or one.created_at >= oldest_needed.created_at:
        return Decision(
            one.name,
            goes=False,
            reason=say("Fewer than {keep} newer ones are intact.", keep=policy.keep),
        )
    reason = say("Older than the {keep} newest intact ones.", keep=policy.keep)
    return Decision(one.name, goes=True, reason=reason)


# --- what there is ----------------------------------------------------------------------------------------


def _candidates(sight: Sight) -> list[Candidate]:
    in_use = _in_use()
    intact, out_of_sight = _with_intact_copies(sight)
    validated, proven = (
        set(found.order_by().values_list("pk", flat=True))
        for found in (Backup.objects.validated(), Backup.objects.proven())
    )
    damaged = Backup.objects.present().exclude(damage="")
    once = damaged.filter(Q(proven_at__isnull=False) | ~Q(proof={}))
    lost_proof = set(once.order_by().values_list("pk", flat=True))
    # Values, not rows: a trail may have thousands, and the page waits for them.
    present = Backup.objects.present().values_list(
        "pk", "name", "created_at", "origin", "is_pinned", "imported_at"
    )
    return [
        Candidate(
            name=name,
            created_at=created_at,
            is_safety=origin == Backup.Origin.SAFETY,
            is_validated=pk in validated,
            is_proven=pk in proven,
            is_pinned=is_pinned,
            in_use=in_use.get(pk, ""),
            imported_at=imported_at,
            has_intact_copy=pk in intact,
            is_out_of_sight=pk in out_of_sight,
            was_proven=pk in lost_proof,
        )
        for pk, name, created_at, origin, is_pinned, imported_at in present
    ]


def _with_intact_copies(sight: Sight) -> tuple[set[int], set[int]]:
    """Backups with a copy that by its record is intact and that, seen now, lies there in its full size;
    and those with a copy that may be so, for all that is known: in a location that does not answer or is no
    longer configured, or in its full size where it could not be read, or was read wrong, when last checked.

    What cannot be seen or read does not count: older backups then stay.
    """
    sizes = {(alias, file.name): file.size for alias, files in sight.files.items() for file in files}
    perhaps = (*DOUBTED, BackupCopy.State.STORED)
    copies = BackupCopy.objects.filter(backup__removed_at=None, state__in=perhaps)
    intact: set[int] = set()
    out_of_sight: set[int] = set()
    for backup, alias, state, name, size in copies.values_list(
        "backup", "location", "state", "backup__name", "backup__size"
    ):
        if alias in sight.files and sizes.get((alias, name)) != size:
            continue
        is_certain = alias in sight.files and state not in DOUBTED
        (intact if is_certain else out_of_sight).add(backup)
    return intact, out_of_sight


def _in_use() -> dict[int, str]:
    """Backups that open operations work with, or that guard a replaced database."""
    used = dict.fromkeys(
        RestoreEvent.objects.filter(replaced_dropped_at=None, safety_backup__isnull=False)
        .exclude(replaced_database="")
        .exclude(outcome__in=[RestoreEvent.Outcome.UNDONE, *RestoreEvent.NOT_SWAPPED])
        .values_list("safety_backup", flat=True),
        _("The safety backup of a restore that can still be undone."),
    )
    active = Operation.objects.active().filter(backup__isnull=False).values_list("backup", flat=True)
    used |= dict.fromkeys(active, _("In use by an operation."))
    return {pk: reason for pk, reason in used.items() if pk is not None}


def _why_frozen() -> str:
    """Old backups are worth more while new ones fail, until one has been taken again."""
    ended = Operation.objects.filter(kind=Kind.BACKUP).exclude(state__in=[*Operation.ACTIVE, State.CANCELLED])
    last = ended.order_by("-created_at", "-pk").first()
    if last is not None and last.state != State.SUCCEEDED:
        taken_since = Backup.objects.validated().filter(operation__gt=last.pk, operation__kind__in=TAKING)
        if not taken_since.exists():
            return say(
                "Nothing is removed while the last backup has failed (operation {number}).", number=last.pk
            )
    newest = Backup.objects.present().taken_by(timezone.now()).order_by("-created_at", "-pk").first()
    if newest is not None and newest.state not in {"validated", "proven"}:
        return say("Nothing is removed while the newest backup, {name}, is not validated.", name=newest.name)
    return ""


# --- the removal ------------------------------------------------------------------------------------------


def _mark_removed(decision: Decision) -> bool:
    """Unless somebody has pinned it, asked for it or removed it since the choice."""
    with transaction.atomic():
        backup = Backup.objects.select_for_update().get(name=decision.name)
        if not backup.is_present or backup.is_pinned or backup.pk in _in_use():
            return False
        backup.mark_removed(decision.reason)
    return True


def _remove_files(journal: Journal) -> list[str]:
    """The files of removed backups, those that an earlier clean-up could not reach too; what still waits."""
    waiting: list[str] = []
    problems: dict[str, str] = {}
    for copy in BackupCopy.objects.to_be_removed():
        journal.watch()
        problem = _remove_copy(copy)
        if problem:
            waiting.append(str(copy))
            problems.setdefault(copy.location, problem)
    for alias, problem in problems.items():
        journal.warn(
            say(
                "What is to go is still in {location} and goes with a later clean-up: {problem}",
                location=alias,
                problem=problem,
            )
        )
    return waiting


def _remove_copy(copy: BackupCopy) -> str:
    """Why the file could not be removed, or nothing. A file that is not there is as good as removed.

    It is written down before: an import brings back no backup whose file is just going, and a removal that
    was killed is done again.
    """
    if copy.state == BackupCopy.State.PENDING:  # none arrived: a file of that name is another's
        _write_down_removal(copy, done_at=timezone.now())
        return ""
    location = config.location(copy.location)
    if location is None:
        return say("{location} is no longer in BACKUP_LOCATIONS.", location=copy.location)
    if not _write_down_removal(copy):
        return ""
    try:
        location.remove(copy.backup.name)
    except EnvironmentProblem as problem:
        copy.save(update_fields=["state", "checked_at"])  # as it was
        return problem.message
    copy.found(BackupCopy.State.REMOVED)
    return ""


def _write_down_removal(copy: BackupCopy, done_at: datetime | None = None) -> bool:
    """False when its backup has been brought back since: an import waits for the same lock."""
    with transaction.atomic():
        Backup.objects.select_for_update().get(pk=copy.backup_id)
        wanted = BackupCopy.objects.to_be_removed().filter(pk=copy.pk)
        return bool(wanted.update(state=BackupCopy.State.REMOVED, checked_at=done_at))
