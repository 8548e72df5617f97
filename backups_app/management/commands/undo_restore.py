"""Undo a restore."""

from argparse import ArgumentParser
from typing import Any

from django.utils import timezone

from backups_app import tasks
from backups_app.errors import Refused
from backups_app.management.operation_command import OperationCommand, typed_word
from backups_app.models import Operation, RestoreEvent


class Command(OperationCommand):
    """``manage.py undo_restore [NUMBER]``."""

    help = "Swap the database that a restore replaced back in: the last restore, or the one of that number."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "number", nargs="?", type=int, help="the restore's number; the last one if left out"
        )
        parser.add_argument(
            "--reason", default="Undone at the command line", help="stands in the audit history"
        )
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def request(self, options: dict[str, Any], **who: Any) -> Operation:
        event = _event(options["number"])
        if not options["yes"]:
            _confirm(event)
        return tasks.request_undo_restore(event, reason=options["reason"], **who)


def _event(number: int | None) -> RestoreEvent:
    if number is None:
        event = RestoreEvent.objects.undoable(timezone.now()).first()
        if event is None:
            raise Refused("There is no restore that can be undone.")
        return event
    found = RestoreEvent.objects.filter(pk=number).first()
    if found is None:
        raise Refused(f"There is no restore {number}.")
    return found


def _confirm(event: RestoreEvent) -> None:
    if typed_word(f"This brings back the database {event.replaced_database}.", "undo") != "undo":
        raise Refused("Nothing was changed.")
