"""Back up the site's own database."""

from typing import Any

from backups_app import tasks
from backups_app.management.operation_command import OperationCommand
from backups_app.models import Operation


class Command(OperationCommand):
    """``manage.py backup_site``."""

    help = "Back up this site's own database, with the audit trail, into every location."

    def request(self, options: dict[str, Any], **who: Any) -> Operation:  # noqa: ARG002
        return tasks.request_backup_site(**who)
