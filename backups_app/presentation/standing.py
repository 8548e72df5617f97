"""How things stand at one moment: each fact is one query at most, and the judgement is made elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Count, Exists, OuterRef, Q, Subquery, Sum
from django.utils import timezone
from django_q.models import Schedule

from backups_app.models import ApiSighting, Backup, BackupCopy, Operation, RestoreEvent, WorkerBeat
from backups_app.models.backup import CLOCKS_DIFFER
from backups_app.models.worker import ALIVE_FOR
from backups_app.operations.lineage import Line, by_line, is_live, line_of
from backups_app.presentation import surroundings
from backups_app.presentation.surroundings import ApiState, Room
from backups_app.schedules import HOUSEKEEPING, JOBS

Kind = Operation.Kind
State = BackupCopy.State
FEW_BACKUPS = 3
LITTLE_ROOM = 200 * 1024 * 1024
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
    ``owing`` one that ended and still has to start the API. ``restores`` are the last one, the last one
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
    objects, now = Operation.objects, timezone.now()
    stored = BackupCopy.objects.filter(backup=OuterRef("pk"), state=State.STORED)
    backups = Backup.objects.present().defer("manifest", "proof").annotate(is_stored=Exists(stored))
    proven = Backup.objects.proven().order_by("-proven_at").values("proven_at")[:1]
    with_proof = backups.annotate(last_proof=Subquery(proven))
    last = with_proof.first()
    ahead = last if last is not None and last.created_at > now + CLOCKS_DIFFER else None
    newest = (ahead and with_proof.taken_by(now).first()) or last
    restores = _restores()
    swap = next((one for one in restores if one.pk == one.last_swap), None)
    is_good = newest is not None and newest is not ahead and newest.is_good and is_live(newest, swap)
    good = newest if is_good else by_line(backups.validated().taken_by(now), swap).first()
    # A union of two small sets: one condition with OR would read every operation.
    active, owing = (found.order_by().values("pk") for found in (objects.active(), objects.owing_the_api()))
    current = objects.filter(pk__in=active.union(owing)).select_related("backup")
    current = current.order_by("-state", "created_at")[:6]
    rooms = surroundings.space()
    last_beat, seen = _signs_of_workers(now)
    return Standing(
        now=now,
        good=good,
        line=line_of(good),
        swap=swap,
        newest=newest,
        ahead=ahead,
        is_good_stored=getattr(good, "is_stored", False),
        proven_at=getattr(newest, "last_proof", None),
        copies=_copies({room.alias for room in rooms}),
        active=[one for one in current if one.is_active],
        owing=next((one for one in current if not one.is_active), None),
        latest=_latest(*TELLING),
        last_beat=last_beat,
        schedules=list(Schedule.objects.filter(name__in=[*JOBS, HOUSEKEEPING]).order_by("next_run")),
        restores=restores,
        ended_restore=next((one for one in restores if one.pk == one.last_ended), None),
        rooms=rooms,
        api=surroundings.api(seen, now),
    )


def _signs_of_workers(now: datetime) -> tuple[datetime | None, ApiSighting | None]:
    """When one was last seen, and how one saw the API's container: in one query once one has looked."""
    beats = WorkerBeat.objects.filter(at__lt=now + ALIVE_FOR).order_by("-at").values_list("at", flat=True)
    if settings.API_CONTAINER:
        sightings = ApiSighting.objects.filter(container=settings.API_CONTAINER)
        seen: Any = sightings.annotate(last_beat=Subquery(beats[:1])).first()
        if seen is not None:
            return seen.last_beat, seen
    return beats.first(), None


def _restores() -> list[Any]:
    """In one query: what `Standing` says of ``restores``, each with the number of the last that ended."""
    events = RestoreEvent.objects
    last, last_ended, last_swap = (
        Subquery(some.values("pk")[:1]) for some in (events.all(), events.ended(), events.in_place())
    )
    wanted = Q(pk=last) | Q(pk=last_ended) | Q(pk=last_swap) | Q(outcome=RestoreEvent.Outcome.UNCLEAR)
    found = events.filter(wanted).annotate(last_ended=last_ended, last_swap=last_swap)
    return list(found.select_related("operation", "undoes"))


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


def _is_full_check() -> Q:
    """Of a check of the copies: not only of those that wait, which says nothing about the others."""
    return Q(parameters__only_pending__isnull=True) | Q(parameters__only_pending=False)


def _latest(*kinds: str) -> dict[str, Operation]:
    """The last ended operation of each kind, in one query; of the checks of the copies the last full one."""
    ended = Operation.objects.exclude(state__in=[*Operation.ACTIVE, Operation.State.CANCELLED])
    newest = Q(pk__in=[])
    for kind in kinds:
        of_kind = ended.filter(_is_full_check() if kind == Kind.CHECK_COPIES else Q(), kind=kind)
        newest |= Q(pk=Subquery(of_kind.order_by("-created_at", "-pk").values("pk")[:1]))
    return {row.kind: row for row in Operation.objects.filter(newest).order_by("created_at")}
