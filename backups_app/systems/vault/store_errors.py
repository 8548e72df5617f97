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
from urllib3.exceptions import HTTPError

from backups_app.errors import NoSpace, StorageProblem
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
_NEEDED = "list, read, write and delete objects and abort multipart uploads"


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
        raise kind(f"{subject} {_reason(error)}.", detail=f"{type(error).__name__}: {error}") from error


def _refusal(error: ClientError, subject: str, bucket: str) -> NoSpace | StorageProblem:
    code, detail = code_of(error), str(error)
    if code in _FULL:
        return NoSpace(f"{subject} is full: raise its quota or remove old backups.", detail=detail)
    if code == "NoSuchBucket":
        reason = f"has no bucket {bucket}: create it or correct BACKUP_LOCATIONS"
    elif code in _UNKNOWN_KEY:
        reason = "does not accept the key: correct the credentials"
    elif code in _FORBIDDEN:
        reason = f"does not let this key do it: allow it to {_NEEDED}"
    elif code in _WRONG_REGION:
        reason = "lies in another region: set region=... in its URL"
    elif code in _BUSY:
        reason = "is busy or out of order: try again later"
    elif code in _CLOCK:
        reason = "refuses this machine's clock: set the clock"
    else:
        reason = f"answered with the error {code or 'without a code'}"
    kind = ConnectionBroken if code in _BUSY else StorageProblem
    return kind(f"{subject} {reason}.", detail=detail)


def _is_broken(error: BotoCoreError | HTTPError | OSError | ValueError) -> bool:
    """Whether it came from the way there, and not from what the store said or how it is set."""
    return isinstance(error, (EndpointConnectionError, *_CUT)) and not isinstance(error, SSLError)


def _reason(error: BotoCoreError | HTTPError | OSError | ValueError) -> str:
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return "has no key: set its credentials"
    if isinstance(error, SSLError):
        return "has a certificate that is not trusted: correct the endpoint or the certificate"
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return "cannot be reached: check the endpoint and the network"
    if isinstance(error, ReadTimeoutError):
        return "did not answer in time: check the endpoint and the network"
    if isinstance(error, _CUT):
        return "broke off the connection: try again"
    return "cannot be used as it is set: check its URL and credentials"
