"""After the site's own database was put back."""

from typing import Any

from backups_app.management.operation_command import QradminCommand
from backups_app.operations.site_recovery import close_open_operations


class Command(QradminCommand):
    """``manage.py after_site_recovery``."""

    help = (
        "Call this once after the site's own database was put back, before a worker starts: it closes the"
        " operations that were open then, so that none of them is done twice."
    )

    def answer(self, options: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        return {"closed": close_open_operations()}

    def show(self, answer: dict[str, Any]) -> None:
        closed = ", ".join(str(number) for number in answer["closed"]) or "none"
        self.stdout.write(f"Operations that were closed: {closed}. Now the worker may start.")
