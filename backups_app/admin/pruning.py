"""The clean-up's page: what would go and what stays, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from backups_app import tasks
from backups_app.admin.base import asked, who
from backups_app.errors import QradminError
from backups_app.operations import retention

if TYPE_CHECKING:
    from backups_app.admin.base import ReadOnlyAdmin

TEMPLATE = "admin/backups_app/backup/prune.html"
SHOWN = 200


def prune_page(admin: ReadOnlyAdmin[Any], request: HttpRequest) -> HttpResponse:
    """GET shows the plan; POST asks a worker to do what is due by then."""
    if request.method == "POST":
        return asked(
            request, lambda: tasks.request_prune(**who(request)), back="admin:backups_app_backup_changelist"
        )
    plan, problem = retention.Plan(()), ""
    try:
        plan = retention.plan()
    except QradminError as error:
        problem = error.message
    going = [decision for decision in plan.decisions if decision.goes]
    staying = [decision for decision in plan.decisions if not decision.goes]
    context = {
        "title": _("Clean-up"),
        "plan": plan,
        "problem": problem,
        "going": going[:SHOWN],
        "more_going": len(going[SHOWN:]),
        "staying": staying[:SHOWN],
        "more_staying": len(staying[SHOWN:]),
    }
    return admin.plain_page(request, TEMPLATE, context)
