"""A person at the site, without a screen: opens pages and sends forms over HTTP."""

from __future__ import annotations

import http.cookiejar
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass

import urllib3


@dataclass(frozen=True)
class Page:
    """What came back, after redirects."""

    status: int
    path: str
    text: str


class Browser:
    """One session; ``address`` is the site's first page."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        self._cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self._cookies)
        )

    def log_in(self, name: str, password: str) -> Page:
        self.open("/login/")
        return self.send("/login/", username=name, password=password, next="/")

    def open(self, path: str) -> Page:
        return self._fetch(urllib.request.Request(self._address + path))

    def send(self, path: str, **fields: str) -> Page:
        """POST a form with the token that the last page set."""
        data = urllib.parse.urlencode({"csrfmiddlewaretoken": self._token, **fields}).encode()
        return self._fetch(urllib.request.Request(self._address + path, data))

    def hand_in(self, path: str, name: str, content: bytes) -> Page:
        """POST a form whose field ``file`` is a file."""
        data, kind = urllib3.encode_multipart_formdata(
            {"csrfmiddlewaretoken": self._token, "file": (name, content)}
        )
        return self._fetch(urllib.request.Request(self._address + path, data, {"Content-Type": kind}))

    @property
    def _token(self) -> str:
        return next((cookie.value or "" for cookie in self._cookies if cookie.name == "csrftoken"), "")

    def _fetch(self, request: urllib.request.Request) -> Page:
        try:
            answer = self._opener.open(request, timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read().decode(errors="replace")
            return Page(answer.status, urllib.parse.urlsplit(answer.url).path, text)
