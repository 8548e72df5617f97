"""Check the copies of all backups."""

from typing import Any

from backups_app import tasks
from backups_app.management.operation_command import OperationCommand
from backups_app.models import Operation


class Command(OperationCommand):
    """``manage.py check_copies``."""

    help = "Read every copy where it lies, mark what is missing or damaged, and repair it from an intact one."

    def request(self, options: dict[str, Any], **who: Any) -> Operation:  # noqa: ARG002
        return tasks.request_check_copies(**who)
