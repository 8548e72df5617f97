"""Every minute: close the records of dead workers, clean up what they left, and let nothing wait for ever."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

from django.utils import timezone

from backups_app.errors import QradminError
from backups_app.models import Operation
from backups_app.operations import interruption, leftovers, liveness, uploads
from backups_app.operations.log_lines import log_end
from backups_app.operations.masking import masked

log = logging.getLogger(__name__)


def keep_house() -> None:
    """Each duty by itself: one that fails does not keep the others from being done."""
    for duty in (
        interruption.close_dead_operations,
        leftovers.clean_up,
        interruption.resolve_interrupted_restores,
        leftovers.drop_old_replaced_databases,
        leftovers.sweep_temporary_files,
        leftovers.sweep_scratch_folders,
        uploads.sweep_forgotten,
        expire_overdue,
        liveness.forget_dead_workers,
    ):
        _do(duty)


def rescue() -> None:
    """Between two housekeepings: each worker looks every few seconds, so that the API comes back soon after
    a kill or a reboot.
    """
    if interruption.close_suspects():
        for duty in (leftovers.clean_up, interruption.resolve_interrupted_restores):
            _do(duty)


def expire_overdue() -> None:
    """And nothing waits for longer because the clock was ahead when it was asked for."""
    now = timezone.now()
    Operation.objects.pull_back(now)
    overdue = list(Operation.objects.overdue(now))
    if Operation.objects.expire_overdue(now):
        for operation in overdue:
            log_end(operation, Operation.State.EXPIRED)


def _do(duty: Callable[[], object]) -> None:
    try:
        duty()
    except QradminError as error:
        log.warning("Housekeeping, %s: %s", duty.__name__, error.message)
    except Exception:  # noqa: BLE001 - logged, without secrets
        log.error("Housekeeping, %s\n%s", duty.__name__, masked(traceback.format_exc()))  # noqa: TRY400
