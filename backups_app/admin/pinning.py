"""Pin a backup so that nothing removes it, or take the pin away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from backups_app.forms import PinForm
from backups_app.models import Backup
from backups_app.operations import sidecars
from backups_app.sentences import say

if TYPE_CHECKING:
    from backups_app.admin.base import ReadOnlyAdmin

TEMPLATE = "admin/backups_app/backup/pin.html"


def pin_page(admin: ReadOnlyAdmin[Any], request: HttpRequest, backup: Backup) -> HttpResponse:
    """GET shows the form; POST pins with a reason, or unpins."""
    form = PinForm(request.POST or None)
    if request.method == "POST":
        if not backup.is_present:
            messages.error(request, _("This backup has been removed."))
            return redirect("admin:backups_app_backup_change", backup.pk)
        if request.POST.get("unpin") == "1":
            backup.unpin()
            _note(backup, say("The pin was taken away by {who}.", who=request.user.get_username()))
            return _done(request, backup, _("The pin was taken away."))
        if form.is_valid():
            reason = form.cleaned_data["reason"]
            backup.pin(reason)
            _note(backup, say("Pinned by {who}: {reason}", who=request.user.get_username(), reason=reason))
            return _done(request, backup, _("Pinned: no clean-up removes it."))
    return admin.page(request, TEMPLATE, backup, {"form": form})


def _done(request: HttpRequest, backup: Backup, told: str) -> HttpResponse:
    messages.success(request, told)
    if not sidecars.write_promptly(backup):
        text = _("The description beside a copy could not be written now: the next check of the copies does.")
        messages.warning(request, text)
    return redirect("admin:backups_app_backup_change", backup.pk)


def _note(backup: Backup, what: str) -> None:
    """In the trail of the operation that made it; an imported file may have none."""
    if backup.operation is not None:
        backup.operation.note(what)
