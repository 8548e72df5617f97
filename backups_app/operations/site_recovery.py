"""After the site's own database was put back to an earlier state: nothing of that time is started again."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from backups_app.models import Operation

WHY = (
    "It was open when the site's own database was backed up, and that backup has been put back since:"
    " what became of it is not known, and it is not started again."
)


def close_open_operations() -> list[int]:
    """Close every operation that waits or runs by the record, and empty the queue; their ids.

    Call it while no worker runs: a restore that waited then may have been done long ago.
    """
    from django_q.models import OrmQ

    closed = []
    with transaction.atomic():
        OrmQ.objects.all().delete()
        for operation in Operation.objects.active().order_by("pk"):
            Operation.objects.filter(pk=operation.pk).update(
                state=Operation.State.INTERRUPTED, finished_at=timezone.now(), error=WHY
            )
            operation.note("Closed after the site's own database was put back.", level="warning")
            closed.append(operation.pk)
    return closed
