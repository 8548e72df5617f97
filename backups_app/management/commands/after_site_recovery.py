"""After the site's own database was put back."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from backups_app.management.operation_command import QradminCommand
from backups_app.operations.site_recovery import after_recovery


class Command(QradminCommand):
    """``manage.py after_site_recovery``."""

    help = (
        "Call this once after the site's own database was put back, before a worker starts: it closes the"
        " operations that were open then, so that none of them is done twice, and marks the backups as"
        " removed whose files have gone since."
    )

    def answer(self, options: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        return asdict(after_recovery())

    def show(self, answer: dict[str, Any]) -> None:
        for warning in answer["warnings"]:
            self.stderr.write(self.style.WARNING(warning))
        self.stdout.write(f"Operations that were closed: {_listed(answer['closed'])}.")
        self.stdout.write(f"Backups whose files have gone, marked as removed: {_listed(answer['removed'])}.")
        self.stdout.write(f"Backups that are pinned again: {_listed(answer['pinned'])}.")
        self.stdout.write(f"Backups that were found damaged since: {_listed(answer['damaged'])}.")
        if answer["left"]:
            self.stdout.write(
                f"Databases that may be trials by now, to be dropped by hand: {_listed(answer['left'])}."
            )
        if answer["api"]:
            self.stdout.write(
                f"Operations that had stopped the API: {_listed(answer['api'])}. Look whether it runs."
            )
        self.stdout.write("Now the worker may start.")


def _listed(things: Iterable[object]) -> str:
    return ", ".join(map(str, things)) or "none"
