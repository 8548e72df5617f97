"""The queue's broker: django-q2's own, but a message is gone as soon as it is fetched."""

from __future__ import annotations

import os
from time import sleep

from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.conf import Conf
from django_q.signing import SignedPackage

from backups_app.operations import liveness


class AtMostOnceBroker(ORM):  # type: ignore[misc]
    """Delivers a message once or never, so that nothing dangerous is delivered again.

    One conditional DELETE decides which cluster has a message. What is lost when a worker dies stands
    in the Operation row, and housekeeping sends it again when nobody has started it.
    """

    _is_guarding = False

    def dequeue(self) -> list[tuple[int, str]] | None:
        queue = self.get_connection()
        due = queue.filter(key=self.list_key, lock__lte=timezone.now()).order_by("pk")[: Conf.BULK]
        fetched = [(row.pk, row.payload) for row in due if queue.filter(pk=row.pk).delete()[0]]
        if not fetched:
            sleep(Conf.POLL)
        return fetched or None

    def set_stat(self, key: str, value: str, timeout: int) -> None:
        """Called by the cluster's guard alone: before it makes its processes, then twice a second.

        Its processes shall not outlive it, and the workers shall know when it stops.
        """
        if not self._is_guarding:
            self._is_guarding = True
            os.register_at_fork(after_in_child=liveness.end_with_parent)
        if SignedPackage.loads(value).status == Conf.STOPPING:
            liveness.announce_stop()
        super().set_stat(key, value, timeout)
