"""Bring the API back for an operation that ended while it still owed it a start."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from backups_app import config
from backups_app.errors import ClaimLost
from backups_app.models import Operation, RestoreEvent
from backups_app.models.operation import LONGEST_HOLD
from backups_app.operations import api as api_lifecycle
from backups_app.operations import restore
from backups_app.operations.aftermath import Aftermath
from backups_app.sentences import say
from backups_app.systems.api_container import Api, HealthReport
from backups_app.systems.postgres import databases

HELD_FOR = timedelta(seconds=30)
RETRY_AFTER = LONGEST_HOLD


def start_the_api_again() -> None:
    """For the last operation that ended while it still owed the API a start; at most once a minute.

    This waits for minutes where the API does not get well, so it has a thread of its own beside each
    worker's sign of life, and no place in the queue.
    """
    api = config.api()
    debts = Operation.objects.owing_the_api().exclude(state__in=Operation.ACTIVE)
    if not api.is_managed:
        for operation in debts:
            teller = Aftermath(operation)
            teller.note(say("The API is no longer managed: nobody starts it from here."), level="warning")
            api_lifecycle.store_intent(operation, is_intended=False)
        return
    newest = debts.first()
    if newest is not None and not _is_another_at_work(newest):
        _start_the_api_for(newest, api)


def _start_the_api_for(operation: Operation, api: Api) -> None:
    """One try by one worker. If that dies meanwhile, another one may try half a minute later."""
    began = timezone.now()
    held_until = began + HELD_FOR
    if not Operation.objects.take_api_start(operation.pk, began, until=held_until):
        return

    def hold_on() -> None:
        nonlocal held_until
        now = timezone.now()
        if held_until - now < HELD_FOR / 2:
            held_until = now + HELD_FOR
            Operation.objects.owing_the_api().filter(pk=operation.pk).update(api_retry_at=held_until)

    def bring_back() -> HealthReport | None:
        return api_lifecycle.bring_back(
            teller, api, is_free=lambda: not _is_another_at_work(operation), watch=hold_on
        )

    teller = Aftermath(operation)
    teller.note(say("Starting the API again, which this operation had stopped."))
    try:
        if bring_back() is None and _swap_back_for(operation, teller, api):
            bring_back()
    finally:
        mine = Operation.objects.owing_the_api().filter(pk=operation.pk)
        mine.update(api_retry_at=max(began + RETRY_AFTER, timezone.now()))


def _swap_back_for(operation: Operation, teller: Aftermath, api: Api) -> bool:
    """What the dead restore would have done: the API does not get well on the restored database.

    Not while the engine does not answer, which says nothing of the database, and not beside other work.
    """
    event = RestoreEvent.objects.filter(operation=operation, outcome=RestoreEvent.Outcome.RESTORED).first()
    if event is None or operation.state != Operation.State.INTERRUPTED or not event.replaced_database:
        return False
    is_busy = Operation.objects.running().filter(is_exclusive=True).exists()
    if is_busy or not api_lifecycle.is_owed(operation) or not api.state().exists:
        return False
    if event.undoes is None:
        operation.leftovers.append({"what": "database", "name": event.staged_database, "is_drill": False})
        Operation.objects.filter(pk=operation.pk).update(leftovers=operation.leftovers)
    restore.swap_back(
        teller,
        event,
        config.managed_database(),
        api,
        # Not the operation's name: what bears that is ended by any worker that cleans up after it.
        application_name=databases.APPLICATION_NAME,
        before_commit=lambda: _insist_on_debt(operation),
    )
    return True


def _insist_on_debt(operation: Operation) -> None:
    if not api_lifecycle.is_owed(operation):
        raise ClaimLost(say("Somebody else has brought the API back meanwhile: nothing is swapped back."))


def _is_another_at_work(operation: Operation) -> bool:
    """Another operation may have stopped the API for itself: it starts it again."""
    return Operation.objects.running().filter(api_stop_intended=True).exclude(pk=operation.pk).exists()
