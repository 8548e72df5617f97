"""The records: what was asked, what came of it, and which backups there are."""

from backups_app.models.append_only import AppendOnlyError
from backups_app.models.backup import Backup, BackupCopy
from backups_app.models.operation import Operation, Step
from backups_app.models.restore import IncidentNote, RestoreEvent
from backups_app.models.sighting import ApiSighting
from backups_app.models.worker import WorkerBeat

__all__ = [
    "ApiSighting",
    "AppendOnlyError",
    "Backup",
    "BackupCopy",
    "IncidentNote",
    "Operation",
    "RestoreEvent",
    "Step",
    "WorkerBeat",
]
