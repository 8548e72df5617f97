"""A bucket of an S3-compatible object store as a storage location, through django-storages' client."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from botocore.config import Config
from botocore.exceptions import ClientError
from storages.backends.s3 import S3Storage

from backups_app.sentences import say
from backups_app.systems.vault import streams
from backups_app.systems.vault.faults import MAX_SIDECAR_BYTES, decoded_sidecar, unequal_copy
from backups_app.systems.vault.location import (
    Credentials,
    MissingCopy,
    NameTaken,
    Stored,
    StoredFile,
    any_name,
)
from backups_app.systems.vault.names import (
    CHECK_PREFIX,
    MANAGED_NAMES,
    SIDECAR_SUFFIX,
    Naming,
    is_ours,
    name_behind,
)
from backups_app.systems.vault.store_errors import code_of, store_errors
from backups_app.systems.vault.transfers import SMALLEST_PART, Incoming, Summed, part_size
from backups_app.systems.waiting import OnBytes, Watch, answer, give_up_after, no_bytes, no_watch

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, CopySourceTypeDef

ABORT_SECONDS = 5.0

_MISSING = {"404", "NoSuchKey", "NotFound"}
_TAKEN = {"412", "PreconditionFailed", "ConditionalRequestConflict"}
_NO_CONDITIONS = {"501", "NotImplemented", "InvalidArgument", "InvalidRequest"}


@dataclass(frozen=True)
class ObjectLocation:
    """One prefix of one bucket; see Location for what each method promises.

    An object appears whole or not at all, so a new one needs no temporary name: what interrupted work
    leaves are incomplete multipart uploads and the replacements of damaged objects, for ``sweep_temporary``.
    """

    alias: str
    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None
    addressing_style: str | None = None
    credentials: Credentials | None = None
    naming: Naming = MANAGED_NAMES
    connect_timeout: float = 5.0
    read_timeout: float = 20.0
    is_local: bool = field(default=False, init=False)

    def describe(self) -> str:
        at = f" at {self.endpoint_url}" if self.endpoint_url else ""
        return f"{self.alias} (s3://{self.bucket}/{self.prefix}".rstrip("/") + f"{at})"

    def check(self) -> None:
        """List, write and delete, as the work itself will."""
        probe = self._key(f"{CHECK_PREFIX}{secrets.token_hex(8)}")
        with self._errors():
            self._client.list_objects_v2(Bucket=self.bucket, Prefix=self._folder, MaxKeys=1)
            self._client.put_object(Bucket=self.bucket, Key=probe, Body=b"x")
            self._client.delete_object(Bucket=self.bucket, Key=probe)

    def free_bytes(self) -> int | None:
        return None

    def names(self) -> list[StoredFile]:
        found = []
        with self._errors():
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self._folder, Delimiter="/"):
                for entry in page.get("Contents", []):
                    name = entry["Key"].removeprefix(self._folder)
                    if self.naming.fits(name):
                        found.append(StoredFile(name, entry["Size"], entry["LastModified"].astimezone(UTC)))
        return sorted(found, key=lambda stored: stored.name)

    def exists(self, name: str) -> bool:
        self.naming.insist_on(name)
        with self._errors():
            try:
                self._client.head_object(Bucket=self.bucket, Key=self._key(name))
            except ClientError as error:
                self._insist_on_bucket()
                if code_of(error) not in _MISSING:
                    raise
                return False
        return True

    def local_path(self, name: str) -> Path | None:
        self.naming.insist_on(name)
        return None

    def store(
        self, source: Path, name: str, *, watch: Watch = no_watch, on_bytes: OnBytes = no_bytes
    ) -> Stored:
        """Upload in parts, then read the object back through GET; a copy that differs is deleted."""
        if answer(lambda: self.exists(name), watch):
            raise self._taken(name)
        written, is_ours = self._upload(source, self._key(name), watch=watch, on_bytes=on_bytes)
        try:
            found = self.digest(name, watch=watch, on_bytes=on_bytes)
            if found != written and is_ours:
                raise unequal_copy(self._subject, name, written, found)
        except BaseException:
            if is_ours:
                self._try_to_delete(self._key(name))
            raise
        if found != written:
            raise self._taken(name)
        return written

    def replace(
        self, source: Path, name: str, *, watch: Watch = no_watch, on_bytes: OnBytes = no_bytes
    ) -> Stored:
        """Upload under a temporary key and read that back; the store then copies it onto the name."""
        self.naming.insist_on(name)
        temporary = self._key(f".{name}.{secrets.token_hex(4)}.part")
        try:
            written, _is_ours = self._upload(source, temporary, watch=watch, on_bytes=on_bytes)
            self._insist_on_equal(temporary, name, written, watch=watch, on_bytes=on_bytes)
            origin: CopySourceTypeDef = {"Bucket": self.bucket, "Key": temporary}
            self._copy_there(origin, self._key(name), watch=watch, on_bytes=on_bytes)
            self._insist_on_equal(self._key(name), name, written, watch=watch, on_bytes=on_bytes)
        finally:
            self._try_to_delete(temporary)
        return written

    def fetch(
        self, name: str, target: Path, *, watch: Watch = no_watch, on_bytes: OnBytes = no_bytes
    ) -> Stored:
        with self._opened(name, watch) as reader, streams.os_errors(say("The file {path}", path=target)):
            return streams.copy_to_new_file(reader, target, watch=watch, on_bytes=on_bytes)

    def digest(self, name: str, *, watch: Watch = no_watch, on_bytes: OnBytes = no_bytes) -> Stored:
        with self._opened(name, watch) as reader:
            return streams.move(reader, None, watch=watch, on_bytes=on_bytes)

    def remove(self, name: str) -> bool:
        was_there = self.exists(name)
        with self._errors():
            for key in (self._key(name), self._key(name + SIDECAR_SUFFIX)):
                self._client.delete_object(Bucket=self.bucket, Key=key)
        return was_there

    def write_text(self, name: str, text: str) -> None:
        self.naming.insist_on(name)
        with self._errors():
            self._client.put_object(
                Bucket=self.bucket, Key=self._key(name + SIDECAR_SUFFIX), Body=text.encode()
            )

    def read_text(self, name: str) -> str | None:
        self.naming.insist_on(name)
        try:
            with self._opened_key(self._key(name + SIDECAR_SUFFIX), name, no_watch) as reader:
                return decoded_sidecar(reader.read(MAX_SIDECAR_BYTES + 1), name)
        except MissingCopy:
            return None

    def sweep_temporary(
        self, older_than_seconds: float, *, is_wanted: Callable[[str], bool] = any_name
    ) -> list[str]:
        before = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
        with self._errors():
            uploads = self._abort_uploads(before, is_wanted)
            return sorted([*uploads, *self._delete_temporary(before, is_wanted)])

    def _abort_uploads(self, before: datetime, is_wanted: Callable[[str], bool]) -> Iterator[str]:
        pages = self._client.get_paginator("list_multipart_uploads")
        for page in pages.paginate(Bucket=self.bucket, Prefix=self._folder):
            for upload in page.get("Uploads", []):
                name = upload["Key"].removeprefix(self._folder)
                meant = name if is_ours(name) else name_behind(name)
                if meant and upload["Initiated"] <= before and is_wanted(meant):
                    self._client.abort_multipart_upload(
                        Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    yield name

    def _copy_there(self, origin: CopySourceTypeDef, key: str, *, watch: Watch, on_bytes: OnBytes) -> None:
        """Let the store copy an object; the threads that ask for its parts tell of their bytes."""
        copied: list[int] = []

        def ask() -> None:
            watch()
            while copied:
                on_bytes(copied.pop())

        with self._errors():
            answer(lambda: self._client.copy(origin, self.bucket, key, Callback=copied.append), ask)
        ask()

    def _insist_on_equal(
        self, key: str, name: str, written: Stored, *, watch: Watch, on_bytes: OnBytes
    ) -> None:
        with self._opened_key(key, name, watch) as reader:
            found = streams.move(reader, None, watch=watch, on_bytes=on_bytes)
        if found != written:
            raise unequal_copy(self._subject, name, written, found)

    def _delete_temporary(self, before: datetime, is_wanted: Callable[[str], bool]) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.bucket, Prefix=f"{self._folder}.", Delimiter="/"):
            for entry in page.get("Contents", []):
                name = entry["Key"].removeprefix(self._folder)
                meant = name_behind(name)
                if meant and entry["LastModified"] <= before and is_wanted(meant):
                    self._client.delete_object(Bucket=self.bucket, Key=entry["Key"])
                    yield name

    def _upload(self, source: Path, key: str, *, watch: Watch, on_bytes: OnBytes) -> tuple[Stored, bool]:
        """Write the object; the flag is False when the store says that another one has the name by now.

        That other one may be ours after all: an answer that was lost on the way is asked for again.
        """
        with streams.os_errors(say("The file {path}", path=source)):
            reader = streams.open_to_read(source)
            size = source.stat().st_size
        send = self._send_at_once if size <= SMALLEST_PART else self._send_in_parts
        summed = Summed(reader, on_bytes)
        with reader, self._errors():
            try:
                send(summed, size, key, watch)
            except ClientError as error:
                if code_of(error) not in _TAKEN:
                    raise
                return summed.stored, False
        return summed.stored, True

    def _send_at_once(self, source: Summed, size: int, key: str, watch: Watch) -> None:
        data = source.read(size)
        self._send_under_new_name(
            lambda condition: self._client.put_object(
                Bucket=self.bucket, Key=key, Body=io.BytesIO(data), **condition
            ),
            watch,
        )
        source.moved(len(data))

    def _send_under_new_name(self, send: Callable[[Any], object], watch: Watch) -> None:
        """Let the store refuse a taken name; one that does not know the condition is asked without it."""
        try:
            answer(lambda: send({"IfNoneMatch": "*"}), watch)
        except ClientError as error:
            if code_of(error) not in _NO_CONDITIONS:
                raise
            answer(lambda: send({}), watch)

    def _send_in_parts(self, source: Summed, size: int, key: str, watch: Watch) -> None:
        upload = self._client.create_multipart_upload(Bucket=self.bucket, Key=key)["UploadId"]
        try:
            parts = list(self._sent_parts(source, part_size(size), key, upload, watch))
            self._send_under_new_name(
                lambda condition: self._client.complete_multipart_upload(
                    Bucket=self.bucket,
                    Key=key,
                    UploadId=upload,
                    MultipartUpload={"Parts": parts},
                    **condition,
                ),
                watch,
            )
        except BaseException:
            give_up_after(
                ABORT_SECONDS,
                lambda: self._client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload),
            )
            raise

    def _sent_parts(
        self, source: Summed, part_bytes: int, key: str, upload: str, watch: Watch
    ) -> Iterator[CompletedPartTypeDef]:
        number = 0
        while data := source.read(part_bytes):
            number += 1
            sent = answer(
                # a stream, not bytes: bytes would have to leave within one connect_timeout
                lambda data=data, number=number: self._client.upload_part(  # type: ignore[misc]
                    Bucket=self.bucket, Key=key, UploadId=upload, PartNumber=number, Body=io.BytesIO(data)
                ),
                watch,
            )
            source.moved(len(data))
            yield {"PartNumber": number, "ETag": sent["ETag"]}

    def _opened(self, name: str, watch: Watch) -> Any:
        self.naming.insist_on(name)
        return self._opened_key(self._key(name), name, watch)

    @contextmanager
    def _opened_key(self, key: str, name: str, watch: Watch) -> Iterator[BinaryIO]:
        with self._errors():
            try:
                body = answer(lambda: self._client.get_object(Bucket=self.bucket, Key=key), watch)["Body"]
            except ClientError as error:
                if code_of(error) not in _MISSING:
                    raise
                raise MissingCopy(
                    say("{place} holds no file {name}.", place=self._subject, name=name)
                ) from error
        try:
            yield cast("BinaryIO", Incoming(body, watch, self._errors))
        finally:
            body.close()

    def _insist_on_bucket(self) -> None:
        """A HEAD is answered without a body: it cannot tell a missing bucket or a wrong key from others."""
        self._client.list_objects_v2(Bucket=self.bucket, Prefix=self._folder, MaxKeys=1)

    def _try_to_delete(self, key: str) -> None:
        give_up_after(
            ABORT_SECONDS,
            lambda: self._client.delete_object(Bucket=self.bucket, Key=key),
        )

    def _taken(self, name: str) -> NameTaken:
        return NameTaken(
            say("{place} already holds a file {name}: it was left as it is.", place=self._subject, name=name)
        )

    def _key(self, name: str) -> str:
        return self._folder + name

    @property
    def _folder(self) -> str:
        return f"{self.prefix.strip('/')}/" if self.prefix.strip("/") else ""

    @property
    def _subject(self) -> str:
        return say("The storage location {location}", location=self.describe())

    def _errors(self) -> Any:
        return store_errors(self._subject, self.bucket)

    @cached_property
    def _client(self) -> S3Client:
        style = self.addressing_style or ("path" if self.endpoint_url else "auto")
        config = Config(
            signature_version="s3v4",
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
            retries={"mode": "standard", "total_max_attempts": 3},
            s3={"addressing_style": cast('Literal["auto", "path", "virtual"]', style)},
            request_checksum_calculation="when_required",  # what older stores of other makers understand
            response_checksum_validation="when_required",
        )
        key = self.credentials
        with self._errors():
            storage = S3Storage(
                bucket_name=self.bucket,
                endpoint_url=self.endpoint_url,
                region_name=self.region,
                access_key=key.access_key if key else None,
                secret_key=key.secret_key if key else None,
                security_token=(key.session_token or None) if key else None,
                client_config=config,
            )
            return cast("S3Client", storage.connection.meta.client)
