"""Back up the managed database."""

from argparse import ArgumentParser
from typing import Any

from backups_app import tasks
from backups_app.management.operation_command import OperationCommand
from backups_app.models import Operation


class Command(OperationCommand):
    """``manage.py backup``."""

    help = "Back up the managed database, in this process; no worker is needed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--api-stop", action="store_true", help="stop the API while the backup is taken")
        parser.add_argument("--reason", default="", help="stands in the audit history")

    def request(self, options: dict[str, Any], **who: Any) -> Operation:
        return tasks.request_backup(stop_api=options["api_stop"], reason=options["reason"], **who)
