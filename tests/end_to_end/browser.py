"""A site as people see it: gunicorn with collected static files, its queue, and a headless Chromium."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deploy import chromium as chromium_program
from deploy.demo import accounts, embedded
from tests.end_to_end.cluster import ROOT, Site, wait_until
from tests.real_world import need

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PASSWORD = "a-long-password-1"
ACCOUNTS = {"itstaff": "IT staff", "helpdesk": "Help desk", "root": ""}
PATIENCE = 30_000  # milliseconds that a page may take to show what is waited for
GUNICORN = ("--worker-class=gthread", "--threads=4", "--no-control-socket", "--log-level=warning")
MAKE_ACCOUNTS = """
from django.contrib.auth.models import Group, User
for name, group in {accounts!r}.items():
    user = User.objects.create_user(name, password={password!r}, is_staff=True, is_superuser=not group)
    user.groups.set(Group.objects.filter(name=group))
"""


@dataclass
class Web:
    """The site's address, and what its pages complained of in the browser."""

    site: Site
    address: str
    browser: Browser
    known: dict[str, Any] = field(default_factory=dict)  # the cookies of those who have logged in
    complaints: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()  # what the browser may report in this test
    _contexts: list[BrowserContext] = field(default_factory=list)

    def log_in(self, name: str = "itstaff", **options: Any) -> Page:
        """A browser of its own on the overview, logged in: by typing, or as one who did that before."""
        if name not in self.known:
            page = self.open(**options)
            page.goto("/")
            type_login(page, name)
            page.wait_for_url("**/")
            self.known[name] = page.context.storage_state()
            return page
        page = self.open(storage_state=self.known[name], **options)
        page.goto("/")
        return page

    def open(self, **options: Any) -> Page:
        context = self.browser.new_context(
            **{"locale": "en-US", "base_url": self.address, "reduced_motion": "reduce"} | options
        )
        context.set_default_timeout(PATIENCE)
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self._hear(message.type, f"{page.url}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        self._contexts.clear()

    def _hear(self, kind: str, text: str) -> None:
        """The browser says there what its policy forbade, what did not load and what broke."""
        if kind in {"error", "warning"}:
            self.complaints.append(text)


def type_login(page: Page, name: str) -> None:
    page.fill("#id_username", name)
    page.fill("#id_password", PASSWORD)
    page.click("#login-form [type=submit]")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """For one module at a time: while it runs, Django would take this thread for an asynchronous one."""
    program = chromium_program.find()
    need(program is not None, "Chromium is not installed")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(chromium_program.FLAGS))
        yield browser
        browser.close()


@dataclass
class WebServer:
    """A web server of one site; it ends with the tests, whatever ends them."""

    address: str
    process: subprocess.Popen[bytes]
    known: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Within the block it takes connections, and says nothing."""
        processes = [self.process.pid, *_children(self.process.pid)]
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in processes:
                os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="session")
def web_servers() -> Iterator[Callable[[Site], WebServer]]:
    """A function: site -> its web server, started when first asked for."""
    running: dict[int, WebServer] = {}

    def server_of(site: Site) -> WebServer:
        if id(site) not in running:
            running[id(site)] = _serve(site)
        return running[id(site)]

    yield server_of
    for server in running.values():
        server.process.terminate()
        server.process.wait(20)


@pytest.fixture
def web(any_site: Site, web_servers: Callable[[Site], WebServer], chromium: Browser) -> Iterator[Web]:
    """The site with a running worker; no page may complain in the browser's console."""
    server = web_servers(any_site)
    found = Web(any_site, server.address, chromium, server.known)
    yield found
    found.close()
    left = [said for said in found.complaints if not any(known in said for known in found.expected)]
    assert not left, "\n".join(left)


def _serve(site: Site) -> WebServer:
    site.environment |= {
        "STATIC_ROOT": str(site.folder / "static"),
        "ALLOWED_HOSTS": "127.0.0.1",
        "STANDSTILL_SECONDS": "4",
    }
    for arguments in (
        ("collectstatic", "--noinput", "--verbosity=0"),
        ("shell", "--command", MAKE_ACCOUNTS.format(accounts=ACCOUNTS, password=PASSWORD)),
    ):
        done = site.manage(*arguments)
        assert done.returncode == 0, done.stderr
    port = embedded.free_port()
    argv = [sys.executable, "-m", "gunicorn", "qradmin.wsgi", f"--bind=127.0.0.1:{port}", *GUNICORN]
    with (site.folder / "log").open("ab") as log:
        process = subprocess.Popen(
            accounts.guarded(argv, accounts.Account.caller(), "TERM"),
            cwd=ROOT,
            env=site.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    server = WebServer(f"http://127.0.0.1:{port}", process)
    wait_until(lambda: _answers(server.address), 30, "the web server does not answer", site)
    return server


def _children(pid: int) -> list[int]:
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*found, *(grandchild for child in found for grandchild in _children(child))]


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/login/", timeout=5):
            return True
    except OSError:
        return False
