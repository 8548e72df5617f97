"""Prove a backup: restore it into a scratch database, compare every row, drop it."""

from __future__ import annotations

import time

from django.utils import timezone

from backups_app import config
from backups_app.errors import BadBackup
from backups_app.operations import copies, sidecars, validation
from backups_app.operations.journal import UNTOUCHED, Journal
from backups_app.operations.staging import staged_copy
from backups_app.sentences import say


def prove_backup(journal: Journal) -> None:
    """The operation: a restore drill. The live database is not touched.

    BadBackup marks the backup as damaged; a fault of the surroundings says nothing about it.
    """
    backup = validation.present_backup(journal)
    journal.consequence = UNTOUCHED
    server = config.drill_database()
    is_drill = server != config.managed_database()
    began = time.monotonic()
    try:
        with staged_copy(journal, backup, server, is_drill=is_drill) as staged:
            tables = len(staged.rows)
            rows = sum(staged.rows.values())
            is_measure = staged.is_measure
    except BadBackup as error:
        copies.record_damage(backup, error)
        sidecars.write_all(journal, backup)
        raise
    seconds = round(time.monotonic() - began, 2)
    proof = {"seconds": seconds, "tables": tables, "rows": rows, "at": timezone.now().isoformat()}
    if is_drill:
        proof["server"] = f"{server.host}:{server.port}"
    if is_measure:
        proof["is_measure"] = True
    if backup.validated_at is None:
        backup.mark_validated()
    backup.mark_proven(proof)
    sidecars.write_all(journal, backup)
    journal.note(_told(seconds, rows, is_measure=is_measure), proof=proof)
    journal.result |= {"backup": backup.name, **proof}


def _told(seconds: float, rows: int, *, is_measure: bool) -> str:
    if is_measure:
        return say(
            "Restored in {seconds} s: its {rows} rows are the measure from now on, for there was nothing"
            " to compare with.",
            seconds=f"{seconds:g}",
            rows=rows,
        )
    return say("Proven restorable in {seconds} s: every row and checksum equal.", seconds=f"{seconds:g}")
