"""What an object store and the network answer, as sentences for the operator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
)
from django.utils.translation import gettext_noop
from urllib3.exceptions import HTTPError

from backups_app.errors import NoSpace, StorageProblem
from backups_app.sentences import say
from backups_app.systems.vault.location import ConnectionBroken

_UNKNOWN_KEY = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "AuthFailure"}
_FORBIDDEN = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507", "XMinioAdminBucketQuotaExceeded"}
_WRONG_REGION = {
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "301",
    "IllegalLocationConstraintException",
}
_BUSY = {"SlowDown", "ServiceUnavailable", "503", "InternalError", "500", "RequestTimeout"}
_CLOCK = {"RequestTimeTooSkewed"}
_CUT = (HTTPError, OSError, HTTPClientError, IncompleteReadError, ResponseStreamingError)


def code_of(error: ClientError) -> str:
    """The store's error code, or the HTTP status where there was no body to say it."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def store_errors(subject: str, bucket: str) -> Iterator[None]:
    """Turn the store's and the network's errors into sentences that begin with ``subject``."""
    try:
        yield
    except ClientError as error:
        raise _refusal(error, subject, bucket) from error
    except (BotoCoreError, HTTPError, OSError, ValueError) as error:
        kind = ConnectionBroken if _is_broken(error) else StorageProblem
        raise kind(say(_reason(error), place=subject), detail=f"{type(error).__name__}: {error}") from error


def _refusal(error: ClientError, subject: str, bucket: str) -> NoSpace | StorageProblem:
    code, detail = code_of(error), str(error)
    if code in _FULL:
        return NoSpace(
            say("{place} is full: raise its quota or remove old backups.", place=subject), detail=detail
        )
    if code == "NoSuchBucket":
        told = say(
            "{place} has no bucket {bucket}: create it or correct BACKUP_LOCATIONS.",
            place=subject,
            bucket=bucket,
        )
    elif code in _UNKNOWN_KEY:
        told = say("{place} does not accept the key: correct the credentials.", place=subject)
    elif code in _FORBIDDEN:
        told = say(
            "{place} does not let this key do it: allow it to list, read, write and delete objects"
            " and abort multipart uploads.",
            place=subject,
        )
    elif code in _WRONG_REGION:
        told = say("{place} lies in another region: set region=... in its URL.", place=subject)
    elif code in _BUSY:
        told = say("{place} is busy or out of order: try again later.", place=subject)
    elif code in _CLOCK:
        told = say("{place} refuses this machine's clock: set the clock.", place=subject)
    else:
        told = say(
            "{place} answered with the error {code}.", place=subject, code=code or say("without a code")
        )
    kind = ConnectionBroken if code in _BUSY else StorageProblem
    return kind(told, detail=detail)


def _is_broken(error: BotoCoreError | HTTPError | OSError | ValueError) -> bool:
    """Whether it came from the way there, and not from what the store said or how it is set."""
    return isinstance(error, (EndpointConnectionError, *_CUT)) and not isinstance(error, SSLError)


def _reason(error: BotoCoreError | HTTPError | OSError | ValueError) -> str:
    """The sentence, without its place."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return gettext_noop("{place} has no key: set its credentials.")
    if isinstance(error, SSLError):
        return gettext_noop(
            "{place} has a certificate that is not trusted: correct the endpoint or the certificate."
        )
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return gettext_noop("{place} cannot be reached: check the endpoint and the network.")
    if isinstance(error, ReadTimeoutError):
        return gettext_noop("{place} did not answer in time: check the endpoint and the network.")
    if isinstance(error, _CUT):
        return gettext_noop("{place} broke off the connection: try again.")
    return gettext_noop("{place} cannot be used as it is set: check its URL and credentials.")
