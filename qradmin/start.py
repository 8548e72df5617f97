"""What has to be right before anything starts, told as lines of the log."""

from __future__ import annotations

import logging

from django.core.checks import ERROR, run_checks

from backups_app.deployment_checks import STATIC_FILES

log = logging.getLogger(__name__)


def is_refused(*, on_this_machine: bool = False, shows_pages: bool = False) -> bool:
    """Whether the start-up checks found an error; each message is logged, with its id and its hint.

    ``on_this_machine``: folders and files are looked at too, and warnings are told.
    ``shows_pages``: the static files have to be there.
    """
    asked = run_checks(include_deployment_checks=on_this_machine)
    if shows_pages:
        asked += run_checks(tags=[STATIC_FILES], include_deployment_checks=True)
    found = [one for one in asked if not one.is_silenced()]
    for message in sorted(found, key=lambda one: str(one.id)):
        if message.level >= ERROR or on_this_machine:
            log.log(message.level, "(%s) %s %s", message.id, message.msg, message.hint or "")
    return any(message.level >= ERROR for message in found)
