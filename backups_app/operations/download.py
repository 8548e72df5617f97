"""Hand out a backup's file; who took it stands in the audit history."""

from __future__ import annotations

import os
from typing import Any, BinaryIO

from django.utils.translation import gettext as _

from backups_app import config
from backups_app.errors import BadBackup, QradminError, Refused
from backups_app.models import Backup, Operation
from backups_app.operations.copies import difference, is_as_recorded
from backups_app.operations.places import PAGE_SECONDS, holding
from backups_app.sentences import say
from backups_app.systems import vault


def why_not(backup: Backup) -> str:
    """One sentence, or nothing when some copy may be handed out."""
    if not backup.is_present:
        return _("This backup has been removed.")
    try:
        configured = {spec.alias for spec in config.location_specs()}
    except QradminError as error:
        return error.message
    found = {copy.location for copy in backup.copies.all() if copy.state == copy.State.STORED}
    return "" if found & configured else _("No copy of it is known to be intact.")


def hand_out(backup: Backup, *, user: Any) -> BinaryIO:
    """The opened file of the nearest copy; a failure stands in the trail too."""
    if not backup.is_present:
        raise Refused(_("The backup %(name)s has been removed.") % {"name": backup.name})
    try:
        opened, alias = _open_nearest(backup)
    except QradminError as error:
        failure = {"error": error.message, "error_detail": error.detail}
        Operation.objects.record(
            Operation.Kind.DOWNLOAD, user=user, state=Operation.State.FAILED, backup=backup, **failure
        )
        raise
    operation = Operation.objects.record(
        Operation.Kind.DOWNLOAD, user=user, backup=backup, result={"backup": backup.name}
    )
    operation.note(say("The copy in {alias} was handed out.", alias=alias), bytes=backup.size)
    return opened


def _open_nearest(backup: Backup) -> tuple[BinaryIO, str]:
    trouble: QradminError | None = None
    for location in holding(backup):
        try:
            return _open(backup, vault.hurried(location, PAGE_SECONDS)), location.alias
        except QradminError as error:
            trouble = error
    raise trouble or BadBackup(
        say("No intact copy of {backup} lies in a configured location.", backup=backup.name)
    )


def _open(backup: Backup, location: vault.Location) -> BinaryIO:
    if not isinstance(location, vault.LocalLocation):
        return _fetched(backup, location)
    opened = location.open(backup.name)
    found = os.fstat(opened.fileno()).st_size
    if found != backup.size:
        opened.close()
        raise BadBackup(
            say("The copy in {location} differs from its record in its size.", location=location.alias),
            detail=say("Expected: {size} bytes. Found: {found} bytes.", size=backup.size, found=found),
        )
    return opened


def _fetched(backup: Backup, location: vault.Location) -> BinaryIO:
    """From afar: whole and compared first; the temporary file is gone once it is open."""
    folder = vault.scratch_path(config.upload_folder())
    vault.make_scratch(folder)
    try:
        target = folder / backup.name
        found = location.fetch(backup.name, target)
        if not is_as_recorded(backup, found):
            raise BadBackup(
                say("The copy in {location} differs from its record.", location=location.alias),
                detail=difference(backup, found),
            )
        return target.open("rb")
    finally:
        vault.remove_scratch(folder)
