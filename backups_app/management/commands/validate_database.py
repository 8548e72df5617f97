"""Validate the live database."""

from typing import Any

from backups_app import tasks
from backups_app.management.operation_command import OperationCommand
from backups_app.models import Operation


class Command(OperationCommand):
    """``manage.py validate_database``."""

    help = "Check the live database: connection, revision, tables, columns and the integrity of its data."

    def request(self, options: dict[str, Any], **who: Any) -> Operation:  # noqa: ARG002
        return tasks.request_validate_database(**who)
