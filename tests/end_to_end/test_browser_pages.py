"""Every page is accessible, fits its screen and needs nothing that the policy forbids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from backups_app.systems.postgres.connections import Server
from tests.end_to_end.browser import Web, WebServer
from tests.end_to_end.cluster import Site
from tests.interface.test_every_page import GETS, SOMEBODY

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.real
NOW = "created_at=timezone.now(), expires_at=timezone.now() + timedelta(hours=1)"

# Every page that the matrix of who may see what knows of, and these.
MORE = (
    "/backups_app/backup/?q=nothing",
    "/backups_app/operation/{failed}/change/",
    "/backups_app/operation/{running}/change/",
    "/password_change/",
)
IDS = {
    "backup/1/": "backup/{backup}/",
    "operation/1/": "operation/{operation}/",
    "restoreevent/1/": "restoreevent/{event}/",
    f"user/{SOMEBODY}/": "user/{user}/",
    f"group/{SOMEBODY}/": "group/{group}/",
}
NO_PAGES = ("export/", "progress/", "jsi18n/")
ELSEWHERE = "http://localhost"  # a name that is not in ALLOWED_HOSTS
REFUSED = {
    "/backups_app/backup/999/change/": 404,
    "/backups_app/backup/add/": 403,
    "/backups_app/operation/?requested_by__password=1": 400,
    ELSEWHERE: 400,
}
# Of a site on which nothing has happened yet.
EMPTY = [
    "/",
    "/backups_app/backup/",
    "/backups_app/operation/",
    "/backups_app/restoreevent/",
    "/backups_app/backup/prune/",
    "/backups_app/backup/import/",
    "/morning-check/",
    "/schedules/",
    "/runbooks/no-backups/",
    "/runbooks/upgrade/",
]
# A part takes about a quarter of a minute on two idle cores.
PARTS = 12
# Colours differ in the dark, words and places on a telephone: the other rules need one look.
ALL_RULES: dict[str, Any] = {"preload": False, "resultTypes": ["violations"]}
COLOURS = ALL_RULES | {"runOnly": ["color-contrast", "link-in-text-block"]}
DESK, TELEPHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
TOO_WIDE = """() => {
    const room = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= room) return [];
    return [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > room)
        .map((one) => `${one.tagName} ${one.id} ${one.className}`);
}"""
HIDDEN = """() => [...document.querySelectorAll("#result_list tbody :is(td, th)")]
    .filter((one) => one.textContent.trim() && !one.querySelector(".nothing") && !one.getClientRects().length)
    .map((one) => one.className)"""
# Or housekeeping ends what runs.
ALIVE = "Operation.objects.running().update(heartbeat_at=timezone.now())"
# The writing of a chart that does not fit into it.
CUT_OFF = """() => [...document.querySelectorAll("svg.chart text")].filter((text) => {
    const [inner, outer] = [text, text.ownerSVGElement].map((one) => one.getBoundingClientRect());
    return inner.left < outer.left || inner.right > outer.right || inner.bottom > outer.bottom + 1;
}).map((text) => text.textContent)"""
# What was made on a site once, and stays there: its trail, and the site on which nothing is made.
TRAILS: dict[int, dict[str, int]] = {}


def pages(trail: dict[str, int]) -> list[str]:
    found = []
    for address, answers in GETS.items():
        for of_matrix, of_trail in IDS.items():
            address = address.replace(of_matrix, of_trail)  # noqa: PLW2901
        if answers["superuser"] == 200 and "/1/" not in address and not address.endswith(NO_PAGES):
            found.append(f"/{address}")
    return [address.format(**trail) for address in (*found, *MORE)]


@pytest.fixture
def trail(web: Web) -> Iterator[dict[str, int]]:
    """A backup, a restore that can be undone, a failure and something that runs, by their ids."""
    site = web.site
    if id(site) not in TRAILS:
        TRAILS[id(site)] = _make_trail(site)
    running = site.ask(
        "Operation.objects.create(kind='backup', state='running', current_step='Dump', progress_done=3,"
        " progress_total=5, progress_unit='rows', started_at=timezone.now(),"
        f" heartbeat_at=timezone.now(), {NOW}).pk"
    )
    yield TRAILS[id(site)] | {"running": running}
    site.ask(
        "Operation.objects.filter(pk=pk).update(state='cancelled', finished_at=timezone.now())", pk=running
    )


def _make_trail(site: Site) -> dict[str, int]:
    name = site.backup()
    site.wait_for(site.request("validate_database"))
    restore = site.wait_for(site.request_of_backup("restore", name, reason="for the walk"))
    assert restore["state"] == "succeeded", restore
    failed = site.ask(
        "Operation.objects.create(kind='backup', state='failed', error='It failed.', error_detail='x',"
        f" requested_by_name='itstaff', {NOW}, started_at=timezone.now(), finished_at=timezone.now()).pk"
    )
    return {
        "backup": site.ask("Backup.objects.get(name=name).pk", name=name),
        "operation": restore["id"],
        "failed": failed,
        "event": site.event(restore["id"])["id"],
        "user": site.ask("User.objects.get(username='itstaff').pk"),
        "group": site.ask("Group.objects.first().pk"),
    }


@pytest.fixture
def empty_web(
    managed: Server,
    new_site: Callable[..., Site],
    sites: dict[str, Site],
    web_servers: Callable[[Site], WebServer],
    chromium: Browser,
) -> Iterator[Web]:
    """A site on which nothing has happened yet, and no worker runs."""
    if "empty" not in sites:
        sites["empty"] = new_site(managed)
    server = web_servers(sites["empty"])
    found = Web(sites["empty"], server.address, chromium, server.known)
    yield found
    found.close()


def test_the_login_has_no_accessibility_fault_on_any_screen(web: Web) -> None:
    assert not _faults(web, {"/login/": 200}, is_logged_in=False)


def test_the_page_after_too_many_wrong_passwords_has_none(web: Web) -> None:
    page = web.open()
    for _ in range(5):
        page.goto("/login/")
        page.fill("#id_username", "nobody")
        page.fill("#id_password", "wrong")
        with page.expect_navigation():
            page.click("[type=submit]")

    assert "Too many failed logins" in page.title()
    assert not _told_by_axe(page, ALL_RULES, "light") + _misfits(page, "light")
    web.expected = ("status of 429",)


@pytest.mark.parametrize("part", range(PARTS))
def test_no_page_has_an_accessibility_fault_on_any_screen(web: Web, trail: dict[str, int], part: int) -> None:
    wanted = {**dict.fromkeys(pages(trail), 200), **REFUSED}

    faults = _faults(web, dict([*wanted.items()][part::PARTS]))

    assert not faults, "\n".join(faults)


@pytest.mark.usefixtures("trail")
def test_a_telephone_shows_every_figure_of_a_list(web: Web) -> None:
    page = web.log_in("root", viewport=TELEPHONE, is_mobile=True)

    for address, names in (
        ("/backups_app/backup/", {"duration", "rows", "copies"}),
        ("/backups_app/restoreevent/", {"safety backup", "undo until"}),
        ("/backups_app/operation/", {"asked by", "duration"}),
    ):
        page.goto(address)
        assert page.evaluate(HIDDEN) == [], address
        assert set(page.locator("#result_list .cell-name:visible").all_inner_texts()) == names


@pytest.mark.parametrize("part", range(2))
def test_no_page_of_an_empty_site_has_one(empty_web: Web, part: int) -> None:
    faults = _faults(empty_web, dict.fromkeys(EMPTY[part::2], 200))

    assert not faults, "\n".join(faults)


def _faults(web: Web, wanted: dict[str, int], *, is_logged_in: bool = True) -> list[str]:
    """What the browser complains of and axe-core finds on these pages, and what does not fit its screen."""
    enter = partial(web.log_in, "root") if is_logged_in else web.open
    english, german = enter(), enter(locale="de-DE")
    found: list[str] = []
    for address, status in wanted.items():
        _go(web, english, address, status)
        found += [said for said in web.complaints if "status of 40" not in said]
        for scheme, rules in (("light", ALL_RULES), ("dark", COLOURS)):
            _show(english, DESK, scheme)
            found += _told_by_axe(english, rules, scheme) + _misfits(english, scheme)
        _show(english, TELEPHONE, "light")
        found += _misfits(english, "telephone")
        _go(web, german, address, status)
        _show(german, TELEPHONE, "light")
        found += _misfits(german, "telephone, German") + _told_by_axe(german, ALL_RULES, "telephone, German")
        web.complaints.clear()  # axe itself tries styles that the policy forbids
    return found


def _go(web: Web, page: Page, address: str, status: int) -> None:
    port = web.address.rpartition(":")[2]
    web.site.ask(ALIVE)
    answer = page.goto(f"{ELSEWHERE}:{port}/" if address == ELSEWHERE else address)
    assert answer is not None
    assert answer.status == status, address
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


def _show(page: Page, size: dict[str, int], scheme: str) -> None:
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]


def _told_by_axe(page: Page, rules: dict[str, Any], screen: str) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = []
    for fault in Axe().run(page, options=rules).response["violations"]:
        where = [node["target"] for node in fault["nodes"]][:3]
        found.append(f"{page.url}, {screen}: {fault['id']}: {fault['help']}: {where}")
    return found


def _misfits(page: Page, screen: str) -> list[str]:
    wide = [f"{page.url}, {screen}: too wide: {name}" for name in page.evaluate(TOO_WIDE)]
    return wide + [f"{page.url}, {screen}: cut off: {text}" for text in page.evaluate(CUT_OFF)]
