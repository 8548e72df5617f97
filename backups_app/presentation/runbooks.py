"""Runbooks: what to do, step by step, with the present state and the buttons beside the words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial, reduce
from operator import or_
from typing import Any

from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backups_app import config
from backups_app.models import Backup, Operation
from backups_app.operations import diagnosis, preview
from backups_app.presentation import buttons, overview, recipes, trials
from backups_app.presentation.buttons import Button, May
from backups_app.presentation.days import BAD
from backups_app.presentation.standing import standing
from backups_app.systems import vault

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
    ``looks_around`` and ``looks_live`` what is looked at on the spot, ``shows_faults`` damaged backups.
    """

    slug: str
    title: str | Promise
    when: str | Promise
    deeds: tuple[str, ...] = ("restore",)
    uses_api: bool = False
    looks_around: bool = False
    looks_live: bool = False
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

    now, loss = standing(), loss_of(asked.get("before", ""))
    choose = partial(_choice, may=may)
    chosen, safety, broken = of_interest(before=loss.moment, with_broken=runbook.shows_faults)
    latest = next((one for one in chosen if one.is_good), None)
    pinned = [one for one in chosen if one.is_pinned]
    there = trials.kept(may) if {"trial", "pin"}.intersection(runbook.deeds) else []
    subject = next(iter([*pinned, *chosen] if "pin" in runbook.deeds else chosen), None)
    place = recipes.here(subject, trial=there[0].database if there else "")
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
        "blocking": diagnosis.blocking_sessions() if runbook.slug == "hung-backup" else None,
        "findings": diagnosis.look_around() if runbook.looks_around else [],
        "live": preview.look_at_live(counts_rows=False) if runbook.looks_live else None,
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


def of_interest(
    *, before: datetime | None = None, with_broken: bool = False
) -> tuple[list[Backup], list[Backup], list[Backup]]:
    """What is worth a restore, what was taken before one, and the damaged ones; each the newest first.

    The first are the newest validated backups, the newest proven one and every pinned one; with ``before``
    those whose data are older than that moment. One that was taken before a restore holds the very state
    that somebody wanted to be rid of, so these are apart.
    """
    backups = Backup.objects.present().order_by("-created_at", "-pk")
    sound = backups.filter(damage="")
    if before is not None:
        sound = sound.filter(created_at__lt=before)
    of_safety = Q(origin=Backup.Origin.SAFETY)
    good = sound.validated()
    some = [
        good.exclude(of_safety)[:SHOWN],
        good.exclude(of_safety).filter(proven_at__isnull=False)[:1],
        good.filter(of_safety)[:SAFETY_SHOWN],
        sound.filter(is_pinned=True)[:PINNED_SHOWN],
    ]
    if with_broken:
        some.append(backups.exclude(damage="")[:SHOWN])
    wanted = reduce(or_, (Q(pk__in=few.values("pk")) for few in some))
    heavy = ("proof",) if before else ("manifest", "proof")
    found = list(backups.filter(wanted).defer(*heavy).prefetch_related("copies"))
    broken = [one for one in found if one.damage]
    older = [one for one in found if not one.damage and (before is None or one.snapshot_at < before)]
    safety = [one for one in older if one.origin == Backup.Origin.SAFETY]
    return [one for one in older if one not in safety], safety, broken


def _choice(backup: Backup, *, may: May, deeds: Sequence[str]) -> Choice:
    """With the buttons of these deeds, as far as its state and this person's permissions ask for them."""
    offered = [*buttons.for_backup(backup, may), buttons.restore(backup, may)]
    # a button's address ends with its deed
    found = {one.url.split("/")[-2]: one for one in offered if one and not one.why_not}
    done = {"prove": backup.proven_at is not None, "pin": backup.is_pinned}
    return Choice(backup, [found[deed] for deed in deeds if deed in found and not done.get(deed)])


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
