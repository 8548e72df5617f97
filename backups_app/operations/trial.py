"""Restore a backup into a database of its own beside the live one: for a trial, or to fetch single rows."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from backups_app import config
from backups_app.errors import Refused
from backups_app.models import Operation
from backups_app.operations import validation
from backups_app.operations.journal import UNTOUCHED, Journal
from backups_app.operations.staging import staged_copy
from backups_app.sentences import say
from backups_app.systems.postgres import databases

TRIAL = "trial"


def restore_into_trial(journal: Journal) -> None:
    """The operation: a backup restored and compared as for a restore, and then kept apart for a while.

    The database belongs to the live one's owner, so that new migrations can be run in it. Housekeeping drops
    it when its time is over; until then it stands in the ``leftovers`` of this operation.
    """
    backup = validation.present_backup(journal)
    journal.consequence = UNTOUCHED
    server = config.managed_database()
    with staged_copy(journal, backup, server, is_drill=False, purpose=TRIAL) as staged:
        journal.confirm()
        name = staged.server.database
        kept_until = timezone.now() + config.keep_trials_for()
        journal.will_leave(TRIAL, name, kept_until=kept_until.isoformat())
        journal.left_nothing("database", name)
        staged.keep()
    journal.consequence = say("The live database was not touched; {name} is kept.", name=name)
    rows = sum(staged.rows.values())
    if staged.is_measure:
        told = say(
            "The backup lies in the database {name} now, with {rows} rows; there was nothing to compare them"
            " with.",
            name=name,
            rows=rows,
        )
    else:
        told = say("The backup lies in the database {name} now, every row and checksum equal.", name=name)
    journal.note(told)
    journal.result |= {
        "backup": backup.name,
        "database": name,
        "kept_until": kept_until.isoformat(),
        "rows": rows,
        "revision": staged.revision,
    }


def validate_trial(journal: Journal) -> None:
    """The operation: the checks of the live database, on a trial; they say nothing of the live one."""
    trial = _trial_of(journal)
    journal.consequence = say("The database was only read.")
    server = config.managed_database().at(name_of(trial))
    with journal.stage(say("Check the trial database")):
        checks = validation.checks_of(journal, server)
    validation.insist_on_healthy(checks)


def drop_trial(journal: Journal) -> None:
    """The operation: drop a trial before its time is over."""
    trial = _trial_of(journal)
    name = name_of(trial)
    journal.consequence = UNTOUCHED
    with journal.stage(say("Drop the trial database")):
        databases.drop(config.managed_database(), name)
    forget(trial)
    journal.result["database"] = name


def name_of(trial: Operation) -> str:
    """The database of a trial; Refused when it is gone."""
    for leftover in trial.leftovers:
        if leftover["what"] == TRIAL:
            return str(leftover["name"])
    raise Refused(say("The database of {trial} has been dropped.", trial=trial))


def forget(trial: Operation) -> None:
    """Its database is gone."""
    trial.leftovers = [one for one in trial.leftovers if one["what"] != TRIAL]
    Operation.objects.filter(pk=trial.pk).update(leftovers=trial.leftovers)


def is_kept(leftover: dict[str, Any]) -> bool:
    """Whether this is a trial whose time is not over."""
    return leftover["what"] == TRIAL and str(leftover["kept_until"]) > timezone.now().isoformat()


def _trial_of(journal: Journal) -> Operation:
    trial = Operation.objects.trials().filter(pk=journal.operation.parameters.get("trial")).first()
    if trial is None:
        raise Refused(say("This trial database has been dropped."))
    return trial
