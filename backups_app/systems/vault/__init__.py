"""Backup files in and out of every storage location, checksummed."""

from backups_app.systems.vault.configured import (
    LocationSpec,
    open_location,
    parse_locations,
)
from backups_app.systems.vault.local import LocalLocation, WorkingFile, hurried, working_file
from backups_app.systems.vault.location import (
    ConnectionBroken,
    Credentials,
    Location,
    MissingCopy,
    NameTaken,
    NoDescription,
    Stored,
    StoredFile,
)
from backups_app.systems.vault.names import (
    MANAGED_NAMES,
    NAME_PATTERN,
    SITE_NAMES,
    YEARS,
    BackupName,
    Naming,
    is_name,
    make_name,
    make_site_name,
    moment_in,
    parse_name,
    prefix_for,
)
from backups_app.systems.vault.scratch import make_scratch, remove_scratch, scratch_path, sweep_scratch
from backups_app.systems.vault.streams import sha256_of
from backups_app.systems.vault.uploads import find_upload, new_upload, sweep_uploads

__all__ = [
    "MANAGED_NAMES",
    "NAME_PATTERN",
    "SITE_NAMES",
    "YEARS",
    "BackupName",
    "ConnectionBroken",
    "Credentials",
    "LocalLocation",
    "Location",
    "LocationSpec",
    "MissingCopy",
    "NameTaken",
    "Naming",
    "NoDescription",
    "Stored",
    "StoredFile",
    "WorkingFile",
    "find_upload",
    "hurried",
    "is_name",
    "make_name",
    "make_scratch",
    "make_site_name",
    "moment_in",
    "new_upload",
    "open_location",
    "parse_locations",
    "parse_name",
    "prefix_for",
    "remove_scratch",
    "scratch_path",
    "sha256_of",
    "sweep_scratch",
    "sweep_uploads",
    "working_file",
]
