"""Every page is accessible, fits its screen and needs nothing that the policy forbids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.end_to_end.browser import Web
from tests.interface.test_every_page import GETS

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.real

# Every page that the matrix of who may see what knows of, and these.
MORE = (
    "/backups_app/backup/?q=nothing",
    "/backups_app/operation/{failed}/change/",
    "/backups_app/operation/{running}/change/",
    "/password_change/",
)
IDS = {"backup": "{backup}", "operation": "{operation}", "restoreevent": "{event}"}
NO_PAGES = ("export/", "progress/")
REFUSED = {"/backups_app/backup/999/change/": 404, "/backups_app/backup/add/": 403}
# Colours differ in the dark, places on a telephone: the other rules need one look.
ALL_RULES: dict[str, Any] = {"preload": False}
COLOURS = {"preload": False, "runOnly": ["color-contrast", "link-in-text-block"]}
SCREENS: dict[str, tuple[dict[str, int], str, dict[str, Any]]] = {
    "light": ({"width": 1280, "height": 900}, "light", ALL_RULES),
    "dark": ({"width": 1280, "height": 900}, "dark", COLOURS),
    "mobile": ({"width": 390, "height": 844}, "light", ALL_RULES),
}
TOO_WIDE = """() => {
    const room = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= room) return [];
    return [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > room)
        .map((one) => `${one.tagName} ${one.id} ${one.className}`);
}"""
# The stock admin's list of users has no heading between its title and its filters.
STOCK = ("/auth/", "heading-order")


def pages(trail: dict[str, int]) -> list[str]:
    found = []
    for address, answers in GETS.items():
        for model, place in IDS.items():
            address = address.replace(f"{model}/1/", f"{model}/{place}/")  # noqa: PLW2901
        if answers["superuser"] == 200 and "/1/" not in address and not address.endswith(NO_PAGES):
            found.append(f"/{address}")
    return [address.format(**trail) for address in (*found, *MORE)]


def make_trail(web: Web) -> dict[str, int]:
    """A backup, a restore that can be undone, a failure and something that runs, by their ids."""
    name = web.site.backup()
    web.site.wait_for(web.site.request("validate_database"))
    restore = web.site.wait_for(web.site.request_of_backup("restore", name, reason="for the walk"))
    assert restore["state"] == "succeeded", restore
    now = "created_at=timezone.now(), expires_at=timezone.now() + timedelta(hours=1)"
    ended = "started_at=timezone.now(), finished_at=timezone.now()"
    failed = web.site.ask(
        "Operation.objects.create(kind='backup', state='failed', error='It failed.', error_detail='x',"
        f" requested_by_name='itstaff', {now}, {ended}).pk"
    )
    running = web.site.ask(
        "Operation.objects.create(kind='backup', state='running', current_step='Dump', progress_done=3,"
        " progress_total=5, progress_unit='rows', started_at=timezone.now(),"
        f" heartbeat_at=timezone.now() + timedelta(hours=1), {now}).pk"  # no housekeeping ends it
    )
    backup = web.site.ask("Backup.objects.get(name=name).pk", name=name)
    event = web.site.event(restore["id"])["id"]
    return {
        "backup": backup,
        "operation": restore["id"],
        "failed": failed,
        "running": running,
        "event": event,
    }


def test_no_page_has_an_accessibility_fault_on_any_screen(web: Web) -> None:
    faults: list[str] = []
    page = web.open()
    page.goto("/login/")
    faults += _faults_on_every_screen(web, page)
    trail = make_trail(web)
    page = web.log_in("root")

    for address in (*pages(trail), *REFUSED):
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == REFUSED.get(address, 200), address
        faults += _faults_on_every_screen(web, page)

    assert not faults, "\n".join(faults)


def _faults_on_every_screen(web: Web, page: Page) -> list[str]:
    """What the browser complains of and axe-core finds, and a page that is wider than its screen."""
    from axe_playwright_python.sync_playwright import Axe

    found = [said for said in web.complaints if "status of 40" not in said]
    for screen, (size, scheme, options) in SCREENS.items():
        page.set_viewport_size(size)  # type: ignore[arg-type]
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for fault in Axe().run(page, options=options).response["violations"]:
            if STOCK[0] in page.url and fault["id"] == STOCK[1]:
                continue
            where = [node["target"] for node in fault["nodes"]][:3]
            found.append(f"{page.url}, {screen}: {fault['id']}: {fault['help']}: {where}")
        found += [f"{page.url}, {screen}: too wide: {name}" for name in page.evaluate(TOO_WIDE)]
    web.complaints.clear()  # axe itself tries styles that the policy forbids
    return found
