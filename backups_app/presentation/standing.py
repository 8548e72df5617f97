"""How things stand at one moment: each fact is one query at most, and the judgement is made elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery, Sum
from django.utils import timezone
from django_q.models import Schedule

from backups_app.models import ApiSighting, Backup, BackupCopy, Operation, RestoreEvent, WorkerBeat
from backups_app.models.backup import CLOCKS_DIFFER, BackupQuerySet
from backups_app.models.operation import OperationQuerySet
from backups_app.models.prepared import prepared, union_of
from backups_app.models.restore import RestoreEventQuerySet
from backups_app.models.worker import ALIVE_FOR
from backups_app.operations.lineage import Line, by_line, is_live, line_of
from backups_app.presentation import surroundings
from backups_app.presentation.surroundings import ApiState, Room
from backups_app.schedules import HOUSEKEEPING, JOBS

Kind = Operation.Kind
State = BackupCopy.State
FEW_BACKUPS = 3
LITTLE_ROOM = 200 * 1024 * 1024
ACTIVE_SHOWN = 6
TRIALS_SHOWN = 10
NOT_ENDED = (*Operation.ACTIVE, Operation.State.CANCELLED)
# Their last results tell how things are.
TELLING = (
    Kind.BACKUP,
    Kind.VALIDATE_DATABASE,
    Kind.PROVE_BACKUP,
    Kind.CHECK_COPIES,
    Kind.BACKUP_SITE,
    Kind.PRUNE,
)


@dataclass(frozen=True)
class Copies:
    """The copies of all backups that are not removed; ``elsewhere``: the locations of some that are no
    longer configured, whose copies nobody can mend, so that no other number has them."""

    bytes: int
    damaged: int
    unreadable: int
    waiting: int
    elsewhere: tuple[str, ...]


@dataclass(frozen=True)
class Standing:
    """All that is known at one moment.

    ``good`` is the last validated backup that the live database goes on from, or where there is none the last
    validated one; ``line`` says which, and ``swap`` is the restore that made the present live database.
    ``newest`` is the last backup that is there, validated or not. One that bears a time in the future is
    neither; ``ahead`` is the latest of those, ``newest`` it alone where there is no other.
    ``latest`` is the last ended operation of a kind (a check of the copies counts when it read them all),
    ``owing`` one that ended and still has to start the API. ``trials`` have a trial database, the newest
    first. ``restores`` are the last one, the last one
    that was not cancelled and runs no more, ``swap``, and each that nobody knows the end of; the newest
    first.
    """

    now: datetime
    good: Backup | None
    line: Line
    swap: RestoreEvent | None
    newest: Backup | None
    ahead: Backup | None
    is_good_stored: bool
    proven_at: datetime | None
    copies: Copies
    active: list[Operation]
    owing: Operation | None
    latest: dict[str, Operation]
    trials: list[Operation]
    last_beat: datetime | None
    schedules: list[Schedule]
    restores: list[RestoreEvent]
    ended_restore: RestoreEvent | None
    rooms: list[Room]
    api: ApiState

    @property
    def good_as_of(self) -> datetime | None:
        """When the live database was last as ``good`` has it: at its backup, or when it was put in place."""
        if self.line is Line.PUT_BACK and self.swap is not None:
            return self.swap.created_at
        return self.good.created_at if self.good else None

    @property
    def is_worker_alive(self) -> bool:
        return self.last_beat is not None and self.now - self.last_beat <= ALIVE_FOR

    @property
    def restore(self) -> RestoreEvent | None:
        return next(iter(self.restores), None)

    @property
    def tight(self) -> list[Room]:
        """Locations with room for fewer than three more backups, or hardly any at all."""
        needed = max(LITTLE_ROOM, FEW_BACKUPS * (self.good.size if self.good else 0))
        return [room for room in self.rooms if room.trouble or (room.free is not None and room.free < needed)]


def standing() -> Standing:
    """Look once at everything."""
    now = timezone.now()
    newest, ahead, proven_at = _newest(now)
    restores: list[Any] = list(_restores())
    operations = _operations(restores)
    swap = next((one for one in restores if one.pk == one.last_swap), None)
    is_good = newest is not None and newest is not ahead and newest.is_good and is_live(newest, swap)
    good = newest if is_good else by_line(_backups().validated().taken_by(now), swap).first()
    rooms = surroundings.space()
    last_beat, seen = _signs_of_workers(now)
    return Standing(
        now=now,
        good=good,
        line=line_of(good),
        swap=swap,
        newest=newest,
        ahead=ahead,
        is_good_stored=bool(getattr(good, "is_stored", False)),
        proven_at=proven_at,
        copies=_copies({room.alias for room in rooms}),
        active=[one for one in operations if one.is_active],
        owing=next((one for one in operations if one.api_stop_intended and not one.is_active), None),
        latest=_latest(operations),
        trials=[one for one in reversed(operations) if one.has_trial_database],
        last_beat=last_beat,
        schedules=list(_schedules()),
        restores=restores,
        ended_restore=next((one for one in restores if one.pk == one.last_ended), None),
        rooms=rooms,
        api=surroundings.api(seen, now),
    )


def _backups() -> BackupQuerySet:
    """Those that are there, each with whether a copy of it is known to be intact."""
    stored = BackupCopy.objects.intact().filter(backup=OuterRef("pk"))
    return Backup.objects.present().defer("manifest", "proof").annotate(is_stored=Exists(stored))


def _newest(now: datetime) -> tuple[Backup | None, Backup | None, datetime | None]:
    """As `Standing` says it: ``newest``, ``ahead`` and ``proven_at``."""
    found = list(_newest_and_proven())
    last = next(iter(found), None)
    proven_at = max((one.proven_at for one in found if one.is_good and one.proven_at), default=None)
    if last is None or last.created_at <= now + CLOCKS_DIFFER:
        return last, None, proven_at
    return _backups().taken_by(now).first() or last, last, proven_at


@prepared
def _newest_and_proven() -> BackupQuerySet:
    """The newest one, and the one that was proven last."""
    newest, proven = Backup.objects.present(), Backup.objects.proven().order_by("-proven_at")
    either = Q(pk=Subquery(newest.values("pk")[:1])) | Q(pk=Subquery(proven.values("pk")[:1]))
    return _backups().filter(either)


def _signs_of_workers(now: datetime) -> tuple[datetime | None, ApiSighting | None]:
    """When one was last seen, and how one saw the API's container: in one query once one has looked."""
    beats = WorkerBeat.objects.filter(at__lt=now + ALIVE_FOR).order_by("-at").values_list("at", flat=True)
    if settings.API_CONTAINER:
        sightings = ApiSighting.objects.filter(container=settings.API_CONTAINER)
        seen: Any = sightings.annotate(last_beat=Subquery(beats[:1])).first()
        if seen is not None:
            return seen.last_beat, seen
    return beats.first(), None


def _wanted_restores() -> RestoreEventQuerySet:
    """What `Standing` says of ``restores``, each with the numbers of the last that ended and of the last in
    place."""
    events = RestoreEvent.objects
    last, last_ended, last_swap = (
        Subquery(some.values("pk")[:1]) for some in (events.all(), events.ended(), events.in_place())
    )
    wanted = Q(pk=last) | Q(pk=last_ended) | Q(pk=last_swap) | Q(outcome=RestoreEvent.Outcome.UNCLEAR)
    return events.filter(wanted).annotate(last_ended=last_ended, last_swap=last_swap)


_restores = prepared(_wanted_restores)


@prepared
def _schedules() -> QuerySet[Schedule]:
    found: QuerySet[Schedule] = Schedule.objects.filter(name__in=[*JOBS, HOUSEKEEPING]).order_by("next_run")
    return found


def _copies(known: set[str]) -> Copies:
    rows = (
        BackupCopy.objects.filter(state__in=[state for state in State if state != State.REMOVED])
        .filter(backup__removed_at=None)
        .order_by()
        .values("location", "state")
        .annotate(count=Count("pk"), bytes=Sum("backup__size"))
    )
    found = list(rows)
    stored = [row for row in found if row["state"] == State.STORED]

    def count(*states: str) -> int:
        return sum(row["count"] for row in found if row["state"] in states and row["location"] in known)

    return Copies(
        bytes=sum(row["bytes"] for row in stored),
        elsewhere=tuple(sorted({row["location"] for row in stored} - known)),
        damaged=count(State.MISSING, State.CORRUPT),
        unreadable=count(State.UNREADABLE),
        waiting=count(State.PENDING),
    )


def _operations(restores: list[Any]) -> list[Operation]:
    """Those that run, wait or owe the API, the last ones that tell something, and those with a trial.

    Running ones first, the others by their time. Each of ``restores`` is given its own.
    """
    found = list(_telling_operations())
    by_number = {one.pk: one for one in found}
    for event in restores:
        if event.operation_id in by_number:  # one that came in between may be wanted in its place
            event.operation = by_number[event.operation_id]
    return sorted(found, key=lambda one: (one.state != Operation.State.RUNNING, one.created_at, one.pk))


@prepared
def _telling_operations() -> OperationQuerySet:
    objects = Operation.objects
    few = [
        objects.active().order_by("-state", "created_at")[:ACTIVE_SHOWN],
        objects.owing_the_api().order_by(),
        objects.trials()[:TRIALS_SHOWN],
        *(_ended(kind)[:1] for kind in TELLING),
        objects.filter(pk__in=_wanted_restores().order_by().values("operation")),
    ]
    return objects.filter(pk__in=union_of(few)).order_by()


def _ended(kind: str) -> OperationQuerySet:
    """The last first; of the checks of the copies those of all: others say nothing about the rest."""
    ended = Operation.objects.filter(kind=kind).exclude(state__in=NOT_ENDED)
    if kind == Kind.CHECK_COPIES:
        of_all = Q(parameters__only_pending__isnull=True) | Q(parameters__only_pending=False)
        return ended.filter(of_all)
    return ended


def _latest(operations: list[Operation]) -> dict[str, Operation]:
    """By their kinds, the last ended ones."""
    return {
        one.kind: one
        for one in sorted(operations, key=lambda one: (one.created_at, one.pk))
        if one.kind in TELLING and one.state not in NOT_ENDED and not one.parameters.get("only_pending")
    }
