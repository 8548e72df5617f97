"""List the backups."""

from argparse import ArgumentParser
from typing import Any

from django.template.defaultfilters import filesizeformat

from backups_app.management.operation_command import QradminCommand
from backups_app.models import Backup


class Command(QradminCommand):
    """``manage.py backups``."""

    help = "List the backups, newest first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--all", action="store_true", help="removed ones too")

    def answer(self, options: dict[str, Any]) -> dict[str, Any]:
        found = Backup.objects.all() if options["all"] else Backup.objects.present()
        return {"backups": [_described(backup) for backup in found.prefetch_related("copies")]}

    def show(self, answer: dict[str, Any]) -> None:
        if not answer["backups"]:
            self.stdout.write("There is no backup yet: take one with manage.py backup.")
        for backup in answer["backups"]:
            size = filesizeformat(backup["size"]).replace("\xa0", " ")
            places = ", ".join(f"{alias} {state}" for alias, state in backup["copies"].items())
            self.stdout.write(
                f"{backup['name']:44} {backup['state']:12} {size:>10} {backup['rows'] or '':>10} {places}"
            )


def _described(backup: Backup) -> dict[str, Any]:
    return {
        "name": backup.name,
        "state": backup.state,
        "origin": backup.origin,
        "created_at": backup.created_at.isoformat(),
        "size": backup.size,
        "sha256": backup.sha256,
        "rows": backup.rows,
        "revision": backup.revision or None,
        "pinned": backup.is_pinned,
        "validated_at": backup.validated_at and backup.validated_at.isoformat(),
        "proven_at": backup.proven_at and backup.proven_at.isoformat(),
        "copies": {copy.location: copy.state for copy in backup.copies.all()},
    }
