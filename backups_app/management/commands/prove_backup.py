"""Prove one backup by a test restore."""

from argparse import ArgumentParser
from typing import Any

from backups_app import tasks
from backups_app.management.operation_command import OperationCommand
from backups_app.models import Operation


class Command(OperationCommand):
    """``manage.py prove_backup NAME``."""

    help = "Restore the backup into a scratch database, compare every row and checksum, and drop it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", help="such as qrdb_20250525_143022.sql")

    def request(self, options: dict[str, Any], **who: Any) -> Operation:
        return tasks.request_prove_backup(tasks.find_backup(options["name"]), **who)
