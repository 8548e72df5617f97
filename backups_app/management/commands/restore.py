"""Restore a backup."""

import sys
from argparse import ArgumentParser
from typing import Any

from backups_app import config, tasks
from backups_app.errors import EnvironmentProblem, Refused
from backups_app.management.operation_command import OperationCommand, typed_word
from backups_app.models import Backup, Operation
from backups_app.operations import revisions


class Command(OperationCommand):
    """``manage.py restore NAME --reason TEXT``."""

    help = "Replace the live database by a backup, after a safety backup; an undo brings it back."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", help="such as qrdb_20250525_143022.sql")
        parser.add_argument("--reason", required=True, help="stands in the audit history")
        parser.add_argument("--yes", action="store_true", help="do not ask for the file name again")
        parser.add_argument("--migrate", action="store_true", help="run the migrations after the restore")
        parser.add_argument(
            "--without-safety-backup",
            action="store_true",
            help="for a live database too damaged to be backed up: it is kept, renamed, until it is dropped",
        )

    def request(self, options: dict[str, Any], **who: Any) -> Operation:
        found = tasks.find_backup(options["name"])
        advice = _advice(found)
        if advice:
            sys.stderr.write(f"{advice}\n")
        if not options["yes"]:
            _confirm(found.name)
        return tasks.request_restore(
            found,
            reason=options["reason"],
            run_migrations=options["migrate"],
            without_safety_backup=options["without_safety_backup"],
            **who,
        )


def _advice(backup: Backup) -> str:
    """What there is to know about the migration revisions; nothing while the live one cannot be asked."""
    try:
        return revisions.compare_with_live(backup).advice
    except EnvironmentProblem:
        return ""


def _confirm(name: str) -> None:
    typed = typed_word(f"This replaces the database {config.managed_database()} by {name}.", "the file name")
    if typed != name:
        raise Refused("That was not the file name. Nothing was changed.")
