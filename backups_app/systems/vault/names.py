"""Names of backup files: made, read, and the only names that are ever opened, listed or removed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from backups_app.errors import Refused
from backups_app.sentences import say

SAFETY_MARK = "_before_restore"
SIDECAR_SUFFIX = ".json"
CHECK_PREFIX = ".qradmin-check-"
NAME_PATTERN = re.compile(
    r"(?P<prefix>[A-Za-z0-9_][A-Za-z0-9_-]{0,62})"
    r"_(?P<moment>[0-9]{8}_[0-9]{6})"
    rf"(?P<safety>{SAFETY_MARK})?\.sql"
)
# Backups of this site's own database: their endings keep them apart from those of a managed database,
# whatever that is called.
SITE_PATTERN = re.compile(r"qradmin_site_(?P<moment>[0-9]{8}_[0-9]{6})\.(?:sqlite3|dump)")
_TEMPORARY_PATTERN = re.compile(r"\.(?P<name>.+\.(?:sql|sqlite3|dump))(?:\.json)?(?:\.[0-9a-f]{8})?\.part")
_CHECK_PATTERN = re.compile(re.escape(CHECK_PREFIX) + "[0-9a-f]{16}")
_MOMENT_FORMAT = "%Y%m%d_%H%M%S"
# Of what becomes a backup. Another year is a mistake; the first and the last have no local time everywhere.
YEARS = range(1970, 2200)


@dataclass(frozen=True)
class BackupName:
    """The parts of a backup file's name; ``moment`` is UTC, to the second."""

    prefix: str
    moment: datetime
    is_safety: bool

    def __str__(self) -> str:
        mark = SAFETY_MARK if self.is_safety else ""
        return f"{self.prefix}_{self.moment.strftime(_MOMENT_FORMAT)}{mark}.sql"


def prefix_for(database: str) -> str:
    """The prefix for a database's name: anything but letters, digits, _ and - becomes an underscore."""
    prefix = re.sub(r"[^A-Za-z0-9_-]", "_", database)[:63]
    if prefix.startswith("-"):
        prefix = "_" + prefix[1:]
    return prefix or "_"


def make_name(prefix: str, moment: datetime, *, safety: bool = False) -> str:
    """The file name of a backup taken at ``moment``, which must be aware; the name says UTC."""
    if moment.tzinfo is None:
        raise ValueError("a backup's name needs an aware time")
    moment = moment.astimezone(UTC).replace(microsecond=0)
    return str(BackupName(prefix=prefix_for(prefix), moment=moment, is_safety=safety))


def parse_name(name: str) -> BackupName:
    """The parts of ``name``; Refused when it is not exactly a backup's file name."""
    match = NAME_PATTERN.fullmatch(name)
    moment = _moment(match["moment"]) if match else None
    if match is None or moment is None or moment.year not in YEARS:
        raise Refused(
            say(
                "{name} is not the name of a backup file: it has to look like {example}.",
                name=f"{name!a:.120}",
                example="qrdb_20250525_143022.sql",
            )
        )
    return BackupName(prefix=match["prefix"], moment=moment, is_safety=bool(match["safety"]))


def is_name(name: str) -> bool:
    """Whether ``name`` is exactly a backup's file name."""
    try:
        parse_name(name)
    except Refused:
        return False
    return True


@dataclass(frozen=True)
class Naming:
    """One family of file names: a location that is opened with it sees and touches no others.

    Any year fits: what was once recorded is still read, and removed when its time comes.
    """

    pattern: re.Pattern[str]
    example: str

    def fits(self, name: str) -> bool:
        """Whether ``name`` is exactly such a name."""
        match = self.pattern.fullmatch(name)
        return bool(match and _moment(match["moment"]))

    def insist_on(self, name: str) -> None:
        """Refused when it is not."""
        if not self.fits(name):
            raise Refused(
                say(
                    "{name} is not the name of a backup file: it has to look like {example}.",
                    name=f"{name!a:.120}",
                    example=self.example,
                )
            )


MANAGED_NAMES = Naming(NAME_PATTERN, "qrdb_20250525_143022.sql")
SITE_NAMES = Naming(SITE_PATTERN, "qradmin_site_20250525_143022.sqlite3")


def make_site_name(moment: datetime, suffix: str) -> str:
    """The file name of a backup of the site's own database; ``suffix`` is sqlite3 or dump."""
    name = f"qradmin_site_{moment.astimezone(UTC).strftime(_MOMENT_FORMAT)}.{suffix}"
    SITE_NAMES.insist_on(name)
    return name


def moment_in(name: str) -> datetime:
    """The time in a name of either kind, in UTC; Refused when it is none."""
    match = NAME_PATTERN.fullmatch(name) or SITE_PATTERN.fullmatch(name)
    moment = _moment(match["moment"]) if match else None
    if moment is None:
        raise Refused(say("{name} is not the name of a backup file.", name=f"{name!a:.120}"))
    return moment


def is_ours(name: str) -> bool:
    """Whether a file of that name can be a backup of either kind."""
    return MANAGED_NAMES.fits(name) or SITE_NAMES.fits(name)


def name_behind(temporary: str) -> str | None:
    """The backup file's name that a temporary name of the vault's own making stands for.

    A location's own probe stands for itself; None for any other name.
    """
    match = _TEMPORARY_PATTERN.fullmatch(temporary)
    if match and is_ours(match["name"]):
        return match["name"]
    return temporary if _CHECK_PATTERN.fullmatch(temporary) else None


def _moment(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, _MOMENT_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
