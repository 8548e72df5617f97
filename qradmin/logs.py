"""Log lines: one JSON object each, or text for people; both name the operation and hide every secret."""

from __future__ import annotations

import logging
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from backups_app import log_context

FIELDS = ("operation", "step", "user", "seconds", "state", "detail", "error")


class OperationNames(logging.Filter):
    """Lets every line pass, and says which operation it belongs to and who asked for that."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in log_context.current().items():
            if getattr(record, name, None) is None:
                setattr(record, name, value)
        return True


class JsonLines(JsonFormatter):
    """One object a line: time, level, logger, message, and what FIELDS names where it is known."""

    def __init__(self) -> None:
        super().__init__(
            ["levelname", "name", "message"],
            timestamp="time",
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "error"},
            json_ensure_ascii=False,
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = _masked({name: value for name, value in log_data.items() if value is not None})
        return told

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """Only fields that are named here: libraries hang whole requests on their records."""
        known = logging.makeLogRecord(
            {name: vars(record)[name] for name in (*_STANDARD, *FIELDS) if name in vars(record)}
        )
        super().add_fields(log_data, known, message_dict)


class TextLines(logging.Formatter):
    """A line for a person; an operation's lines begin with its number."""

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name}: {where}{message}", style="{")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        operation = getattr(record, "operation", None)
        record.where = f"[operation {operation}] " if operation is not None else ""
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        more = [str(text) for name in ("detail", "error") if (text := getattr(record, name, None))]
        return str(_masked("\n".join([super().format(record), *more])))


_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message"}


def _masked(value: Any) -> Any:
    """Without passwords; as it is while the settings are still being read."""
    from django.conf import settings

    if not settings.configured:
        return value
    from backups_app.operations.masking import masked

    return masked(value)
