"""Would a backup be there today if it were needed?"""

from typing import Any

from backups_app.management.operation_command import QradminCommand
from backups_app.presentation import morning
from backups_app.presentation.morning import Severity
from backups_app.presentation.standing import standing


class Command(QradminCommand):
    """``manage.py morning_check``."""

    help = "Look whether everything is in order. Exit status: 0 all is, 1 warnings, 2 an alarm or no answer."
    failure_status = int(Severity.CRITICAL)

    def answer(self, options: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        findings = morning.judge(standing())
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
