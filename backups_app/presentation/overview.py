"""What the first page shows."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def overview(request: HttpRequest) -> dict[str, Any]:
    return {
        "may_create": request.user.has_perm("backups_app.create_backup"),
        "is_api_managed": bool(settings.API_CONTAINER),
    }
