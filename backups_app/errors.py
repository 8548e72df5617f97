"""What can go wrong, as one tree.

QradminError                 one plain sentence for the operator; ``detail`` for the log
├── Refused                  the request cannot be carried out as asked; nothing was started
│   ├── UnknownBackup        no backup of that name is in the catalogue
│   ├── Busy                 another operation is at work
│   └── NotConfigured        a setting that this needs is missing or wrong
├── BadBackup                the backup itself is at fault: changed, cut short, foreign, or its rows differ
├── EnvironmentProblem       the surroundings are at fault, not the backup
│   ├── ServerUnavailable    PostgreSQL cannot be reached, or refuses the login
│   ├── MissingPrivilege     PostgreSQL was reached, but this role may not do it
│   ├── MissingClient        no fitting pg_dump or pg_restore on this machine
│   ├── NoSpace              a disk or a bucket is full
│   ├── StorageProblem       a storage location is missing, read-only or out of reach
│   ├── ContainerProblem     Docker, the API's container or its health
│   └── ProgramFailed        a client program ended with an error of its own
├── UnhealthyDatabase        the managed database failed one of its checks
└── Stopped                  the work was ended before it was done
    ├── Cancelled            an operator asked for it
    ├── TimeLimitReached     it took longer than its limit
    ├── Stalled              nothing moved for too long
    └── ClaimLost            the operation no longer belongs to this worker
"""

from __future__ import annotations


class QradminError(Exception):
    """Base of all errors that an operator may see.

    ``message`` is one plain sentence without secrets: what happened and what to do.
    ``detail`` is for the log and the opened-up error: program output, server message.
    """

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class Refused(QradminError):
    """The request cannot be carried out as asked; nothing was started."""


class UnknownBackup(Refused):
    """No backup of that name is in the catalogue."""


class Busy(Refused):
    """Another operation is at work."""


class NotConfigured(Refused):
    """A setting that this needs is missing or wrong."""


class BadBackup(QradminError):
    """The backup itself is at fault: changed, cut short, foreign, or its rows differ."""


class EnvironmentProblem(QradminError):
    """The surroundings are at fault; nothing is said about the backup."""


class ServerUnavailable(EnvironmentProblem):
    """PostgreSQL cannot be reached, or refuses the login."""


class MissingPrivilege(EnvironmentProblem):
    """PostgreSQL was reached, but this role may not do it."""


class MissingClient(EnvironmentProblem):
    """No fitting pg_dump or pg_restore on this machine."""


class NoSpace(EnvironmentProblem):
    """A disk or a bucket is full."""


class StorageProblem(EnvironmentProblem):
    """A storage location is missing, read-only or out of reach."""


class ContainerProblem(EnvironmentProblem):
    """Docker, the API's container or its health."""


class ProgramFailed(EnvironmentProblem):
    """A client program ended with an error of its own."""


class UnhealthyDatabase(QradminError):
    """The managed database failed one of its checks."""


class Stopped(QradminError):
    """The work was ended before it was done."""


class Cancelled(Stopped):
    """An operator asked for it."""


class TimeLimitReached(Stopped):
    """It took longer than its limit."""


class Stalled(Stopped):
    """Nothing moved for too long."""


class ClaimLost(Stopped):
    """The operation no longer belongs to this worker."""


# What keeps one copy from being read or stored, and is no reason to end the work on the others.
TROUBLE_WITH_A_COPY = (EnvironmentProblem, Stalled)
