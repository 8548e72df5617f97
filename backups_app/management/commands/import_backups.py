"""Import backups that lie in the locations."""

from argparse import ArgumentParser
from typing import Any

from backups_app import tasks
from backups_app.management.operation_command import OperationCommand
from backups_app.models import Operation


class Command(OperationCommand):
    """``manage.py import_backups``."""

    help = (
        "Judge the files in the locations that are not in the list, and adopt the intact backups among them."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--dry-run", action="store_true", help="only say what would be adopted")

    def request(self, options: dict[str, Any], **who: Any) -> Operation:
        return tasks.request_import(dry_run=options["dry_run"], **who)
