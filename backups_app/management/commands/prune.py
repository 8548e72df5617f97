"""Remove the backups that are no longer needed."""

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from backups_app import tasks
from backups_app.management.operation_command import OperationCommand
from backups_app.models import Operation
from backups_app.operations import retention


class Command(OperationCommand):
    """``manage.py prune``."""

    help = "Remove the backups that are no longer needed, each for a reason; --dry-run only says which."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--dry-run", action="store_true", help="only say what would go and why")

    def request(self, options: dict[str, Any], **who: Any) -> Operation:  # noqa: ARG002
        return tasks.request_prune(**who)

    def answer(self, options: dict[str, Any]) -> dict[str, Any]:
        self.is_dry_run = options["dry_run"]
        if not self.is_dry_run:
            return super().answer(options)
        plan = retention.plan()
        return {
            "frozen": plan.frozen,
            "unseen": plan.unseen,
            "decisions": [asdict(decision) for decision in plan.decisions],
        }

    def show(self, answer: dict[str, Any]) -> None:
        if not self.is_dry_run:
            super().show(answer)
            return
        for reason in filter(None, (*answer["unseen"], answer["frozen"])):
            self.stdout.write(self.style.WARNING(reason))
        for decision in answer["decisions"]:
            verb = "would go" if decision["goes"] else "stays   "
            self.stdout.write(f"{verb}  {decision['name']}  {decision['reason']}")

    def status(self, answer: dict[str, Any]) -> int:
        return 0 if self.is_dry_run else super().status(answer)
