"""What all commands share: the worker's claim and journal, a progress bar, JSON, an exit status."""

from __future__ import annotations

import getpass
import json
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, Self

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError
from tqdm import tqdm

from backups_app import tasks
from backups_app.errors import QradminError, Refused
from backups_app.models import Operation

NOT_READY = "The site's own database is not ready: check DATABASE_URL and run manage.py migrate."


class QradminCommand(BaseCommand):
    """A command with ``--json``: one object on standard output and nothing else.

    Its exit status is 0 when all went well, and ``failure_status`` when there is no answer.
    """

    failure_status = 1

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            with sigterm_as_exit():
                answer = self.answer(options)
        except QradminError as error:
            self._fail(error.message, is_json=options["json"])
        except (DataError, IntegrityError):
            raise
        except (DatabaseError, InterfaceError):
            self._fail(NOT_READY, is_json=options["json"])
        if options["json"]:
            self.stdout.write(json.dumps(answer, ensure_ascii=False, default=str))
        else:
            self.show(answer)
        if status := self.status(answer):
            sys.exit(status)

    def answer(self, options: dict[str, Any]) -> dict[str, Any]:
        """Do the work; what ``--json`` prints. QradminError becomes its sentence and status 1."""
        raise NotImplementedError

    def show(self, answer: dict[str, Any]) -> None:
        """Tell a person the answer."""
        raise NotImplementedError

    def status(self, answer: dict[str, Any]) -> int:  # noqa: ARG002
        """The exit status."""
        return 0

    def _fail(self, message: str, *, is_json: bool) -> NoReturn:
        if is_json:
            self.stdout.write(
                json.dumps({"operation": None, "state": "refused", "backup": None, "error": message})
            )
            sys.exit(self.failure_status)
        raise CommandError(message, returncode=self.failure_status)


class OperationCommand(QradminCommand):
    """A command that makes one operation and does it in this process; no worker is needed."""

    def request(self, options: dict[str, Any], **who: Any) -> Operation:
        """Make the operation by one of ``tasks.request_*``, passing ``who`` on."""
        raise NotImplementedError

    def answer(self, options: dict[str, Any]) -> dict[str, Any]:
        self.show_steps = not options["json"]
        tasks.give_up_overdue()
        operation = self.request(options, by=_account(), source=Operation.Source.COMMAND, is_queued=False)
        with _Bar(is_shown=self.show_steps and sys.stderr.isatty()) as bar:
            operation = tasks.run_here(operation, on_note=self._on_note(bar), on_progress=bar.progress)
        return described(operation)

    def show(self, answer: dict[str, Any]) -> None:
        if answer["error"]:
            self.stderr.write(self.style.ERROR(answer["error"]))
        else:
            subject = f": {answer['backup']}" if answer["backup"] else ""
            self.stdout.write(
                self.style.SUCCESS(f"Operation {answer['operation']} {answer['state']}{subject}")
            )

    def status(self, answer: dict[str, Any]) -> int:
        return int(answer["state"] != Operation.State.SUCCEEDED)

    def _on_note(self, bar: _Bar) -> Any:
        def on_note(level: str, what: str) -> None:
            if self.show_steps:
                bar.clear()
                self.stdout.write(f"  {what}" if level == "info" else f"  {level.upper()}: {what}")

        return on_note


def typed_word(what: str, word: str) -> str:
    """What a person types at the terminal; asked for on standard error, as the answer may be JSON."""
    if not sys.stdin.isatty():
        raise Refused("Nobody can confirm this: add --yes.")
    sys.stderr.write(f"{what}\nType {word} to confirm: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def described(operation: Operation) -> dict[str, Any]:
    """An operation as the commands print it."""
    backup = operation.result.get("backup") or (operation.backup.name if operation.backup else None)
    seconds = operation.duration.total_seconds() if operation.duration else None
    return {
        **operation.result,
        "operation": operation.pk,
        "kind": operation.kind,
        "state": operation.state,
        "backup": backup,
        "error": operation.error or None,
        "seconds": seconds,
    }


@contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """SIGTERM ends the work as Ctrl-C does: children are ended and the record is closed."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(1)
    finally:
        signal.signal(signal.SIGTERM, before)


def _account() -> str:
    """The account that typed the command, for the audit history."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "command line"


class _Bar:
    """A progress bar on a terminal; nothing elsewhere."""

    def __init__(self, *, is_shown: bool) -> None:
        self._is_shown = is_shown
        self._bar: Any = None
        self._step = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.clear()

    def progress(self, step: str, done: int, total: int | None, unit: str) -> None:
        if not self._is_shown:
            return
        if self._bar is None or step != self._step:
            self.clear()
            self._step = step
            self._bar = tqdm(desc=step, total=total, unit=f" {unit}", unit_scale=True, leave=False)
        self._bar.total = total
        self._bar.update(max(0, done - self._bar.n))

    def clear(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
