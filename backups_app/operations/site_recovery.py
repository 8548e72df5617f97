"""After the site's own database was put back to an earlier state: nothing that came since then is harmed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.utils import timezone

from backups_app import config
from backups_app.models import Backup, BackupCopy, Operation, RestoreEvent
from backups_app.operations import sidecars
from backups_app.operations.places import Sight, look_around
from backups_app.sentences import say

LOOK_SECONDS = 60.0


@dataclass
class Recovery:
    """What was done: numbers of operations, names of backups and databases, and sentences.

    ``api`` are the operations that had stopped the API by the record, ``left`` databases that nobody drops.
    """

    closed: list[int] = field(default_factory=list)
    api: list[int] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    pinned: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def after_recovery() -> Recovery:
    """
    1. Close what was open, and empty the queue: a restore that waited then may have been done long ago.
    2. Forget what operations meant to clean up, where it may be something else by now, and that the API was
       to be started again: that would end in a swap back to a database of that time.
    3. Mark the backups as removed whose files have gone since, and take over the pins set and the damage
       found since.

    Call it while no worker runs. What a location does not answer for stays as it is.
    """
    done = Recovery()
    with transaction.atomic():
        done.api = _forget_debts()
        done.left = _forget_leftovers()
        _forget_removals()
        done.closed = close_open_operations()
    done.warnings += _other_site()
    sight = look_around(seconds=LOOK_SECONDS)
    done.warnings += sight.troubles + _empty(sight)
    done.removed = _mark_gone(sight)
    _take_over(sight, done)
    return done


def close_open_operations() -> list[int]:
    """Close every operation that waits or runs by the record, and empty the queue; their ids."""
    from django_q.models import OrmQ

    why = say(
        "It was open when the site's own database was backed up, and that backup has been put back since:"
        " what became of it is not known, and it is not started again."
    )
    closed = []
    with transaction.atomic():
        OrmQ.objects.all().delete()
        for operation in Operation.objects.active().order_by("pk"):
            Operation.objects.filter(pk=operation.pk).update(
                state=Operation.State.INTERRUPTED, finished_at=timezone.now(), error=why
            )
            operation.note(say("Closed after the site's own database was put back."), level="warning")
            _doubt_restore(operation, why)
            closed.append(operation.pk)
    return closed


def _doubt_restore(operation: Operation, why: str) -> None:
    """Housekeeping will say what became of it by the databases' names, which may be others by now."""
    for event in RestoreEvent.objects.filter(operation=operation, outcome=RestoreEvent.Outcome.UNDER_WAY):
        event.change(warnings=[*event.warnings, why])


def _forget_debts() -> list[int]:
    owing = list(Operation.objects.owing_the_api().order_by("pk"))
    for operation in owing:
        Operation.objects.filter(pk=operation.pk).update(api_stop_intended=False)
        operation.note(
            say("The site's own database was put back: the API is not started for this any more."),
            level="warning",
        )
    return [operation.pk for operation in owing]


def _forget_leftovers() -> list[str]:
    """Files, which may be whole backups by now, and databases that may be kept as trials; the latter."""
    left = []
    for operation in Operation.objects.exclude(leftovers=[]).order_by("pk"):
        doubtful = [one for one in operation.leftovers if _is_doubtful(operation, one)]
        if not doubtful:
            continue
        rest = [one for one in operation.leftovers if one not in doubtful]
        Operation.objects.filter(pk=operation.pk).update(leftovers=rest)
        for one in doubtful:
            operation.note(
                say(
                    "{name} is not cleaned up: it may be something else since the site's own database"
                    " was put back.",
                    name=one["name"],
                ),
                level="warning",
            )
        left += [str(one["name"]) for one in doubtful if one["what"] == "database"]
    return left


def _is_doubtful(operation: Operation, leftover: dict[str, Any]) -> bool:
    is_kept_trial = leftover["what"] == "database" and operation.kind == Operation.Kind.TRIAL
    return leftover["what"] == "file" or (is_kept_trial and operation.is_active)


def _forget_removals() -> None:
    """Files that a clean-up could not reach then may have been imported again: an import finds them."""
    for copy in BackupCopy.objects.filter(backup__removed_at__isnull=False).exclude(
        state=BackupCopy.State.REMOVED
    ):
        copy.found(BackupCopy.State.REMOVED)


def _other_site() -> list[str]:
    """Whether another site, or one of another managed database, wrote this record."""
    site = Operation.objects.filter(kind=Operation.Kind.BACKUP_SITE, state=Operation.State.SUCCEEDED)
    before = site.order_by("-created_at").values_list("result__site", flat=True).first()
    now = config.site_identity()
    if before and before != now:
        return [
            say(
                "The site's own database that was put back is that of {theirs}, and this one is {ours}:"
                " look whether the right file was chosen.",
                theirs=_named(before),
                ours=_named(now),
            )
        ]
    made = Backup.objects.exclude(origin=Backup.Origin.IMPORTED).exclude(database="")
    last = made.order_by("-created_at").first()
    ours = config.managed_database().database
    if last is None or last.database == ours:
        return []
    return [
        say(
            "The site's own database that was put back belongs to a site that backs up {theirs}, not {ours}:"
            " look whether the right file was chosen.",
            theirs=last.database,
            ours=ours,
        )
    ]


def _named(site: dict[str, str]) -> str:
    return f"{site['site']} ({site['managed_database']})"


def _empty(sight: Sight) -> list[str]:
    """An empty folder is rather a disk that is not mounted than one from which every backup has gone."""
    recorded = set(
        BackupCopy.objects.intact().filter(backup__removed_at=None).values_list("location", flat=True)
    )
    return [
        say(
            "The location {location} holds no backup at all: look whether the right disk is mounted."
            " Nothing was marked as removed for it.",
            location=alias,
        )
        for alias, files in sight.files.items()
        if not files and alias in recorded
    ]


def _mark_gone(sight: Sight) -> list[str]:
    """Backups of which no file is left where all the locations of their copies answer.

    Their copies count as removed, so that no clean-up looks for them; an import finds what comes back.
    """
    reason = say("Its file was gone when the site's own database came back.")
    lying = {alias: {file.name for file in files} for alias, files in sight.files.items() if files}
    gone = []
    for backup in Backup.objects.present().order_by("created_at").prefetch_related("copies"):
        copies = [copy for copy in backup.copies.all() if copy.state != BackupCopy.State.REMOVED]
        is_seen = bool(copies) and all(copy.location in lying for copy in copies)
        if not is_seen or any(backup.name in names for names in lying.values()):
            continue
        with transaction.atomic():
            backup.mark_removed(reason)
            for copy in copies:
                copy.found(BackupCopy.State.REMOVED)
        gone.append(backup.name)
    return gone


def _take_over(sight: Sight, done: Recovery) -> None:
    """Pins and damage that stand in the descriptions: what was found and decided since."""
    for location in config.locations():
        names = {file.name for file in sight.files.get(location.alias, [])}
        for backup in list(Backup.objects.present().order_by("created_at")):
            if backup.name not in names or (backup.is_pinned and backup.damage):
                continue
            since = sidecars.told_since(location, backup)
            if since.pin_reason is not None and not backup.is_pinned:
                backup.pin(since.pin_reason)
                done.pinned.append(backup.name)
            if since.damage and not backup.damage:
                backup.mark_damaged(since.damage)
                done.damaged.append(backup.name)
