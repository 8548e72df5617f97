"""The schedules that the site needs, made after each migrate and never changed once they exist."""

from __future__ import annotations

from typing import Any

HOUSEKEEPING = "Housekeeping"


def make_schedules(**_signal: Any) -> None:
    """Make what is missing, by name; an operator's times and pauses survive."""
    from django.utils import timezone
    from django_q.models import Schedule

    Schedule.objects.get_or_create(
        name=HOUSEKEEPING,
        defaults={
            "func": "backups_app.tasks.keep_house",
            "schedule_type": Schedule.MINUTES,
            "minutes": 1,
            "next_run": timezone.now(),
        },
    )
