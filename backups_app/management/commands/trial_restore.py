"""Restore one backup into a trial database."""

from argparse import ArgumentParser
from typing import Any

from backups_app import tasks
from backups_app.management.operation_command import OperationCommand
from backups_app.models import Operation


class Command(OperationCommand):
    """``manage.py trial_restore NAME``."""

    help = "Restore the backup into a database of its own beside the live one, which is kept for a while."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", help="such as qrdb_20250525_143022.sql")

    def request(self, options: dict[str, Any], **who: Any) -> Operation:
        return tasks.request_trial(tasks.find_backup(options["name"]), **who)
