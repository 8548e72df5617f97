"""One row for each thing that was asked for: the truth about whether it may start, runs, or has ended."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from backups_app.errors import Busy
from backups_app.models.append_only import Kept, KeptQuerySet, WrittenOnce, WrittenOnceQuerySet
from backups_app.models.labels import label_of
from backups_app.sentences import say

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

QUEUED_FOR_AT_MOST = timedelta(hours=6)
SILENT_FOR = timedelta(seconds=90)
UNSTARTED_FOR = timedelta(minutes=1)
# A time further ahead than this was written down by a clock that was ahead itself: nobody waits for it.
FAR_AHEAD = timedelta(seconds=90)
LONGEST_HOLD = timedelta(minutes=1)  # for which a try to start the API keeps the others from trying


class OperationQuerySet(KeptQuerySet["Operation"]):
    """The vocabulary for many operations."""

    def active(self) -> Self:
        """Asked for and not ended."""
        return self.filter(state__in=Operation.ACTIVE)

    def running(self) -> Self:
        return self.filter(state=Operation.State.RUNNING)

    def owing_the_api(self) -> Self:
        """Those that stopped the API and have to start it again."""
        return self.filter(api_stop_intended=True)

    def trials(self) -> Self:
        """Those whose trial database is still there."""
        return self.filter(kind=Operation.Kind.TRIAL, state=Operation.State.SUCCEEDED).exclude(leftovers=[])

    def take_api_start(self, pk: int, now: datetime, *, until: datetime) -> bool:
        """Whether the caller is to start the API for an operation now; nobody else is before ``until``."""
        free = Q(api_retry_at=None) | Q(api_retry_at__lte=now)
        free |= Q(api_retry_at__gt=now + LONGEST_HOLD + FAR_AHEAD)
        return bool(self.owing_the_api().filter(free, pk=pk).update(api_retry_at=until))

    def waiting(self, now: datetime) -> Self:
        """Queued, and still wanted."""
        return self.filter(state=Operation.State.QUEUED, expires_at__gt=now).order_by("created_at", "pk")

    def for_workers(self, now: datetime) -> Self:
        """Waiting, and not for the process that asked for it, as what a command asks for does.

        Should that end before it begins, nobody begins in its place: it was told as refused.
        """
        return self.waiting(now).filter(pid=None)

    def unsent(self, now: datetime, *, unsent_for: timedelta) -> Self:
        """Waiting for a worker, and last sent, or asked for, so long ago or by a clock that was ahead."""
        before, beyond = now - unsent_for, now + FAR_AHEAD
        never = Q(created_at__lte=before) | Q(created_at__gt=beyond)
        return self.for_workers(now).filter(
            Q(dispatched_at__lte=before) | Q(dispatched_at__gt=beyond) | (Q(dispatched_at=None) & never)
        )

    def silent(self, now: datetime, *, silent_for: timedelta = SILENT_FOR) -> Self:
        """Running by their state, but without a sign of life for so long; or with one that lies ahead.

        The clock was set back since then, or it is ahead where the operation runs: whether that one lives
        is seen by its next sign of life alone.
        """
        gone = Q(heartbeat_at__lt=now - silent_for) | Q(heartbeat_at__gt=now + FAR_AHEAD)
        return self.running().filter(gone)

    def claim(self, pk: int, *, host: str, pid: int) -> Operation | None:
        """Start a queued operation: its row if this caller is the one that starts it, else None.

        Busy when another operation works on the managed database; this one then stays queued.
        """
        now, token = timezone.now(), uuid.uuid4()
        try:
            with transaction.atomic():
                started = (
                    self.waiting(now)
                    .filter(pk=pk, cancel_requested_at=None)
                    .order_by()
                    .update(
                        state=Operation.State.RUNNING,
                        token=token,
                        host=host,
                        pid=pid,
                        attempts=F("attempts") + 1,
                        started_at=now,
                        heartbeat_at=now,
                        moved_at=now,
                    )
                )
        except IntegrityError as error:
            other = self.running().filter(is_exclusive=True).first()
            name = other or say("Another operation")
            raise Busy(say("{operation} is at work on the managed database.", operation=name)) from error
        return self.get(pk=pk, token=token) if started == 1 else None

    def record(
        self, kind: str, *, user: AbstractBaseUser, state: str = "succeeded", **facts: Any
    ) -> Operation:
        """What somebody did at once, on a page: it stands in the trail, no worker ever sees it."""
        now = timezone.now()
        moments = dict.fromkeys(("created_at", "expires_at", "started_at", "finished_at"), now)
        return self.create(
            kind=kind,
            state=state,
            requested_by=user,  # type: ignore[misc]
            requested_by_name=user.get_username(),
            **moments,
            **facts,
        )

    def overdue(self, now: datetime) -> Self:
        """Queued, and no longer wanted."""
        return self.filter(state=Operation.State.QUEUED, expires_at__lte=now)

    def expire_overdue(self, now: datetime) -> int:
        """Give up what waited for too long; returns how many."""
        return self.overdue(now).update(
            state=Operation.State.EXPIRED,
            finished_at=now,
            error=say("It waited too long for a worker and was not started. Nothing was touched."),
        )

    def pull_back(self, now: datetime) -> None:
        """What was asked for while the clock was ahead waits for no longer than what is asked for now."""
        latest = now + QUEUED_FOR_AT_MOST
        self.filter(state=Operation.State.QUEUED, expires_at__gt=latest + FAR_AHEAD).update(expires_at=latest)


class Operation(Kept):
    """What was asked, by whom and why, and what came of it."""

    class Kind(models.TextChoices):
        BACKUP = "backup", _("Backup")
        VALIDATE_BACKUP = "validate_backup", _("Validate backup")
        PROVE_BACKUP = "prove_backup", _("Prove backup")
        TRIAL = "trial", _("Trial restore")
        VALIDATE_TRIAL = "validate_trial", _("Validate trial database")
        DROP_TRIAL = "drop_trial", _("Drop trial database")
        VALIDATE_DATABASE = "validate_database", _("Validate database")
        RESTORE = "restore", _("Restore")
        UNDO_RESTORE = "undo_restore", _("Undo restore")
        STOP_API = "stop_api", _("Stop the API")
        START_API = "start_api", _("Start the API")
        MIGRATE_DATABASE = "migrate_database", _("Run migrations")
        END_SESSIONS = "end_sessions", _("End blocking sessions")
        PRUNE = "prune", _("Clean-up")
        CHECK_COPIES = "check_copies", _("Check copies")
        IMPORT = "import", _("Import backups")
        BACKUP_SITE = "backup_site", _("Back up this site")
        DOWNLOAD = "download", _("Download")
        CHANGE_SCHEDULE = "change_schedule", _("Change of a schedule")

    class State(models.TextChoices):
        QUEUED = "queued", _("Waiting")  # asked for, no worker has started it
        RUNNING = "running", _("Running")  # one worker holds its token
        SUCCEEDED = "succeeded", _("Succeeded")  # all of it was done
        FAILED = "failed", _("Failed")  # it ended with an error that is said in `error`
        CANCELLED = "cancelled", _("Cancelled")  # somebody asked for its end
        INTERRUPTED = "interrupted", _("Interrupted")  # its worker died; it is never started again
        EXPIRED = "expired", _("Expired")  # no worker started it in time

    class Source(models.TextChoices):
        PAGE = "page", _("page")
        COMMAND = "command", _("command")
        SCHEDULE = "schedule", _("schedule")

    ACTIVE = (State.QUEUED, State.RUNNING)
    EXCLUSIVE = frozenset(
        {
            Kind.BACKUP,
            Kind.PROVE_BACKUP,
            Kind.TRIAL,
            Kind.VALIDATE_DATABASE,
            Kind.RESTORE,
            Kind.UNDO_RESTORE,
            Kind.START_API,
            Kind.MIGRATE_DATABASE,
        }
    )

    kind = models.CharField(_("what"), max_length=30, choices=Kind)
    state = models.CharField(_("state"), max_length=20, choices=State, default=State.QUEUED)
    source = models.CharField(_("asked by"), max_length=20, choices=Source, default=Source.PAGE)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    requested_by_name = models.CharField(_("by whom"), max_length=150, blank=True)
    reason = models.TextField(_("reason"), blank=True)
    parameters = models.JSONField(_("parameters"), default=dict, blank=True)
    backup = models.ForeignKey(
        "Backup",
        verbose_name=_("backup"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="operations",
    )

    created_at = models.DateTimeField(_("asked for"), default=timezone.now)
    expires_at = models.DateTimeField(_("given up at"))
    dispatched_at = models.DateTimeField(_("sent to the queue"), null=True, blank=True)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    heartbeat_at = models.DateTimeField(_("last sign of life"), null=True, blank=True)
    moved_at = models.DateTimeField(_("last movement"), null=True, blank=True)
    finished_at = models.DateTimeField(_("ended"), null=True, blank=True)
    cancel_requested_at = models.DateTimeField(_("cancel asked for"), null=True, blank=True)
    cancel_requested_by = models.CharField(_("cancelled by"), max_length=150, blank=True)

    token = models.UUIDField(_("claim"), null=True, blank=True, editable=False)
    host = models.CharField(_("machine"), max_length=255, blank=True)
    pid = models.PositiveIntegerField(_("process"), null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(_("starts"), default=0)
    is_exclusive = models.BooleanField(_("works on the managed database"), default=False)
    open_key = models.CharField(_("key while open"), max_length=100, blank=True)
    dedupe_key = models.CharField(_("key for ever"), max_length=100, blank=True)

    current_step = models.CharField(_("step"), max_length=200, blank=True)
    progress_done = models.BigIntegerField(_("done"), default=0)
    progress_total = models.BigIntegerField(_("of"), null=True, blank=True)
    progress_unit = models.CharField(_("unit"), max_length=20, blank=True)
    is_past_cancelling = models.BooleanField(_("can no longer be cancelled"), default=False)
    api_stop_intended = models.BooleanField(_("has to start the API again"), default=False)
    api_stopped_at = models.DateTimeField(_("stopped the API"), null=True, blank=True)
    api_retry_at = models.DateTimeField(_("next try to start the API"), null=True, blank=True)
    leftovers = models.JSONField(_("to be cleaned up"), default=list, blank=True)

    error = models.TextField(_("error"), blank=True)
    error_detail = models.TextField(_("detail"), blank=True)
    blame = models.CharField(_("at fault"), max_length=20, blank=True)
    result = models.JSONField(_("result"), default=dict, blank=True)

    objects = OperationQuerySet.as_manager()

    # Of this very object: whoever asked made the row just now, and did not find it open already.
    is_made_here = False

    class Meta:
        verbose_name = _("operation")
        verbose_name_plural = _("audit history")
        ordering = ("-created_at", "-pk")
        default_permissions = ("view",)
        permissions = (
            ("cancel_operation", gettext_noop("Can cancel an operation")),
            ("validate_database", gettext_noop("Can validate the live database")),
            ("control_api", gettext_noop("Can stop and start the API and run its migrations")),
            ("end_sessions", gettext_noop("Can end sessions that block an operation")),
            ("manage_schedules", gettext_noop("Can change the schedules")),
        )
        indexes = (
            # The lists go by time and number, the newest first: an index that ascends is read backwards.
            models.Index(fields=["created_at", "id"], name="by_time"),
            models.Index(fields=["state", "created_at"]),
            models.Index(fields=["kind", "created_at"], name="by_kind"),
            models.Index(fields=["kind", "state", "created_at"], name="by_kind_and_state"),
            models.Index(
                fields=["api_stop_intended"], condition=Q(api_stop_intended=True), name="owing_the_api"
            ),
        )
        constraints = (
            models.UniqueConstraint(
                fields=["is_exclusive"],
                condition=Q(state="running", is_exclusive=True),
                name="one_operation_on_the_managed_database",
            ),
            models.UniqueConstraint(
                fields=["open_key"],
                condition=Q(state__in=["queued", "running"]) & ~Q(open_key=""),
                name="one_open_operation_a_key",
            ),
            models.UniqueConstraint(
                fields=["dedupe_key"], condition=~Q(dedupe_key=""), name="one_operation_a_dedupe_key"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["queued", "running"], finished_at=None)
                | (~Q(state__in=["queued", "running"]) & Q(finished_at__isnull=False)),
                name="ended_operations_say_when",
            ),
        )

    def __str__(self) -> str:
        return f"{label_of(self.Kind, self.kind)} {self.pk}"

    @property
    def is_active(self) -> bool:
        return self.state in self.ACTIVE

    @property
    def has_trial_database(self) -> bool:
        """As `OperationQuerySet.trials` says it."""
        is_made = self.kind == self.Kind.TRIAL and self.state == self.State.SUCCEEDED
        return is_made and self.leftovers != []

    @property
    def duration(self) -> timedelta | None:
        """From start to end, or to now; None before the start."""
        if self.started_at is None:
            return None
        return (self.finished_at or timezone.now()) - self.started_at

    @property
    def application_name(self) -> str:
        """The name under which this operation's sessions stand in pg_stat_activity."""
        return f"qradmin-op-{self.pk}"

    def stands_still_for(self, now: datetime) -> timedelta:
        """How long nothing has moved in it: no byte, no row, no step. Zero while it does not run."""
        if self.state != self.State.RUNNING or self.moved_at is None:
            return timedelta()
        return max(timedelta(), now - self.moved_at)

    @property
    def progress_share(self) -> float | None:
        """Between 0 and 1; None when nobody can tell, as when an estimated total is passed."""
        if not self.progress_total or self.progress_done > self.progress_total:
            return None
        return self.progress_done / self.progress_total

    def note(self, what: str, *, level: str = "info", **detail: Any) -> None:
        """Write a line into the trail of this operation."""
        Step.objects.create(operation=self, level=level, what=what, detail=detail)

    def update_held(self, **changes: Any) -> bool:
        """Change this running row; False when it no longer belongs to this token."""
        held = Operation.objects.running().filter(pk=self.pk, token=self.token)
        if not held.update(**changes):
            return False
        for name, value in changes.items():
            setattr(self, name, value)
        return True

    def end(self, state: str, **changes: Any) -> bool:
        """Close this running row; False when it no longer belongs to this token."""
        return self.update_held(state=state, finished_at=timezone.now(), **changes)

    def interrupt(self, error: str, *, silent_for: timedelta = SILENT_FOR) -> bool:
        """Close the row of a dead worker; False when it gave a sign of life meanwhile.

        Of one whose sign of life lies ahead the caller has to know otherwise that it is dead.
        """
        now = timezone.now()
        unchanged = Q(heartbeat_at__lt=now - silent_for)
        if self.heartbeat_at is not None:
            unchanged |= Q(heartbeat_at__gt=now + FAR_AHEAD, heartbeat_at__lte=self.heartbeat_at)
        return bool(
            Operation.objects.running()
            .filter(unchanged, pk=self.pk, token=self.token)
            .update(state=self.State.INTERRUPTED, finished_at=now, error=error)
        )

    def request_cancel(self, who: str) -> bool:
        """Cancel it when it waits, ask it to end when it runs; False when it is too late."""
        now = timezone.now()
        rows = Operation.objects.filter(pk=self.pk, cancel_requested_at=None)
        if rows.filter(state=self.State.QUEUED).update(
            state=self.State.CANCELLED,
            finished_at=now,
            cancel_requested_at=now,
            cancel_requested_by=who,
            error=say("It was cancelled before it started. Nothing was touched."),
        ):
            return True
        return bool(
            rows.running()
            .filter(is_past_cancelling=False)
            .update(cancel_requested_at=now, cancel_requested_by=who)
        )


class Step(WrittenOnce):
    """One line of an operation's trail."""

    class Level(models.TextChoices):
        INFO = "info", _("Information")
        WARNING = "warning", _("Warning")
        ERROR = "error", _("Error")

    operation = models.ForeignKey(Operation, on_delete=models.PROTECT, related_name="steps")
    at = models.DateTimeField(_("time"), default=timezone.now)
    level = models.CharField(_("level"), max_length=10, choices=Level, default=Level.INFO)
    what = models.TextField(_("what"))
    detail = models.JSONField(_("detail"), default=dict, blank=True)

    objects = WrittenOnceQuerySet.as_manager()

    class Meta:
        verbose_name = _("step")
        verbose_name_plural = _("steps")
        ordering = ("pk",)
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.what
