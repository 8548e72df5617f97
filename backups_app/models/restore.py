"""Restores, their undoing, and what people wrote about them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from backups_app.models.append_only import Kept, KeptQuerySet, WrittenOnce, WrittenOnceQuerySet

if TYPE_CHECKING:
    from backups_app.models.backup import Backup


class RestoreEventQuerySet(KeptQuerySet["RestoreEvent"]):
    """The vocabulary for many restores."""

    def undoable(self, now: datetime) -> Self:
        """Those whose replaced database is still kept."""
        return self.with_replaced_database().filter(replaced_kept_until__gt=now)

    def swapped(self) -> Self:
        """Those that replaced the live database, undone or not."""
        return self.filter(outcome__in=[RestoreEvent.Outcome.RESTORED, RestoreEvent.Outcome.UNDONE])

    def in_place(self) -> Self:
        """Those that replaced the live database and were not undone: the last one made the present one."""
        return self.filter(outcome=RestoreEvent.Outcome.RESTORED)

    def ended(self) -> Self:
        """Those that went through, and those that failed; not those that somebody cancelled."""
        outcomes = RestoreEvent.Outcome
        return self.exclude(outcome__in=[outcomes.UNDER_WAY, outcomes.CANCELLED])

    def with_replaced_database(self) -> Self:
        return self.in_place().filter(replaced_dropped_at=None).exclude(replaced_database="")


class RestoreEvent(Kept):
    """One restore, or the undoing of one: what was, what is, and where the replaced database lies."""

    class Outcome(models.TextChoices):
        UNDER_WAY = "under_way", _("Under way")
        RESTORED = "restored", _("Restored")
        UNTOUCHED = "untouched", _("Failed, live data untouched")
        CANCELLED = "cancelled", _("Cancelled, live data untouched")
        ROLLED_BACK = "rolled_back", _("Rolled back")
        UNDONE = "undone", _("Undone")
        UNCLEAR = "unclear", _("Interrupted, look at the database")

    # What became of the databases is not known yet.
    OPEN = (Outcome.UNDER_WAY, Outcome.UNCLEAR)
    # The name of the replaced database may stand there still: it is the one that was planned.
    NOT_SWAPPED = (Outcome.UNTOUCHED, Outcome.CANCELLED, Outcome.ROLLED_BACK)

    operation = models.OneToOneField("Operation", on_delete=models.PROTECT, related_name="restore_event")
    backup = models.ForeignKey(
        "Backup", null=True, blank=True, on_delete=models.PROTECT, related_name="restores"
    )
    undoes = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="undone_by"
    )
    safety_backup = models.ForeignKey(
        "Backup", null=True, blank=True, on_delete=models.PROTECT, related_name="protects"
    )
    outcome = models.CharField(_("outcome"), max_length=20, choices=Outcome, default=Outcome.UNDER_WAY)
    created_at = models.DateTimeField(_("started"), default=timezone.now, db_index=True)
    rows_before = models.JSONField(_("rows before"), default=dict, blank=True)
    rows_after = models.JSONField(_("rows after"), default=dict, blank=True)
    revision_before = models.CharField(_("revision before"), max_length=64, blank=True)
    revision_after = models.CharField(_("revision after"), max_length=64, blank=True)
    staged_database = models.CharField(_("staged database"), max_length=63, blank=True)
    replaced_database = models.CharField(_("replaced database"), max_length=63, blank=True)
    replaced_kept_until = models.DateTimeField(_("kept until"), null=True, blank=True)
    replaced_dropped_at = models.DateTimeField(_("dropped"), null=True, blank=True)
    swap_seconds = models.FloatField(_("duration of the swap in seconds"), null=True, blank=True)
    downtime_seconds = models.FloatField(_("API down in seconds"), null=True, blank=True)
    warnings = models.JSONField(_("warnings"), default=list, blank=True)

    objects = RestoreEventQuerySet.as_manager()

    class Meta:
        verbose_name = _("restore")
        verbose_name_plural = _("restores")
        ordering = ("-created_at", "-pk")
        default_permissions = ("view",)
        permissions = (("note_incident", gettext_noop("Can write incident notes")),)

    def __str__(self) -> str:
        if self.undoes_id:
            return gettext("Undo of restore %(number)s") % {"number": self.undoes_id}
        return gettext("Restore %(number)s") % {"number": self.pk}

    @property
    def why_not_undoable(self) -> str:
        """One sentence, or nothing when it can be undone."""
        if self.outcome != self.Outcome.RESTORED:
            return self._why_nothing_to_undo()
        if not self.replaced_database or self.replaced_dropped_at is not None:
            return gettext("The replaced database is no longer there: restore the safety backup instead.")
        if self.replaced_kept_until is not None and self.replaced_kept_until <= timezone.now():
            return gettext("The time for an undo is over: restore the safety backup instead.")
        return ""

    def _why_nothing_to_undo(self) -> str:
        if self.outcome == self.Outcome.UNDER_WAY:
            return gettext("There is nothing to undo yet: the operation is under way.")
        if self.outcome == self.Outcome.UNCLEAR:
            return gettext(
                "Whether there is anything to undo is not known yet: housekeeping looks at the databases'"
                " names every minute."
            )
        if self.outcome == self.Outcome.UNDONE:
            return gettext("There is nothing to undo: it has been undone already.")
        if self.outcome == self.Outcome.ROLLED_BACK:
            return gettext("There is nothing to undo: the databases were swapped back.")
        return gettext("There is nothing to undo: the live database was not touched.")

    @property
    def origin(self) -> Backup | None:
        """The backup of the first restore, when this undoes one, or the undoing of one."""
        event = self
        while event.undoes is not None:
            event = event.undoes
        return event.backup

    @property
    def is_unfinished(self) -> bool:
        """Whether the database was replaced, but the operation broke off before its end."""
        states = self.operation.State
        is_over = self.operation.state not in {*self.operation.ACTIVE, states.SUCCEEDED}
        return self.outcome == self.Outcome.RESTORED and is_over

    def change(self, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(self, name, value)
        self.save(update_fields=list(changes))


class IncidentNote(WrittenOnce):
    """What a person wrote about a restore."""

    event = models.ForeignKey(RestoreEvent, on_delete=models.PROTECT, related_name="notes")
    at = models.DateTimeField(_("time"), default=timezone.now)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    author_name = models.CharField(_("by whom"), max_length=150)
    text = models.TextField(_("note"))

    objects = WrittenOnceQuerySet.as_manager()

    class Meta:
        verbose_name = _("incident note")
        verbose_name_plural = _("incident notes")
        ordering = ("pk",)
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"Note by {self.author_name}"
