"""Runbooks: what to do, step by step, with the present state and the buttons beside the words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backups_app import config
from backups_app.models import Backup, Operation
from backups_app.models.backup import BackupQuerySet
from backups_app.models.prepared import prepared, union_of
from backups_app.operations import diagnosis, preview
from backups_app.operations.preview import LiveView
from backups_app.presentation import buttons, overview, recipes, trials
from backups_app.presentation.buttons import Button, May
from backups_app.presentation.days import BAD
from backups_app.presentation.standing import standing
from backups_app.systems import vault
from backups_app.systems.waiting import started

SHOWN, PINNED_SHOWN, SAFETY_SHOWN = 5, 10, 3
VALIDATIONS = (
    Operation.Kind.VALIDATE_BACKUP,
    Operation.Kind.VALIDATE_DATABASE,
    Operation.Kind.PROVE_BACKUP,
    Operation.Kind.CHECK_COPIES,
)


@dataclass(frozen=True)
class Runbook:
    """One situation; its text is the template of the same name.

    ``deeds`` are the buttons beside its backups, ``uses_api`` whether it needs the API's form,
    ``looks_around``, ``looks_live`` and ``looks_for_locks`` what is looked at on the spot, and
    ``shows_faults`` damaged backups.
    """

    slug: str
    title: str | Promise
    when: str | Promise
    deeds: tuple[str, ...] = ("restore",)
    uses_api: bool = False
    looks_around: bool = False
    looks_live: bool = False
    looks_for_locks: bool = False
    shows_faults: bool = False

    @property
    def template(self) -> str:
        return f"admin/runbooks/{self.slug}.html"


ALL: Sequence[Runbook] = (
    Runbook(
        "corruption",
        gettext_lazy("The database is corrupt"),
        gettext_lazy("Pages fail, the API does not start, rows are unreadable."),
        deeds=("prove", "restore"),
        uses_api=True,
    ),
    Runbook(
        "accidental-deletion",
        gettext_lazy("Something was deleted by mistake"),
        gettext_lazy("QR codes or scans are gone, the rest is in order."),
        deeds=("prove", "trial", "download", "restore"),
        uses_api=True,
    ),
    Runbook(
        "failed-validation",
        gettext_lazy("A validation failed"),
        gettext_lazy("A check of the database or of a backup is red."),
        shows_faults=True,
    ),
    Runbook(
        "hung-backup",
        gettext_lazy("A backup hangs"),
        gettext_lazy("It waits or runs far longer than usual."),
        looks_around=True,
        looks_for_locks=True,
    ),
    Runbook(
        "no-backups",
        gettext_lazy("No backups are found"),
        gettext_lazy("The list is empty, too old, or copies are missing."),
        looks_around=True,
    ),
    Runbook(
        "api-down",
        gettext_lazy("The API is down"),
        gettext_lazy("It is stopped, not well, or nobody knows how it is."),
        uses_api=True,
    ),
    Runbook(
        "upgrade",
        gettext_lazy("An upgrade with a way back"),
        gettext_lazy("Before the API or its schema is changed."),
        deeds=("prove", "pin", "restore"),
        uses_api=True,
        looks_live=True,
    ),
    Runbook(
        "new-server",
        gettext_lazy("Moving to a new server"),
        gettext_lazy("The database shall live on another machine."),
        deeds=("prove", "pin", "download", "restore"),
        uses_api=True,
        looks_around=True,
        looks_live=True,
    ),
)
BY_SLUG = {runbook.slug: runbook for runbook in ALL}


@dataclass(frozen=True)
class Choice:
    """One backup, and what this person may do with it now."""

    backup: Backup
    buttons: list[Button]


@dataclass(frozen=True)
class Loss:
    """The moment before which a backup is looked for, as a field shows it; ``problem`` when it is none."""

    typed: str = ""
    moment: datetime | None = None
    problem: str = ""


def context_of(runbook: Runbook, user: Any, asked: Mapping[str, str]) -> dict[str, Any]:
    """The present state, and what this person may do about it."""

    def may(codename: str) -> bool:
        return bool(user.has_perm(f"backups_app.{codename}"))

    # beside the queries of the site's own database
    around = started(partial(_look_around, runbook)) if runbook.looks_live or runbook.looks_around else None
    blocking = started(diagnosis.blocking_sessions) if runbook.looks_for_locks else None
    now, loss = standing(), loss_of(asked.get("before", ""))
    choose = partial(_choice, may=may)
    chosen, safety, broken = of_interest(before=loss.moment, with_broken=runbook.shows_faults)
    latest = next((one for one in chosen if one.is_good), None)
    pinned = [one for one in chosen if one.is_pinned]
    there = trials.kept(now.trials, may) if {"trial", "pin"}.intersection(runbook.deeds) else []
    subject = next(iter([*pinned, *chosen] if "pin" in runbook.deeds else chosen), None)
    place = recipes.here(subject, trial=there[0].database if there else "")
    live, findings = around.result() if around else (None, [])
    return {
        "runbook": runbook,
        "standing": now,
        "state_cards": overview.state_cards(now),
        "api": now.api,
        "is_api_managed": now.api.is_managed,
        "may_control_api": now.api.is_managed and may("control_api"),
        "api_container": place.container,
        "loss": loss,
        "trials": there,
        "sound": [choose(one, deeds=runbook.deeds) for one in chosen],
        "safety": safety,
        "latest": choose(latest, deeds=("prove", "pin")) if latest else None,
        "pinned": [choose(one, deeds=("restore",)) for one in pinned],
        "to_try": [choose(one, deeds=("trial",)) for one in pinned],
        "broken": [choose(one, deeds=("validate",)) for one in broken],
        "failed": Operation.objects.filter(kind__in=VALIDATIONS, state__in=BAD)[:SHOWN],
        "blocking": blocking.result() if blocking else None,
        "findings": findings,
        "live": live,
        "contacts": config.contacts(),
        "response_times": config.response_times(),
        "recipes": {
            make.__name__: make(place)
            for make in (recipes.rows, recipes.trial, recipes.elsewhere, recipes.files, recipes.files_back)
        },
        **{
            f"may_{short}": may(codename)
            for short, codename in (
                ("create", "create_backup"),
                ("validate", "validate_database"),
                ("import", "import_backup"),
            )
        },
    }


def _look_around(runbook: Runbook) -> tuple[LiveView, list[diagnosis.Finding]]:
    live = preview.look_at_live(counts_rows=False, finds_problems=runbook.looks_live)
    return live, diagnosis.look_around(live) if runbook.looks_around else []


def of_interest(
    *, before: datetime | None = None, with_broken: bool = False
) -> tuple[list[Backup], list[Backup], list[Backup]]:
    """What is worth a restore, what was taken before one, and the damaged ones; each the newest first.

    The first are the newest validated backups, the newest proven one and every pinned one; with ``before``
    those whose data are older than that moment. One that was taken before a restore holds the very state
    that somebody wanted to be rid of, so these are apart.
    """
    wanted = _usual(with_broken) if before is None else _wanted(before, with_broken)
    found = list(wanted.prefetch_related("copies"))
    broken = [one for one in found if one.damage]
    older = [one for one in found if not one.damage and (before is None or one.snapshot_at < before)]
    safety = [one for one in older if one.origin == Backup.Origin.SAFETY]
    return [one for one in older if one not in safety], safety, broken


def _wanted(before: datetime | None, with_broken: bool) -> BackupQuerySet:
    """A union of small sets; the manifest tells which of those of about that moment are older."""
    backups = Backup.objects.present().order_by("-created_at", "-pk")
    sound = backups.filter(damage="")
    if before is not None:
        sound = sound.filter(created_at__lt=before)
    of_safety = Q(origin=Backup.Origin.SAFETY)
    good = sound.validated()
    few = [
        good.exclude(of_safety)[:SHOWN],
        good.exclude(of_safety).filter(proven_at__isnull=False)[:1],
        good.filter(of_safety)[:SAFETY_SHOWN],
        sound.filter(is_pinned=True)[:PINNED_SHOWN],
    ]
    if with_broken:
        few.append(backups.exclude(damage="")[:SHOWN])
    heavy = ("proof",) if before else ("manifest", "proof")
    return backups.filter(pk__in=union_of(few)).defer(*heavy)


_usual = prepared(partial(_wanted, None))


def _choice(backup: Backup, *, may: May, deeds: Sequence[str]) -> Choice:
    """With the buttons of these deeds, as far as its state and this person's permissions ask for them."""
    done = {"prove": backup.proven_at is not None, "pin": backup.is_pinned}
    offered = (buttons.for_deed(deed, backup, may) for deed in deeds if not done.get(deed))
    return Choice(backup, [button for button in offered if button and not button.why_not])


def loss_of(typed: str) -> Loss:
    """What stands in the field for the moment of a loss, in the site's time zone."""
    if not typed:
        return Loss()
    try:
        moment = parse_datetime(typed)
    except ValueError:
        moment = None
    if moment is None or moment.year not in vault.YEARS:
        return Loss(problem=_("This moment cannot be understood: write it like 2026-05-25 14:30."))
    if timezone.is_naive(moment):
        moment = timezone.make_aware(moment)
    return Loss(f"{timezone.localtime(moment):%Y-%m-%dT%H:%M}", moment)
