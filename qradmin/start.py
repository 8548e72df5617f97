"""What has to be right before anything starts, told as lines of the log."""

from __future__ import annotations

import logging

from django.core.checks import ERROR, run_checks

log = logging.getLogger(__name__)


def is_refused(*, on_this_machine: bool = False) -> bool:
    """Whether the start-up checks found an error; each message is logged, with its id and its hint.

    ``on_this_machine``: folders and files are looked at too, and warnings are told.
    """
    found = [one for one in run_checks(include_deployment_checks=on_this_machine) if not one.is_silenced()]
    for message in sorted(found, key=lambda one: str(one.id)):
        if message.level >= ERROR or on_this_machine:
            log.log(message.level, "(%s) %s %s", message.id, message.msg, message.hint or "")
    return any(message.level >= ERROR for message in found)
