"""``make screenshots``: the pictures of the README and the docs, taken from a real site in a real browser."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from deploy import chromium
from deploy.demo.embedded import StartError
from deploy.demo.place import ROOT, Place
from deploy.demo.stack import DemoError, Stack, StopAsked, Wish, running
from deploy.screenshots.history import pretend

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TARGET = ROOT / "docs" / "screenshots"
DESKTOP = {"width": 1280, "height": 860}
TELEPHONE = {"width": 390, "height": 844}
PATIENCE = 60_000
MORE_SCANS = """
INSERT INTO scan_logs (id, qr_code_id, scanned_at, ip_address, raw_user_agent)
SELECT gen_random_uuid()::text, id, now() - n * interval '7 minutes', '10.0.0.1', md5(n::text) || md5(id)
  FROM (SELECT id FROM qr_codes ORDER BY id LIMIT 200) AS codes, generate_series(1, 4000) AS n
"""
LOST = "DELETE FROM qr_codes WHERE id IN (SELECT id FROM qr_codes ORDER BY id DESC LIMIT 40)"
MADE_SINCE = """
INSERT INTO qr_codes (id, content, qr_type, short_id, redirect_url, file_format, title)
VALUES ('picture-1', 'https://qr.example.edu/r/menu26', 'dynamic', 'menu26', 'https://example.edu/canteen',
        'png', 'Canteen, menu of the week'),
       ('picture-2', 'https://example.edu/open-day', 'static', NULL, NULL, 'svg', 'Open day 2026')
"""
SCANNED_SINCE = """
INSERT INTO scan_logs (id, qr_code_id)
SELECT gen_random_uuid()::text, 'picture-1' FROM generate_series(1, 412)
"""


class Photographer:
    """IT staff at the site, with a camera."""

    def __init__(self, browser: Browser, stack: Stack, wish: Wish) -> None:
        self.stack, self.wish = stack, wish
        self._browser = browser
        self._cookies: Any = None
        self.page = self._open()
        self.page.goto("/")
        self.page.fill("#id_username", "itstaff")
        self.page.fill("#id_password", stack.passwords["itstaff"])
        self.page.click("#login-form [type=submit]")
        self.page.wait_for_selector(".cards")
        self._cookies = self.page.context.storage_state()

    def _open(self, **options: Any) -> Page:
        settings = {"viewport": DESKTOP, "locale": "en-US", "base_url": self.stack.address} | options
        page = self._browser.new_context(storage_state=self._cookies, **settings).new_page()
        page.set_default_timeout(PATIENCE)
        return page

    def look(self, name: str, address: str = "", *, page: Page | None = None) -> None:
        """Take a picture of the whole page, here or at ``address``."""
        self.wish.check()
        page = page or self.page
        if address:
            page.goto(address)
        page.wait_for_load_state()
        page.evaluate("document.activeElement?.blur()")
        page.screenshot(path=TARGET / f"{name}.png", full_page=True)
        print(f"{name}.png", flush=True)

    @contextmanager
    def another(self, **options: Any) -> Iterator[Page]:
        page = self._open(**options)
        yield page
        page.context.close()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).first.click()

    def follow(self, name: str) -> None:
        self.page.get_by_role("link", name=name).first.click()

    def see_success(self) -> None:
        self.page.wait_for_selector("h1 >> text=Succeeded")


def go_round(camera: Photographer) -> None:
    """1. look at a backup while it runs, prove it; 2. lose rows, restore them; 3. look at the rest."""
    page, url = camera.page, camera.stack.managed_url
    with psycopg.connect(url) as connection:
        connection.execute(MORE_SCANS)
        connection.execute("ANALYZE")
    page.goto("/")
    camera.press("Validate the database")
    camera.see_success()
    camera.look("validation")

    page.goto("/")
    camera.press("Back up now")
    page.wait_for_selector("[data-live-numbers]:has-text('%')")
    camera.look("operation")
    camera.see_success()
    name = page.locator(".banner.good a").first.inner_text()
    camera.follow(name)
    camera.press("Prove")
    camera.see_success()
    page.locator(".facts").get_by_role("link", name=name).click()
    camera.look("backup")

    with psycopg.connect(url) as connection:
        connection.execute(LOST)
        connection.execute(MADE_SINCE)
    camera.follow("Restore…")
    address = page.url
    page.locator("[name=typed]").fill(name)
    page.locator("[name=reason]").fill("A script deleted the codes of the summer term")
    camera.look("restore")
    with camera.another(color_scheme="dark") as dark:
        camera.look("restore-dark", address, page=dark)
    camera.press("Restore the whole database")
    camera.see_success()
    camera.look("restored")
    camera.follow("Before and after, and the undo")
    page.get_by_role("textbox", name="Note").fill("The clean-up script is switched off until it is tested.")
    camera.press("Add the note")
    page.wait_for_selector(".note")
    camera.look("restore-event")
    look_at_the_rest(camera)


def look_at_the_rest(camera: Photographer) -> None:
    with psycopg.connect(camera.stack.managed_url) as connection:
        connection.execute(MADE_SINCE)
        connection.execute(SCANNED_SINCE)
    camera.page.goto("/")
    camera.press("Validate the database")
    camera.see_success()
    for name, address in (
        ("overview", "/"),
        ("morning-check", "/morning-check/"),
        ("backups", "/backups_app/backup/"),
        ("audit-history", "/backups_app/operation/"),
        ("runbook", "/runbooks/accidental-deletion/"),
    ):
        camera.look(name, address)
    with camera.another(color_scheme="dark") as dark:
        camera.look("overview-dark", "/", page=dark)
    with camera.another(viewport=TELEPHONE, is_mobile=True, has_touch=True) as telephone:
        camera.look("overview-mobile", "/", page=telephone)
        camera.look("backups-mobile", "/backups_app/backup/", page=telephone)


def main() -> int:
    program = chromium.find()
    if program is None:
        print("Chromium is not installed (Debian and Ubuntu: apt install chromium).", file=sys.stderr)
        return 1
    from playwright.sync_api import sync_playwright

    wish, place = Wish(), Place(Path(tempfile.mkdtemp(prefix="qradmin-pictures-")))
    TARGET.mkdir(parents=True, exist_ok=True)
    try:
        with place.alone(), running(place, wish, print) as stack:
            pretend()
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=program, args=list(chromium.FLAGS))
                go_round(Photographer(browser, stack, wish))
                browser.close()
    except StopAsked:
        return 1
    except (DemoError, StartError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        place.forget()
    return 0


if __name__ == "__main__":
    sys.exit(main())
