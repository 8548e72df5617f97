"""Whole numbers that come from outside: in an address or in a form anything may stand."""

from __future__ import annotations

LONGEST = 18  # digits: any number of so many fits a database's bigint


def whole(text: object) -> int | None:
    """The number, or None where there is none that a record could have."""
    if not isinstance(text, str) or not text.isdecimal() or len(text) > LONGEST:
        return None
    return int(text)
