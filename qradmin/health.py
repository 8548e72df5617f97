"""``/health`` for uptime monitors and ``/health/ready`` for Docker and proxies: no login, no secrets."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseFailure
from django.db import ProgrammingError, connection, connections
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.utils import timezone

from backups_app.systems.waiting import started

log = logging.getLogger(__name__)

Check = dict[str, Any]
Checks = dict[str, Check]

LIMIT_SECONDS = 3.0
SILENT: Checks = {"site_database": {"status": "fail", "message": "The site's database does not answer."}}


def answer_health(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Comes before everything else: whoever asks does so by an inner address and without TLS."""

    def answer(request: HttpRequest) -> HttpResponse:
        look = {"/health": look_at_all, "/health/ready": look_at_site}.get(request.path_info.rstrip("/"))
        if look is None:
            return get_response(request)
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        return _told(within_limit(look))

    return answer


def look_at_site() -> Checks:
    """Whether the pages can be served."""
    _knock()
    return {"site_database": {"status": "pass"}}


def look_at_all() -> Checks:
    """Whether backups are being made, too."""
    return look_at_site() | {"worker": _worker(), "last_validated_backup": _last_backup()}


# Looks that were given up and still wait for the database.
_hanging: list[Future[Checks]] = []


def within_limit(look: Callable[[], Checks]) -> Checks:
    """What ``look`` finds, on a connection of its own; a silent database holds up a request for seconds.

    While a look hangs no other begins: it would hang too, and each takes a connection.
    """
    _hanging[:] = [one for one in _hanging if not one.done()]
    if not _hanging:
        coming = started(lambda: _on_own_connection(look))
        try:
            return coming.result(timeout=LIMIT_SECONDS)
        except TimeoutError:
            _hanging.append(coming)
            log.error("The site's database did not answer within %g seconds", LIMIT_SECONDS)  # noqa: TRY400
    return dict(SILENT)


def _on_own_connection(look: Callable[[], Checks]) -> Checks:
    try:
        return look()
    except DatabaseFailure as error:
        if isinstance(error, ProgrammingError) or "no such table" in str(error):
            log.exception("The site's tables cannot be read")
            message = "Its tables are missing: run the migrations."
            return {"site_database": {"status": "fail", "message": message}}
        log.exception("The site's database does not answer")
        return dict(SILENT)
    finally:
        connections.close_all()


def _knock() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _worker() -> Check:
    from backups_app.models.worker import WorkerBeat

    now = timezone.now()
    latest = WorkerBeat.objects.alive(now).order_by("-at").values_list("at", flat=True).first()
    if latest is None:
        has_run = WorkerBeat.objects.exists()
        return {"status": "fail", "message": "No worker runs." if has_run else "No worker has ever run."}
    # Two machines' clocks differ a little.
    return {"status": "pass", "seconds_since_last_sign": max(0.0, round((now - latest).total_seconds(), 1))}


def _last_backup() -> Check:
    from backups_app.models import Backup

    now = timezone.now()
    backups = Backup.objects.taken_by(now).validated().order_by("-created_at")
    taken = backups.values_list("created_at", flat=True).first()
    if taken is None:
        return {"status": "fail", "message": "There is no validated backup."}
    hours = max(0.0, (now - taken).total_seconds() / 3600)
    check = {"status": "pass", "hours": round(hours, 2)}
    if hours > settings.HEALTH_BACKUP_HOURS:
        message = f"The last validated backup is older than {settings.HEALTH_BACKUP_HOURS:g} hours."
        return check | {"status": "fail", "message": message}
    return check


def _told(checks: Checks) -> HttpResponse:
    is_healthy = all(check["status"] == "pass" for check in checks.values())
    answer = {"status": "healthy" if is_healthy else "unhealthy", "checks": checks}
    response = JsonResponse(answer, status=200 if is_healthy else 503)
    response.headers["Cache-Control"] = "no-store"
    return response
