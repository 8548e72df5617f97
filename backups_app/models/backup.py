"""Backups and where their copies lie."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Self

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from backups_app.models.append_only import Kept, KeptQuerySet

# Clocks that differ by less are taken for equal.
CLOCKS_DIFFER = timedelta(minutes=10)


class BackupQuerySet(KeptQuerySet["Backup"]):
    """The vocabulary for many backups."""

    def present(self) -> Self:
        """Not removed."""
        return self.filter(removed_at=None)

    def validated(self) -> Self:
        """Present, read whole, and equal to their record."""
        return self.present().filter(validated_at__isnull=False, damage="")

    def proven(self) -> Self:
        """Validated, and restored once with every row and checksum equal.

        One without a manifest had nothing to compare with (``is_measure`` in its proof): what was restored is
        its manifest from then on.
        """
        return self.validated().filter(proven_at__isnull=False)

    def taken_by(self, now: datetime) -> Self:
        """Without those that bear a time in the future: the clock was ahead, so nobody knows their age."""
        return self.filter(created_at__lte=now + CLOCKS_DIFFER)


class Backup(Kept):
    """One backup file, wherever its copies lie. The row stays when the file goes."""

    class Origin(models.TextChoices):
        MANUAL = "manual", _("manual")
        SCHEDULED = "scheduled", _("scheduled")
        SAFETY = "safety", _("safety, before a restore")
        IMPORTED = "imported", _("imported")

    name = models.CharField(_("file name"), max_length=120, unique=True)
    origin = models.CharField(_("origin"), max_length=20, choices=Origin)
    created_at = models.DateTimeField(_("taken"), db_index=True)
    created_by = models.CharField(_("by whom"), max_length=150, blank=True)
    operation = models.ForeignKey(
        "Operation", null=True, blank=True, on_delete=models.PROTECT, related_name="made_backups"
    )
    seconds = models.FloatField(_("duration in seconds"), null=True, blank=True)
    size = models.BigIntegerField(_("size in bytes"))
    sha256 = models.CharField(_("SHA-256"), max_length=64)
    compression = models.CharField(_("compression"), max_length=20, blank=True)
    database = models.CharField(_("database"), max_length=63, blank=True)
    server_version = models.CharField(_("server version"), max_length=40, blank=True)
    client_version = models.CharField(_("pg_dump version"), max_length=40, blank=True)
    revision = models.CharField(_("migration revision"), max_length=64, blank=True)
    manifest = models.JSONField(_("manifest"), null=True, blank=True)
    rows = models.BigIntegerField(_("rows"), null=True, blank=True)
    is_api_stopped = models.BooleanField(_("taken with the API stopped"), default=False)
    is_pinned = models.BooleanField(_("pinned"), default=False)
    pin_reason = models.CharField(_("reason of the pin"), max_length=200, blank=True)
    validated_at = models.DateTimeField(_("validated"), null=True, blank=True)
    proven_at = models.DateTimeField(_("proven by a test restore"), null=True, blank=True)
    proof = models.JSONField(_("proof"), default=dict, blank=True)
    damage = models.TextField(_("damage"), blank=True)
    warnings = models.JSONField(_("warnings"), default=list, blank=True)
    imported_at = models.DateTimeField(_("imported"), null=True, blank=True)
    removed_at = models.DateTimeField(_("removed"), null=True, blank=True)
    removed_reason = models.TextField(_("why removed"), blank=True)

    objects = BackupQuerySet.as_manager()

    class Meta:
        verbose_name = _("backup")
        verbose_name_plural = _("backups")
        ordering = ("-created_at", "-pk")
        default_permissions = ("view",)
        permissions = (
            ("create_backup", gettext_noop("Can create a backup")),
            ("validate_backup", gettext_noop("Can validate a backup")),
            ("prove_backup", gettext_noop("Can prove a backup by a test restore")),
            ("restore_backup", gettext_noop("Can restore a backup and undo a restore")),
            ("download_backup", gettext_noop("Can download a backup")),
            ("import_backup", gettext_noop("Can import backups")),
            ("pin_backup", gettext_noop("Can pin a backup")),
            ("prune_backups", gettext_noop("Can remove old backups")),
        )
        indexes = (
            models.Index(fields=["removed_at", "-created_at"]),
            models.Index(
                fields=["removed_at", "-proven_at"],
                condition=Q(proven_at__isnull=False),
                name="proven_backups",
            ),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def is_present(self) -> bool:
        return self.removed_at is None

    @property
    def snapshot_at(self) -> datetime:
        """When its data were as it has them: what was committed later is not in it."""
        return parse_datetime((self.manifest or {}).get("taken_at") or "") or self.created_at

    @property
    def is_good(self) -> bool:
        """As `BackupQuerySet.validated` says it."""
        return self.is_present and self.validated_at is not None and not self.damage

    @property
    def state(self) -> str:
        """removed, damaged, proven, validated or unvalidated."""
        if self.removed_at is not None:
            return "removed"
        if self.damage:
            return "damaged"
        if self.proven_at is not None:
            return "proven"
        return "validated" if self.validated_at is not None else "unvalidated"

    @property
    def why_not_restorable(self) -> str:
        """One sentence, or nothing when it can be restored."""
        if self.removed_at is not None:
            return gettext("This backup has been removed.")
        if self.damage:
            return gettext("This backup is damaged.")
        return ""

    def mark_validated(self) -> None:
        self._change(validated_at=timezone.now(), damage="")

    def mark_proven(self, proof: dict[str, Any]) -> None:
        self._change(proven_at=timezone.now(), proof=proof, damage="")

    def mark_damaged(self, what: str) -> None:
        """Nothing restores it any more; a later validation that succeeds clears it."""
        self._change(damage=what, validated_at=None, proven_at=None)

    def mark_copies_lost(self, what: str) -> None:
        """No intact copy is left. What was validated and proven holds again as soon as one is found."""
        if not self.damage:
            self._change(damage=what)

    def mark_copy_found(self) -> None:
        """A copy equals the record: a backup that only lacked one is what it was, a bad one stays bad."""
        if self.damage and self.validated_at is not None:
            self._change(damage="")

    def pin(self, reason: str) -> None:
        self._change(is_pinned=True, pin_reason=reason)

    def unpin(self) -> None:
        self._change(is_pinned=False, pin_reason="")

    def mark_removed(self, reason: str) -> None:
        self._change(removed_at=timezone.now(), removed_reason=reason)

    def mark_found_again(self) -> None:
        """Its file was put back, was imported, and equals the record."""
        self._change(removed_at=None, removed_reason="", imported_at=timezone.now())

    def _change(self, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(self, name, value)
        self.save(update_fields=list(changes))


class BackupCopyQuerySet(KeptQuerySet["BackupCopy"]):
    """The vocabulary for many copies."""

    def intact(self) -> Self:
        """Stored, and not found otherwise."""
        return self.filter(state=BackupCopy.State.STORED)

    def to_be_removed(self) -> Self:
        """Of removed backups: their files may still be there."""
        done = Q(state=BackupCopy.State.REMOVED, checked_at__isnull=False)
        return self.filter(~done, backup__removed_at__isnull=False)

    def removed_since(self, moment: datetime) -> Self:
        """Their files are being removed, or have been since then."""
        going = Q(checked_at=None) | Q(checked_at__gte=moment)
        return self.filter(going, state=BackupCopy.State.REMOVED)


class BackupCopy(Kept):
    """One file of a backup in one storage location."""

    class State(models.TextChoices):
        STORED = "stored", _("Stored")  # written and read back, or found intact by a later check
        PENDING = "pending", _("Waiting")  # the location was down; housekeeping tries again
        MISSING = "missing", _("Missing")  # the location answers, the file is not there
        CORRUPT = "corrupt", _("Damaged")  # was read, and differs from its record
        UNREADABLE = "unreadable", _("Not readable")  # is there, and may be intact for all that is known
        REMOVED = "removed", _("Removed")  # taken away by the clean-up, or being so while never checked

    backup = models.ForeignKey(Backup, on_delete=models.PROTECT, related_name="copies")
    location = models.CharField(_("location"), max_length=40)
    state = models.CharField(_("state"), max_length=20, choices=State, default=State.STORED)
    checked_at = models.DateTimeField(_("last checked"), null=True, blank=True)
    problem = models.TextField(_("problem"), blank=True)

    # Of this very object: what was expected and found by whoever read it just now.
    difference = ""

    objects = BackupCopyQuerySet.as_manager()

    class Meta:
        verbose_name = _("copy")
        verbose_name_plural = _("copies")
        ordering = ("pk",)
        default_permissions = ("view",)
        indexes = (models.Index(fields=["state", "backup"], name="copies_by_state"),)
        constraints = (
            models.UniqueConstraint(fields=["backup", "location"], name="one_copy_a_location"),
            models.CheckConstraint(
                condition=Q(state__in=["stored", "pending", "missing", "corrupt", "unreadable", "removed"]),
                name="copy_state_is_known",
            ),
        )

    def __str__(self) -> str:
        return f"{self.backup} in {self.location}"

    def found(self, state: str, problem: str = "") -> None:
        """Record what a check, a repair or the clean-up found."""
        self.state, self.problem, self.checked_at = state, problem, timezone.now()
        self.save(update_fields=["state", "problem", "checked_at"])
