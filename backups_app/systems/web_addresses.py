"""Addresses of web servers and of Docker Engines, judged before anybody calls them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit


def is_web_address(url: str) -> bool:
    """Whether it is ``http`` or ``https`` with a host, and a port that there can be."""
    host, _port = _place(url, {"http", "https"})
    return bool(host)


def is_engine_address(url: str) -> bool:
    """Whether it is the path of a socket, or a host with its port."""
    if url.startswith("unix://"):
        return url.startswith("unix:///") and url.strip("/") != "unix:"
    host, port = _place(url, {"tcp", "http", "https"})
    return bool(host) and port is not None


def _place(url: str, schemes: set[str]) -> tuple[str, int | None]:
    """Host and port; no host when the address cannot be right."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "", None
    is_right = parts.scheme in schemes and port != 0 and not re.search(r"[\s\x00-\x1f]", url)
    return (host, port) if is_right else ("", None)
