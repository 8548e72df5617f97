"""``/health`` for uptime monitors and ``/health/ready`` for Docker and proxies: no login, no secrets."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseFailure
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.utils import timezone

log = logging.getLogger(__name__)

Check = dict[str, Any]
Checks = dict[str, Check]


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
        return _told(look())

    return answer


def look_at_site() -> Checks:
    """Whether the pages can be served."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseFailure:
        log.exception("The site's database does not answer")
        return {"site_database": {"status": "fail", "message": "The site's database does not answer."}}
    return {"site_database": {"status": "pass"}}


def look_at_all() -> Checks:
    """Whether backups are being made, too."""
    checks = look_at_site()
    if checks["site_database"]["status"] != "pass":
        return checks
    try:
        return checks | {"worker": _worker(), "last_validated_backup": _last_backup()}
    except DatabaseFailure:
        log.exception("The site's tables cannot be read")
        return {"site_database": {"status": "fail", "message": "Its tables are missing: run the migrations."}}


def _worker() -> Check:
    from backups_app.models.worker import ALIVE_FOR, WorkerBeat

    latest = WorkerBeat.objects.order_by("-at").values_list("at", flat=True).first()
    if latest is None:
        return {"status": "fail", "message": "No worker has ever run."}
    silent = timezone.now() - latest
    check = {"status": "pass", "seconds_since_last_sign": round(silent.total_seconds(), 1)}
    if silent > ALIVE_FOR:
        return check | {"status": "fail", "message": "No worker runs."}
    return check


def _last_backup() -> Check:
    from backups_app.models import Backup

    taken = Backup.objects.validated().order_by("-created_at").values_list("created_at", flat=True).first()
    if taken is None:
        return {"status": "fail", "message": "There is no validated backup."}
    hours = (timezone.now() - taken).total_seconds() / 3600
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
