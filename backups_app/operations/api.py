"""The API's container around an operation: the wish to start it again is stored before it is stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from backups_app import config
from backups_app.errors import ContainerProblem, NotConfigured, QradminError
from backups_app.models import Operation
from backups_app.operations import validation
from backups_app.operations.journal import Journal
from backups_app.systems.api_container import Api
from backups_app.systems.postgres.health import check_database
from backups_app.systems.processes import no_watch


class Teller(Protocol):
    """Whoever writes into the trail of an operation: its journal, or housekeeping after its death."""

    @property
    def operation(self) -> Operation: ...

    def note(self, what: str, *, level: str = "info", **detail: Any) -> None: ...


class Downtime:
    """How long the API was down, in seconds; None while nobody stopped it."""

    def __init__(self) -> None:
        self._stopped_at: float | None = None
        self.seconds: float | None = None

    def begin(self) -> None:
        self._stopped_at = time.monotonic()

    def end(self) -> None:
        if self._stopped_at is not None:
            self.seconds = round(time.monotonic() - self._stopped_at, 3)


def insist_on_managed(api: Api) -> None:
    """NotConfigured without a container, ContainerProblem when it cannot be found."""
    if not api.is_managed:
        raise NotConfigured(
            "The API is not managed: set API_CONTAINER to its container's name,"
            " or take a backup without stopping the API."
        )
    if not api.state().exists:
        raise ContainerProblem(f"There is no container {api.describe()}: check API_CONTAINER.")


@contextmanager
def api_stopped(journal: Journal) -> Iterator[None]:
    """The API is stopped within this block and started in the end, whatever happens.

    An API that was not running before stays stopped.
    """
    api = config.api()
    insist_on_managed(api)
    if not stop_for(journal, api, Downtime()):
        yield
        return
    try:
        yield
    finally:
        bring_back(journal, api)


def stop_for(journal: Journal, api: Api, downtime: Downtime) -> bool:
    """Stop the API for this operation; False when it is not managed or was not running.

    The intent is stored first: from then on housekeeping starts the API if this worker dies.
    """
    if not api.is_managed:
        return False
    if not api.state().running:
        journal.note("The API was not running: it stays stopped.")
        return False
    store_intent(journal.operation, is_intended=True)
    downtime.begin()
    try:
        with journal.stage("Stop the API"):
            api.stop(journal.watch)
    except BaseException:
        bring_back(journal, api)
        raise
    return True


def bring_back(teller: Teller, api: Api) -> bool:
    """Start the API on a validated database and wait until it is healthy; whether that worked.

    A failure is told and leaves the intent stored: housekeeping tries again.
    """
    try:
        start_validated(teller, api)
    except QradminError as error:
        teller.note(
            f"The API could not be started: {error.message} It is tried again every minute.", level="error"
        )
        return False
    return True


def start_validated(teller: Teller, api: Api) -> None:
    """Validate, start, wait until healthy. UnhealthyDatabase: the API would re-create the tables.

    No cancel and no time limit ends this: the API has to come back.
    """
    validation.insist_on_healthy(
        check_database(config.managed_database(), config.expectations(), watch=no_watch)
    )
    began = time.monotonic()
    api.start()
    teller.note("Started the API", seconds=round(time.monotonic() - began, 3))
    report = api.wait_healthy(no_watch)
    for line in report.notes:
        teller.note(line)
    teller.note(f"The API is {report.outcome}.", seconds=report.seconds)
    store_intent(teller.operation, is_intended=False)


def store_intent(operation: Operation, *, is_intended: bool) -> None:
    """Whether this operation still owes the API a start; kept even when the claim is lost."""
    Operation.objects.filter(pk=operation.pk).update(api_stop_intended=is_intended)
    operation.api_stop_intended = is_intended


def stop_api(journal: Journal) -> None:
    """The operation: stop the API by hand; it stays stopped until somebody starts it."""
    api = config.api()
    insist_on_managed(api)
    if not api.state().running:
        journal.note("The API was already stopped.")
        return
    with journal.stage("Stop the API"):
        api.stop(journal.watch)
    journal.consequence = "The API is stopped."


def start_api(journal: Journal) -> None:
    """The operation: start the API by hand, on a validated database."""
    api = config.api()
    insist_on_managed(api)
    start_validated(journal, api)


def migrate_database(journal: Journal) -> None:
    """The operation: run the migrations in the API's container and validate the database after them."""
    journal.consequence = "See the output in the trail for what the migrations did."
    run_migrations(journal, config.api())
    validation.validate_database(journal)


def run_migrations(journal: Journal, api: Api) -> None:
    """Bring the live database to its newest revision; ContainerProblem with the output when that fails."""
    insist_on_managed(api)
    command = config.migrate_command()
    with journal.stage(f"Run {' '.join(command)}"):
        outcome = api.run(command, watch=journal.watch)
    journal.note("Output of the migrations", output=outcome.output, exit_code=outcome.exit_code)
    if outcome.exit_code != 0:
        raise ContainerProblem(
            f"The migrations failed with status {outcome.exit_code}; their output is in the trail.",
            detail=outcome.output,
        )
