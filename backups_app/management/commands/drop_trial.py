"""Drop a trial database before its time is over."""

from argparse import ArgumentParser
from typing import Any

from backups_app import tasks
from backups_app.errors import Refused
from backups_app.management.operation_command import OperationCommand
from backups_app.models import Operation
from backups_app.sentences import say


class Command(OperationCommand):
    """``manage.py drop_trial NUMBER``."""

    help = "Drop the database that a trial restore left."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("number", type=int, help="the number of the operation that made it")

    def request(self, options: dict[str, Any], **who: Any) -> Operation:
        found = Operation.objects.trials().filter(pk=options["number"]).first()
        if found is None:
            raise Refused(say("Operation {number} has no trial database.", number=options["number"]))
        return tasks.request_drop_trial(found, **who)
