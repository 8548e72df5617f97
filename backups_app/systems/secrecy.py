"""Texts without the passwords and keys that stand in them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

# A secret as long as this is part of no other word; one as short as this is part of nearly every text.
LONG, SHORT = 12, 3
HIDDEN = "***"


def hidden(text: str, secrets: Iterable[str], names: Collection[str] = ()) -> str:
    """``text`` with each secret replaced.

    ``names`` are words that everybody may read, such as the database's: a secret that is one of them is
    hidden only where it stands as a password, as in a URL.
    """
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        if secret in text:
            text = re.sub(_pattern(secret, names), lambda match: f"{match['kept'] or ''}{HIDDEN}", text)
    return text


def _pattern(secret: str, names: Collection[str]) -> str:
    word = re.escape(secret)
    as_password = rf"(?P<kept>(?i:password|passwd|pwd)\W{{1,4}}){word}(?![\w-])|(?<=:){word}(?=@)"
    if len(secret) <= SHORT or secret in names:
        return as_password
    if len(secret) < LONG or any(secret in name for name in names):
        return rf"{as_password}|(?<![\w./-]){word}(?![\w/-]|\.\w)"
    return rf"(?P<kept>){word}"
