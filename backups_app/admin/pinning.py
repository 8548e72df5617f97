"""Pin a backup so that nothing removes it, or take the pin away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from backups_app.forms import PinForm
from backups_app.models import Backup

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
            _set_pin(backup, is_pinned=False, reason="")
            _note(backup, f"The pin was taken away by {request.user.get_username()}.")
            messages.success(request, _("The pin was taken away."))
            return redirect("admin:backups_app_backup_change", backup.pk)
        if form.is_valid():
            reason = form.cleaned_data["reason"]
            _set_pin(backup, is_pinned=True, reason=reason)
            _note(backup, f"Pinned by {request.user.get_username()}: {reason}")
            messages.success(request, _("Pinned: no clean-up removes it."))
            return redirect("admin:backups_app_backup_change", backup.pk)
    return admin.page(request, TEMPLATE, backup, {"form": form})


def _note(backup: Backup, what: str) -> None:
    """In the trail of the operation that made it; an imported file may have none."""
    if backup.operation is not None:
        backup.operation.note(what)


def _set_pin(backup: Backup, *, is_pinned: bool, reason: str) -> None:
    backup.is_pinned, backup.pin_reason = is_pinned, reason
    backup.save(update_fields=["is_pinned", "pin_reason"])
