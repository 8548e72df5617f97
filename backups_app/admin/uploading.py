"""The import page: what lies in the locations unknown, and one file handed in, written where it is needed."""

from __future__ import annotations

import errno
import io
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from django.contrib import messages
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, StopUpload
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_protect

from backups_app import config, tasks
from backups_app.admin.base import who
from backups_app.errors import QradminError
from backups_app.operations import imports, uploads
from backups_app.presentation.retelling import in_words
from backups_app.systems import vault

if TYPE_CHECKING:
    from backups_app.admin.base import ReadOnlyAdmin

FULL = {errno.ENOSPC, errno.EDQUOT}
TEMPLATE = "admin/backups_app/backup/import.html"
FIELD = "file"


class UploadToFolder(FileUploadHandler):
    """Writes the one file of the form straight into the folder for uploads, mode 0600, up to the limit.

    ``problem`` says in a sentence why there is no file; ``discard()`` removes it unless it was handed over.
    """

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request)
        self.problem = ""
        self.path: Path | None = None
        self.original = ""
        self._file: BinaryIO | None = None
        self._limit = config.upload_limit_bytes()
        self._size = 0
        self._is_handed_over = False

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        if self.field_name != FIELD or self.path is not None:
            raise StopUpload(connection_reset=False)
        self.original = self.file_name or ""
        if int(self.content_length or 0) > self._limit + 1024 * 1024:
            self._refuse(_too_large())
        try:
            self.path, self._file = vault.new_upload(config.upload_folder())
        except QradminError as error:
            self._refuse(in_words(error.message))

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:  # noqa: ARG002
        self._size += len(raw_data)
        if self._size > self._limit:
            self._refuse(_too_large())
        self._do(lambda file: file.write(raw_data))

    def file_complete(self, file_size: int) -> UploadedFile[Any]:
        self._do(_flush)
        self._do(lambda file: file.close())
        self._close()
        return UploadedFile(io.BytesIO(), self.original, size=file_size)

    def upload_interrupted(self) -> None:
        self.discard()

    def hand_over(self) -> None:
        """From here on the operation removes the file."""
        self._is_handed_over = True

    def discard(self) -> None:
        self._close()
        if self.path is not None and not self._is_handed_over:
            self.path.unlink(missing_ok=True)

    def _do(self, deed: Any) -> None:
        try:
            if self._file is not None:
                deed(self._file)
        except OSError as error:
            if error.errno in FULL:
                self._refuse(_("The disk for uploads is full: make room, then upload it again."))
            self._refuse(_("The file could not be stored: %(reason)s.") % {"reason": error.strerror})

    def _refuse(self, problem: str) -> None:
        self.problem = problem
        self.discard()
        raise StopUpload(connection_reset=False)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # what could not be written is not wanted any more
                file.close()


def import_page(admin: ReadOnlyAdmin[Any], request: HttpRequest) -> HttpResponse:
    """GET shows what was found; POST takes one uploaded file. Whoever comes here has the permission."""
    if request.method != "POST":
        return _page(admin, request)
    try:
        handler = UploadToFolder(request)
    except QradminError as error:
        return _page(admin, request, problem=in_words(error.message))
    request.upload_handlers = [handler]

    @csrf_protect  # only now, as it reads the body: by then the handler has to be in its place
    def accept(request: HttpRequest) -> HttpResponse:
        return _accept(admin, request, handler)

    try:
        return accept(request)
    finally:
        handler.discard()


def _accept(admin: ReadOnlyAdmin[Any], request: HttpRequest, handler: UploadToFolder) -> HttpResponse:
    is_there = FIELD in request.FILES  # reads the body
    if handler.problem:
        return _page(admin, request, problem=handler.problem)
    if handler.path is None or not is_there:
        return _page(admin, request, problem=_("Choose a file first."))
    try:
        uploads.insist_on_archive(handler.path)
        operation = tasks.request_import_upload(handler.path.name, original=handler.original, **who(request))
    except QradminError as error:
        return _page(admin, request, problem=in_words(error.message))
    handler.hand_over()
    return redirect("admin:backups_app_operation_change", operation.pk)


def _page(admin: ReadOnlyAdmin[Any], request: HttpRequest, *, problem: str = "") -> TemplateResponse:
    if problem:
        messages.error(request, problem)
    context = {
        "title": _("Import backups"),
        "found": imports.look(),
        "limit": config.upload_limit_bytes(),
    }
    return admin.plain_page(request, TEMPLATE, context, status=422 if problem else 200)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _too_large() -> str:
    limit = config.upload_limit_bytes() // (1024 * 1024)
    return _("The file is larger than %(limit)d MB: put it into a storage location and import it.") % {
        "limit": limit
    }
