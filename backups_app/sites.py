"""The site's own admin: tabs instead of a sidebar, and the overview as its first page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy


@dataclass(frozen=True)
class Tab:
    """One tab of the header."""

    text: str
    url: str
    is_current: bool


class BackupAdminSite(AdminSite):
    """The stock admin under this project's name."""

    site_header = gettext_lazy("QR backup admin")
    site_title = gettext_lazy("QR backup admin")
    index_title = gettext_lazy("Overview")
    site_url = None
    enable_nav_sidebar = False

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return super().each_context(request) | {
            "tabs": _tabs(request),
            "is_api_managed": bool(settings.API_CONTAINER),
        }

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The overview."""
        if not request.user.has_perm("backups_app.view_backup"):
            raise PermissionDenied
        from backups_app.presentation.overview import overview

        request.current_app = self.name
        context = self.each_context(request) | overview(request) | (extra_context or {})
        return TemplateResponse(request, "admin/index.html", context | {"title": self.index_title})

    def app_index(  # type: ignore[override]
        self,
        request: HttpRequest,
        app_label: str,
        extra_context: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> HttpResponse:
        """The tabs lead to every list: an index of one application would be a second, poorer overview."""
        is_of_users = app_label == "auth" and request.user.has_perm("auth.view_user")
        return redirect("admin:auth_user_changelist" if is_of_users else "admin:index")

    def get_urls(self) -> list[Any]:
        return [
            path("runbooks/", self.admin_view(self.runbooks_view), name="runbooks"),
            path("runbooks/<slug:slug>/", self.admin_view(self.runbook_view), name="runbook"),
            path("morning-check/", self.admin_view(self.morning_view), name="morning"),
            path("schedules/", self.admin_view(self.schedules_view), name="schedules"),
            path("schedules/<slug:key>/", self.admin_view(self.schedule_view), name="schedule"),
            *super().get_urls(),
        ]

    def morning_view(self, request: HttpRequest) -> TemplateResponse:
        """Every check of the morning, and the way out of what is not in order."""
        from backups_app.presentation import morning
        from backups_app.presentation.standing import standing

        if not request.user.has_perm("backups_app.view_backup"):
            raise PermissionDenied
        findings = morning.judge(standing())
        request.current_app = self.name
        context = self.each_context(request) | {
            "title": _("Morning check"),
            "findings": findings,
            "worst": morning.worst(findings),
            "summary": morning.summary(findings),
        }
        return TemplateResponse(request, "admin/morning.html", context)

    def schedules_view(self, request: HttpRequest) -> TemplateResponse:
        """What runs by itself, when next, and how it went the last time."""
        from backups_app.presentation import planned

        if not request.user.has_perm("backups_app.view_operation"):
            raise PermissionDenied
        request.current_app = self.name
        context = self.each_context(request) | {
            "title": _("Schedules"),
            "plans": planned.plans(),
            "time_zone": settings.TIME_ZONE,
        }
        may_change = request.user.has_perm("backups_app.manage_schedules")
        return TemplateResponse(request, "admin/schedules/list.html", context | {"may_change": may_change})

    def schedule_view(self, request: HttpRequest, key: str) -> HttpResponse:
        """Time of day, days of the week, pause: nothing else of a schedule can be changed."""
        from backups_app import schedules
        from backups_app.forms import TimingForm
        from backups_app.presentation import planned

        if not request.user.has_perm("backups_app.manage_schedules"):
            raise PermissionDenied
        plan = next((one for one in planned.plans() if one.job.key == key), None)
        if plan is None:
            raise Http404(_("There is no such schedule."))
        form = TimingForm(request.POST if request.method == "POST" else None, timing=plan.timing)
        if request.method == "POST" and form.is_valid():
            if schedules.change(plan.schedule, form.timing(), user=request.user):  # type: ignore[arg-type]
                messages.success(request, _("Changed: %(timing)s.") % {"timing": form.timing()})
            return redirect("admin:schedules")
        request.current_app = self.name
        context = self.each_context(request) | {"title": plan.job.title, "plan": plan, "form": form}
        return TemplateResponse(request, "admin/schedules/change.html", context)

    def runbooks_view(self, request: HttpRequest) -> TemplateResponse:
        """Every runbook by its title."""
        from backups_app.presentation import runbooks

        request.current_app = self.name
        context = self.each_context(request) | {"title": _("Runbooks"), "runbooks": runbooks.ALL}
        return TemplateResponse(request, "admin/runbooks/list.html", context)

    def runbook_view(self, request: HttpRequest, slug: str) -> TemplateResponse:
        """One runbook with the present state."""
        from backups_app.presentation import runbooks

        runbook = runbooks.BY_SLUG.get(slug)
        if runbook is None:
            raise Http404(_("There is no such runbook."))
        if not request.user.has_perm("backups_app.view_backup"):
            raise PermissionDenied
        request.current_app = self.name
        context = self.each_context(request) | runbooks.context_of(runbook, request.user, request.GET)
        return TemplateResponse(request, runbook.template, context | {"title": runbook.title})


def _tabs(request: HttpRequest) -> list[Tab]:
    """The pages that whoever asks may see."""
    user = request.user
    if not (user.is_active and user.is_staff):
        return []
    wanted = [(_("Overview"), reverse("admin:index"), True)]
    for text, model in (
        (_("Backups"), "backup"),
        (_("Restores"), "restoreevent"),
        (_("Audit history"), "operation"),
    ):
        url = reverse(f"admin:backups_app_{model}_changelist")
        wanted.append((text, url, user.has_perm(f"backups_app.view_{model}")))
    wanted.append((_("Schedules"), reverse("admin:schedules"), user.has_perm("backups_app.view_operation")))
    wanted.append((_("Runbooks"), reverse("admin:runbooks"), True))
    wanted.append((_("Users"), reverse("admin:auth_user_changelist"), user.has_perm("auth.view_user")))
    return [Tab(text, url, _is_current(request.path, url)) for text, url, is_seen in wanted if is_seen]


def _is_current(address: str, url: str) -> bool:
    return address == url if url == reverse("admin:index") else address.startswith(url)
