"""The queue's brokers: django-q2's own, but a message is gone as soon as it is fetched."""

from __future__ import annotations

import os
from time import sleep
from typing import Any

import redis
from django_q.brokers import Broker
from django_q.brokers.orm import ORM
from django_q.brokers.redis_broker import Redis
from django_q.conf import Conf
from django_q.signing import SignedPackage

from backups_app.operations import liveness


class GuardedBroker(Broker):  # type: ignore[misc]
    """Tells the cluster's processes what their guard knows: that it lives, and that it is to stop."""

    _is_guarding = False

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


class AtMostOnceBroker(GuardedBroker, ORM):  # type: ignore[misc]
    """The site's own database as the queue. Delivers a message once or never.

    None is meant for later, so the time at which it was sent is not looked at: the clock may have been set
    back since then. One conditional DELETE decides which cluster has a message. What is lost when a worker
    dies stands in the Operation row, and housekeeping sends it again when nobody has started it.
    """

    def dequeue(self) -> list[tuple[int, str]] | None:
        queue = self.get_connection()
        waiting = queue.filter(key=self.list_key).order_by("pk")[: Conf.BULK]
        fetched = [(row.pk, row.payload) for row in waiting if queue.filter(pk=row.pk).delete()[0]]
        if not fetched:
            sleep(Conf.POLL)
        return fetched or None


class RedisBroker(GuardedBroker, Redis):  # type: ignore[misc]
    """A Redis server as the queue: BLPOP, too, gives a message to one cluster and forgets it."""

    @staticmethod
    def get_connection(list_key: str | None = None) -> Any:  # noqa: ARG004
        """A dead server is noticed within seconds: BLPOP itself waits for one."""
        return redis.from_url(Conf.REDIS, socket_connect_timeout=5, socket_timeout=10)
