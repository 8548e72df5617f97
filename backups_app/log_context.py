"""Which operation the present thread works on, for the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_current: ContextVar[Mapping[str, Any] | None] = ContextVar("operation", default=None)


def current() -> Mapping[str, Any]:
    """``operation`` and ``user``; empty outside of any operation."""
    return _current.get() or {}


@contextmanager
def about(**what: Any) -> Iterator[None]:
    """Within this block every log line of this thread, and of those it hands its context to, says so."""
    token = _current.set(what)
    try:
        yield
    finally:
        _current.reset(token)
