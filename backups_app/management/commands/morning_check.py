"""Would a backup be there today if it were needed?"""

import logging
import traceback
from typing import Any

from django.core.management.base import SystemCheckError
from django.db import DatabaseError, InterfaceError

from backups_app.errors import QradminError
from backups_app.management.operation_command import QradminCommand
from backups_app.operations.masking import masked
from backups_app.presentation import morning
from backups_app.presentation.morning import Finding, Severity
from backups_app.presentation.standing import standing
from backups_app.sentences import say

log = logging.getLogger(__name__)


class Command(QradminCommand):
    """``manage.py morning_check``."""

    help = "Look whether everything is in order. Exit status: 0 all is, 1 warnings, 2 an alarm or no answer."
    failure_status = int(Severity.CRITICAL)

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Settings in which the site does not start are an alarm, too, and not a mere warning."""
        try:
            return super().execute(*args, **options)
        except SystemCheckError as error:
            error.returncode = self.failure_status
            raise

    def answer(self, options: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        findings = _findings()
        return {
            "severity": morning.worst(findings).name.lower(),
            "summary": morning.summary(findings),
            "checks": [
                {
                    "name": finding.name,
                    "title": finding.title,
                    "severity": finding.severity.name.lower(),
                    "message": finding.message,
                }
                for finding in findings
            ],
        }

    def show(self, answer: dict[str, Any]) -> None:
        style = {"ok": self.style.SUCCESS, "warning": self.style.WARNING, "critical": self.style.ERROR}
        for check in answer["checks"]:
            severity = style[check["severity"]](f"{check['severity'].upper():8}")
            self.stdout.write(f"{severity}  {check['title']}: {check['message']}")

    def status(self, answer: dict[str, Any]) -> int:
        return int(Severity[answer["severity"].upper()])


def _findings() -> list[Finding]:
    """Whatever keeps it from being judged is told in a sentence; a traceback would end with status 1."""
    try:
        return morning.judge(standing())
    except (QradminError, DatabaseError, InterfaceError):
        raise
    except Exception as error:
        log.error("The morning check: %s", masked(traceback.format_exc()))  # noqa: TRY400 - without secrets
        raise QradminError(
            say(
                "How things stand could not be found out ({reason}): look into the log.",
                reason=type(error).__name__,
            )
        ) from error
