"""Ask the QR API over HTTP how it is: ``GET /health``."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from backups_app.sentences import say
from backups_app.systems.waiting import answer, no_watch

BODY_LIMIT = 256 * 1024
# straight to the API: a proxy for the outside world has no business between us and it
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class HealthProbe:
    """One answer; ``outcome``: healthy, degraded, unhealthy, unreadable, unreachable, unknown, unmanaged.

    ``is_up``: healthy, or degraded while its database check passes.
    """

    is_up: bool
    outcome: str
    message: str


def probe(url: str | None, *, timeout: float) -> HealthProbe:
    """Ask once; never raises. ``timeout`` in seconds holds for each step, twice that for the whole."""
    if not url:
        return HealthProbe(is_up=False, outcome="unknown", message=say("API_HEALTH_URL is not set"))
    if urlsplit(url).scheme not in {"http", "https"}:
        return HealthProbe(
            is_up=False, outcome="unreachable", message=say("API_HEALTH_URL is not an HTTP address")
        )
    try:
        status, body = answer(lambda: _get(url, timeout), no_watch, limit_seconds=2 * timeout)
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        message = say("{url} does not answer ({reason})", url=url, reason=reason)
        return HealthProbe(is_up=False, outcome="unreachable", message=message)
    return judge(status, body)


def judge(status: int, body: bytes) -> HealthProbe:
    """What an HTTP status and a body mean."""
    report = _report(body)
    if report is None:
        message = say("/health answered {status} without a health report", status=status)
        return HealthProbe(is_up=False, outcome="unreadable", message=message)
    said = str(report.get("status"))
    database = _database_status(report)
    if status == 200 and said == "healthy":
        return HealthProbe(is_up=True, outcome="healthy", message=say("/health says healthy"))
    if status == 200 and said == "degraded":
        message = say("/health says degraded, its database check says {database}", database=database)
        return HealthProbe(is_up=database == "pass", outcome="degraded", message=message)
    message = say("/health answered {status} and says {word}", status=status, word=ascii(said[:40]))
    return HealthProbe(is_up=False, outcome="unhealthy", message=message)


def _get(url: str, timeout: float) -> tuple[int, bytes]:
    try:
        with _OPENER.open(url, timeout=timeout) as response:
            return int(response.status), bytes(response.read(BODY_LIMIT))
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(BODY_LIMIT)


def _report(body: bytes) -> dict[str, Any] | None:
    try:
        report = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return report if isinstance(report, dict) and isinstance(report.get("status"), str) else None


def _database_status(report: dict[str, Any]) -> str:
    checks = report.get("checks")
    database = checks.get("database") if isinstance(checks, dict) else None
    status = database.get("status") if isinstance(database, dict) else None
    return status if isinstance(status, str) else "nothing"
