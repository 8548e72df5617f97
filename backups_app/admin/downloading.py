"""Hand out a backup's file, streamed, as an attachment, with a line in the audit history."""

from __future__ import annotations

from django.contrib import messages
from django.http import FileResponse, HttpRequest, HttpResponseBase
from django.shortcuts import redirect

from backups_app.admin.base import who
from backups_app.errors import QradminError
from backups_app.models import Backup
from backups_app.operations.download import hand_out
from backups_app.presentation.retelling import in_words


def download(request: HttpRequest, backup: Backup) -> HttpResponseBase:
    try:
        handed_out = hand_out(backup, **who(request))
    except QradminError as error:
        messages.error(request, in_words(error.message))
        return redirect("admin:backups_app_backup_change", backup.pk)
    response = FileResponse(handed_out, as_attachment=True, filename=backup.name)
    response["Content-Type"] = "application/octet-stream"
    response["Cache-Control"] = "no-store"
    return response
