"""The API's container around an operation: the wish to start it again is stored before it is stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

from django.db import Error as RecordsError
from django.utils import timezone

from backups_app import config
from backups_app.errors import ContainerProblem, NotConfigured, QradminError, Refused, UnhealthyDatabase
from backups_app.models import Operation, RestoreEvent
from backups_app.operations import sightings, stages, validation
from backups_app.operations.journal import Journal, patiently
from backups_app.sentences import say
from backups_app.systems.api_container import Api, HealthReport
from backups_app.systems.postgres.health import Expectations, check_structure
from backups_app.systems.waiting import Watch, no_watch

SETTLING_SECONDS = 1.0
STAYS_AS_IT_IS = say("Whether the API runs is shown on the overview; nobody starts it by himself now.")
PROGRAM = "program"  # a leftover: migrations in the API's container, which do not end with their worker

log = logging.getLogger(__name__)


class Teller(Protocol):
    """Whoever writes into the trail of an operation: its journal, or housekeeping after its death."""

    @property
    def operation(self) -> Operation: ...

    def note(self, what: str, *, level: str = "info", **detail: Any) -> None: ...

    def stage(self, name: str, *, is_endable: bool = True) -> AbstractContextManager[None]: ...


class Downtime:
    """How long the API was down, in seconds; None while nobody stopped it, or it is down still."""

    def __init__(self) -> None:
        self._stopped_at: float | None = None
        self.seconds: float | None = None

    def begin(self) -> None:
        self._stopped_at = time.monotonic()

    def end(self, report: HealthReport | None) -> None:
        """The API came up as ``report`` says: it served before Docker's own health check was content."""
        if self._stopped_at is not None and report is not None:
            self.seconds = round(time.monotonic() - self._stopped_at - report.serving_seconds, 3)


def insist_on_managed(api: Api) -> None:
    """NotConfigured without a container, ContainerProblem when it cannot be found."""
    insist_on_setting(api)
    insist_on_reachable(api)


def insist_on_setting(api: Api) -> None:
    """NotConfigured when no container is set. The engine is not asked."""
    if not api.is_managed:
        raise NotConfigured(
            say(
                "The API is not managed: set API_CONTAINER to its container's name, or take a backup "
                "without stopping the API."
            )
        )


def insist_on_reachable(api: Api) -> None:
    """ContainerProblem when a container is set, but the engine or the container is not there."""
    if api.is_managed and not api.state().exists:
        raise sightings.missing(api.describe())


def stop(api: Api, watch: Watch = no_watch) -> None:
    """Stop it; how it is then is written down at once, as the pages ask no engine."""
    try:
        api.stop(watch)
    finally:
        sightings.look(api)


def insist_on_no_migrations(api: Api) -> None:
    """Refused while the migrations of an operation that has ended still run in the container.

    A worker that is killed cannot end them; they would change the database beside whatever comes next.
    """
    for operation in Operation.objects.exclude(state__in=Operation.ACTIVE).exclude(leftovers=[]):
        if any(api.runs(program) for program in programs_of(operation)):
            raise Refused(
                say(
                    "The migrations of {operation}, which ended early, still run in the API's container:"
                    " wait for their end, or stop and start the API, which ends them.",
                    operation=operation,
                )
            )


def programs_of(operation: Operation) -> list[str]:
    """What it began in the API's container and may not have seen the end of."""
    return [str(one["name"]) for one in operation.leftovers if one["what"] == PROGRAM]


def expectations_of_the_api() -> Expectations:
    """What a database must have before the API may start on it.

    It re-creates the tables of a database that it finds wanting. Any one revision will do: IT staff is told
    how it compares, and running the migrations needs the API's container to run.
    """
    return replace(config.expectations(), revision=None)


@contextmanager
def api_stopped(journal: Journal) -> Iterator[None]:
    """The API is stopped within this block and started in the end, whatever happens.

    An API that was not running before stays stopped. It is not stopped on a database on which it could
    not be started again.
    """
    api, downtime = config.api(), Downtime()
    insist_on_managed(api)
    if api.state().running:
        with journal.stage(stages.CHECK_WAY_BACK):
            _insist_on_a_way_back()
    if not stop_for(journal, api, downtime):
        yield
        return
    try:
        yield
    finally:
        report = bring_back(journal, api)
        downtime.end(report)
        if report is None:
            journal.keep_warnings(say("The API was not brought back yet: see the trail."))
        journal.result["downtime_seconds"] = downtime.seconds


def stop_for(journal: Journal, api: Api, downtime: Downtime) -> bool:
    """Stop the API for this operation; False when it is not managed or was not running.

    The intent is stored first: from then on housekeeping starts the API if this worker dies. An API that
    is down because such an operation died is started in the end, too.
    """
    if not api.is_managed:
        return False
    insist_on_reachable(api)
    is_owed_by_others = Operation.objects.owing_the_api().exclude(pk=journal.operation.pk).exists()
    if not is_owed_by_others and not api.state().running:
        journal.note(say("The API was not running: it stays stopped."))
        return False
    store_intent(journal.operation, is_intended=True)
    if is_owed_by_others:
        _forgive_others(
            journal.operation, say("{operation} starts the API in its end.", operation=journal.operation)
        )
    downtime.begin()
    try:
        with journal.stage(stages.STOP_API):
            stop(api, journal.watch)
            if is_owed_by_others:
                _stop_what_was_started_meanwhile(api)
    except BaseException:
        bring_back(journal, api)
        raise
    return True


def keep_stopped(journal: Journal, api: Api) -> None:
    """Stop the API once more when something has started it since `stop_for`: nothing may write now."""
    if api.state().running:
        journal.warn(say("The API was started by something else meanwhile: it is stopped again."))
        stop(api)


def api_stayed_stopped(journal: Journal, api: Api) -> bool:
    """Whether nothing has started the API since it was stopped; told, as data may have changed."""
    try:
        if not api.state().running:
            return True
    except ContainerProblem as error:
        told = say("Whether the API stayed stopped is not known: {problem}", problem=error.message)
    else:
        told = say(
            "The API was started by something else meanwhile: it may have changed data during the backup."
        )
    journal.warn(told)
    journal.keep_warnings(told)
    return False


def bring_back(
    teller: Teller, api: Api, *, is_free: Callable[[], bool] = lambda: True, watch: Watch = no_watch
) -> HealthReport | None:
    """Start the API on a validated database and wait until it is healthy; None when that did not work.

    A failure is told and leaves the intent stored: housekeeping tries again. Somebody who stops the API
    by hand meanwhile withdraws the intent, and one who takes it over makes it no longer ``is_free``.
    """
    operation = teller.operation
    try:
        if is_owed(operation):
            report = start_validated(
                teller, api, is_wanted=lambda: is_owed(operation) and is_free(), watch=watch
            )
            if report is not None or is_owed(operation):
                return report
    except QradminError as error:
        if is_owed(operation):
            teller.note(
                say(
                    "The API could not be started: {problem} It is tried again every minute.",
                    problem=error.message,
                ),
                level="error",
                log=error.detail,
            )
            return None
    tell_stays_stopped(teller)
    return None


def start_validated(
    teller: Teller, api: Api, *, is_wanted: Callable[[], bool] = lambda: True, watch: Watch = no_watch
) -> HealthReport | None:
    """Validate, start, wait until healthy. UnhealthyDatabase: the API would re-create the tables.

    The rows are not read here: they do not matter to the API's start, and it is down meanwhile.
    No cancel and no time limit ends this: the API has to come back. Whether it still ``is_wanted`` is asked
    right before it is started; None when not.
    """
    with teller.stage(stages.CHECK_BEFORE_START, is_endable=False):
        _insist_on_fitting_structure()
    if not is_wanted():
        return None
    with teller.stage(stages.START_API, is_endable=False):
        try:
            began = time.monotonic()
            api.start()
            teller.note(say("Started the API"), seconds=round(time.monotonic() - began, 3))
            sightings.look(api)
            report = api.wait_healthy(watch)
        finally:
            sightings.look(api)
    for line in report.notes:
        teller.note(line)
    teller.note(say("The API is {outcome}.", outcome=report.outcome), seconds=round(report.seconds, 3))
    _forgive(teller.operation, report)
    return report


def tell_stays_stopped(teller: Teller) -> None:
    teller.note(say("The API stays stopped, as was asked by hand meanwhile."), level="warning")


def store_intent(operation: Operation, *, is_intended: bool) -> None:
    """Whether this operation still owes the API a start; kept even when the claim is lost."""
    changes: dict[str, Any] = {"api_stop_intended": is_intended}
    if is_intended:
        changes |= {"api_stopped_at": timezone.now(), "api_retry_at": None}
    patiently(lambda: Operation.objects.filter(pk=operation.pk).update(**changes))
    for name, value in changes.items():
        setattr(operation, name, value)


def is_owed(operation: Operation) -> bool:
    """Whether this operation stopped the API, and nobody has said since that it shall stay so."""
    try:
        return patiently(lambda: Operation.objects.owing_the_api().filter(pk=operation.pk).exists())
    except RecordsError:
        return operation.api_stop_intended


def _insist_on_fitting_structure() -> None:
    """What could not be looked at, because it is locked, does not count as fitting."""
    checks = check_structure(config.managed_database(), expectations_of_the_api(), watch=no_watch)
    validation.insist_on_healthy(
        [replace(check, outcome="failed") if check.outcome == "warning" else check for check in checks]
    )


def _insist_on_a_way_back() -> None:
    try:
        _insist_on_fitting_structure()
    except UnhealthyDatabase as error:
        raise UnhealthyDatabase(
            say(
                "The API was not stopped, because it could not be started again. {problem}",
                problem=error.message,
            )
        ) from error


def _forgive(operation: Operation, report: HealthReport) -> None:
    """The API runs: neither this operation nor one that has ended owes it a start.

    For those that have ended nobody else writes down for how long it was down.
    """
    served_since = timezone.now() - timedelta(seconds=report.serving_seconds)
    try:
        for ended in Operation.objects.owing_the_api().exclude(state__in=Operation.ACTIVE):
            if ended.api_stopped_at is not None:
                _record_downtime(ended, (served_since - ended.api_stopped_at).total_seconds())
            store_intent(ended, is_intended=False)
        store_intent(operation, is_intended=False)
    except RecordsError:
        log.exception("%s: it could not be stored that the API runs; housekeeping looks again", operation)


def _record_downtime(ended: Operation, seconds: float) -> None:
    seconds = round(seconds, 3)
    Operation.objects.filter(pk=ended.pk).update(result=ended.result | {"downtime_seconds": seconds})
    RestoreEvent.objects.filter(operation=ended, downtime_seconds=None).update(downtime_seconds=seconds)


def _forgive_others(operation: Operation, why: str) -> None:
    for other in Operation.objects.owing_the_api().exclude(pk=operation.pk):
        store_intent(other, is_intended=False)
        other.note(why)


def stop_api(journal: Journal) -> None:
    """The operation: stop the API by hand; it stays stopped until somebody starts it.

    An operation that is about to start it again, or housekeeping in its place, does so no more.
    """
    api = config.api()
    insist_on_managed(api)
    _forgive_others(journal.operation, say("The API was stopped by hand: it is not started again from here."))
    journal.consequence = STAYS_AS_IT_IS
    if api.state().running:
        with journal.stage(stages.STOP_API):
            stop(api, journal.watch)
    else:
        sightings.look(api)
        journal.note(say("The API was already stopped."))
    _stop_what_was_started_meanwhile(api)
    journal.result["api"] = "stopped"


def _stop_what_was_started_meanwhile(api: Api) -> None:
    """Whoever had just asked whether the API is wanted, before that was withdrawn, has started it by now."""
    time.sleep(SETTLING_SECONDS)
    if api.state().running:
        stop(api)


def start_api(journal: Journal) -> None:
    """The operation: start the API by hand, on a validated database."""
    api = config.api()
    insist_on_managed(api)
    journal.consequence = ""
    journal.pass_the_point_of_no_return()  # nothing ends a start once it has begun
    start_validated(journal, api)
    journal.result["api"] = "running"


def migrate_database(journal: Journal) -> None:
    """The operation: run the migrations in the API's container and validate the database after them."""
    _insist_on_fitting_structure()
    journal.consequence = say("See the output in the trail for what the migrations did.")
    run_migrations(journal, config.api())
    validation.validate_database(journal)


def run_migrations(journal: Journal, api: Api) -> None:
    """Bring the live database to its newest revision; ContainerProblem with the output when that fails.

    Refused while earlier ones still run.
    """
    insist_on_managed(api)
    if not api.state().running:
        raise ContainerProblem(
            say("The migrations run in the API's container, which is stopped: start it first.")
        )
    insist_on_no_migrations(api)
    command = config.migrate_command()
    with journal.stage(stages.run(command)):
        outcome = api.run(command, watch=journal.watch, on_begin=partial(journal.will_leave, PROGRAM))
    for program in programs_of(journal.operation):
        journal.left_nothing(PROGRAM, program)
    journal.note(say("Output of the migrations"), output=outcome.output, exit_code=outcome.exit_code)
    if outcome.exit_code != 0:
        raise ContainerProblem(
            say(
                "The migrations failed with status {exit_code}; their output is in the trail.",
                exit_code=outcome.exit_code,
            ),
            detail=outcome.output,
        )
