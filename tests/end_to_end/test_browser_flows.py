"""Every job of an operator from the login to its result, by clicking in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from backups_app.systems.postgres.connections import Server
from tests.conftest import url_of
from tests.end_to_end.browser import Web, WebServer, type_login
from tests.end_to_end.cluster import Site, contents, dump_held_up, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.real


def see(place: Locator, text: str) -> None:
    from playwright.sync_api import expect

    expect(place.first).to_contain_text(text)


def see_not(place: Locator, text: str) -> None:
    from playwright.sync_api import expect

    expect(place).not_to_contain_text(text)


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).first.click()


def follow(page: Page, name: str) -> None:
    page.get_by_role("link", name=name).first.click()


def see_end(page: Page, state: str = "Succeeded") -> None:
    """The operation's own page says how it ended, by itself."""
    see(page.locator("h1 .state"), state)


def back_up(page: Page) -> str:
    """Click through a backup; its name."""
    page.goto("/")
    press(page, "Back up now")
    see_end(page)
    return page.locator(".banner.good a").first.inner_text()


def hold(page: Page) -> None:
    """Begin a backup that is held up, and stand on its page."""
    press(page, "Back up now")
    see(page.locator("h1 .state"), "Running")


def confirm(page: Page, typed: str, reason: str, button: str) -> None:
    page.get_by_role("textbox", name="Type to confirm").fill(typed)
    page.get_by_role("textbox", name="Reason").fill(reason)
    press(page, button)


def test_a_backup_is_taken_validated_and_proven(web: Web) -> None:
    web.known.clear()
    page = web.log_in()

    name = back_up(page)
    follow(page, name)
    for deed in ("Validate", "Prove"):
        press(page, deed)
        see_end(page)
        page.locator(".facts").get_by_role("link", name=name).click()

    see(page.locator("h1"), "Proven")
    page.locator(".tabs").get_by_role("link", name="Backups").click()
    see(page.locator(f"#result_list tr:has-text('{name}')"), "Proven")


def test_what_was_deleted_comes_back_and_an_undo_takes_it_away_again(
    web: Web, managed: Server, owner: psycopg.Connection[Any]
) -> None:
    page = web.log_in()
    name = back_up(page)
    before = contents(managed)
    owner.execute("DELETE FROM qr_codes WHERE id IN (SELECT id FROM qr_codes ORDER BY id LIMIT 7)")
    owner.execute(
        "INSERT INTO qr_codes (id, content, file_format, title) VALUES ('new', 'x', 'png', 'Canteen menu')"
    )
    damaged = contents(managed)

    follow(page, name)
    follow(page, "Restore…")
    see(page.locator("main"), "1 QR code was made since the backup and would be lost")
    see(page.locator("main"), "Canteen menu")
    assert page.get_by_role("button", name="Restore the whole database").is_disabled()
    confirm(page, name, "seven codes were deleted", "Restore the whole database")
    see_end(page)
    assert contents(managed) == before

    follow(page, "Before and after, and the undo")
    see(page.locator(".facts"), "seven codes were deleted")
    page.get_by_role("textbox", name="Note").fill("The import script had run twice.")
    press(page, "Add the note")
    see(page.locator(".note"), "The import script had run twice.")
    follow(page, "Undo…")
    confirm(page, "qrdb", "wrong backup", "Undo the restore")
    see_end(page)
    assert contents(managed) == damaged


def test_a_restore_is_not_begun_without_a_reason(web: Web, managed: Server) -> None:
    page = web.log_in()
    name = back_up(page)
    before = contents(managed)
    web.expected = ("status of 422",)

    follow(page, name)
    follow(page, "Restore…")
    confirm(page, name, "", "Restore the whole database")

    see(page.locator(".errornote"), "Nothing was started")
    assert contents(managed) == before


def test_a_running_backup_is_watched_and_cancelled(web: Web, managed: Server) -> None:
    page = web.log_in()

    with dump_held_up(managed):
        hold(page)
        page.evaluate("window.isTheSamePage = true")
        see(page.locator("[data-live-step]"), "Dump and count in one snapshot")
        see(page.locator("[data-live-steps] li"), "Check server, client program and room")
        see(page.locator("[data-live-ahead] li"), "Read the whole archive")
        see_not(page.locator("[data-live-ahead]"), "Dump and count in one snapshot")
        page.locator("[data-live-duration]").get_by_text(re.compile(r"[2-9]\.\d s")).wait_for()
        assert page.evaluate("window.isTheSamePage")
        see(page.locator(".deeds"), "Until the backup has its name a cancel leaves no file")
        press(page, "Cancel")
        see_end(page, "Cancelled")

    see(page.locator(".banner"), "It was cancelled by itstaff")


def test_what_blocks_a_backup_is_shown_and_ended(web: Web, managed: Server) -> None:
    page = web.log_in()
    page.goto("/")
    with psycopg.connect(url_of(managed), application_name="old report") as holder:
        holder.execute("LOCK TABLE scan_logs IN ACCESS EXCLUSIVE MODE")
        hold(page)

        see(page.locator(".held-up"), "Nothing has moved for")
        see(page.locator(".held-up tbody tr"), "old report")
        see(page.locator(".held-up tbody tr"), "LOCK TABLE scan_logs")
        page.locator(".held-up").get_by_role("textbox", name="Reason").fill(
            "The report hangs since yesterday"
        )
        press(page, "End the chosen sessions")

        see_end(page)
        with pytest.raises(psycopg.OperationalError):
            holder.execute("SELECT 1")
    see(page.locator("[data-live-steps]"), "itstaff ended what blocked")


def test_a_double_click_is_one_operation(web: Web, managed: Server) -> None:
    page = web.log_in()

    with dump_held_up(managed):
        page.get_by_role("button", name="Back up now", exact=True).dblclick()
        see(page.locator("h1 .state"), "Running")
        page.goto("/backups_app/operation/?state__exact=running")
        assert page.locator("#result_list tbody tr").count() == 1


def test_the_help_desk_sees_all_and_can_do_nothing(web: Web) -> None:
    name = web.site.backup()
    page = web.log_in("helpdesk")

    page.locator(".tabs").get_by_role("link", name="Backups").click()
    follow(page, name)
    see(page.locator("h1"), name)

    assert page.locator("main button:not(.copy)").count() == 0
    web.expected = ("status of 403",)
    answer = page.goto(re.sub(r"change/$", "restore/", page.url))
    assert answer is not None
    assert answer.status == 403
    see(page.locator("h1"), "Not allowed")


def test_a_dead_worker_is_told_on_the_overview_and_where_one_waits(web: Web) -> None:
    page = web.log_in()
    web.site.stop_cluster()
    web.site.ask("WorkerBeat.objects.update(at=timezone.now() - timedelta(minutes=5))")

    page.goto("/")
    see(page.locator(".banner.bad").filter(has_text="No worker"), "No worker is alive")
    press(page, "Back up now")
    see(page.locator("main"), "No worker is alive: start one")

    web.site.ensure_cluster()
    web.site.ask("tasks.dispatch_waiting(unsent_since=timedelta())")
    see_end(page)


def test_a_session_that_ends_leads_to_the_login_and_back(web: Web, managed: Server) -> None:
    page = web.log_in()

    with dump_held_up(managed):
        hold(page)
        address = page.url
        page.context.clear_cookies()
        page.wait_for_url("**/login/?next=**")
        type_login(page, "itstaff")
        page.wait_for_url(address)
        see(page.locator("h1 .state"), "Running")


def test_a_lost_connection_is_told_and_tried_again_with_growing_pauses(web: Web, managed: Server) -> None:
    page = web.log_in()
    web.expected = ("ERR_INTERNET_DISCONNECTED",)

    with dump_held_up(managed):
        hold(page)
        page.context.set_offline(True)
        see(page.locator("[data-live-lost]"), "No connection to the site. It is tried again in 1 s.")
        see(page.locator("[data-live-lost]"), "No connection to the site. It is tried again in 2 s.")
        page.context.set_offline(False)
        page.locator("[data-live-lost]").wait_for(state="hidden")
    see_end(page)


def test_a_site_that_falls_silent_is_told_like_a_lost_connection(
    web: Web, web_servers: Callable[[Site], WebServer], managed: Server
) -> None:
    page = web.log_in()

    with dump_held_up(managed):
        hold(page)
        with web_servers(web.site).silent():
            see(page.locator("[data-live-lost]"), "No connection to the site. It is tried again in 1 s.")
        page.locator("[data-live-lost]").wait_for(state="hidden")
    see_end(page)


def test_what_somebody_is_typing_is_not_lost_when_the_operation_ends(web: Web, managed: Server) -> None:
    page = web.log_in()
    page.goto("/")
    with psycopg.connect(url_of(managed), application_name="old report") as holder:
        holder.execute("LOCK TABLE scan_logs IN ACCESS EXCLUSIVE MODE")
        hold(page)
        reason = page.locator(".held-up").get_by_role("textbox", name="Reason")
        reason.fill("The report hangs since yest")

    see(page.locator("[data-live-lost]"), "This page is no longer up to date.")
    number = int(page.url.rstrip("/").split("/")[-2])
    wait_until(
        lambda: web.site.ask("Operation.objects.get(pk=number).state", number=number) == "succeeded",
        30,
        "the backup did not end",
        web.site,
    )
    page.wait_for_timeout(1500)
    assert reason.input_value() == "The report hangs since yest"
    reason.fill("")
    see_end(page)


def test_an_error_of_the_site_is_not_told_as_a_lost_connection(web: Web, managed: Server) -> None:
    page = web.log_in()
    web.expected = ("Failed to load resource",)

    with dump_held_up(managed):
        hold(page)
        page.route("**/progress/**", lambda route: route.fulfill(status=502))
        see(page.locator("[data-live-lost]"), "The site answered with an error. It is tried again in 1 s.")
        page.unroute("**/progress/**")
        page.locator("[data-live-lost]").wait_for(state="hidden")
    see_end(page)


def test_a_cancel_from_elsewhere_is_seen(web: Web, managed: Server) -> None:
    page = web.log_in()

    with dump_held_up(managed):
        hold(page)
        number = int(page.url.rstrip("/").split("/")[-2])
        web.site.ask("Operation.objects.get(pk=number).request_cancel('else')", number=number)
        see(page.locator("h1 .state"), "Cancelled")
    see(page.locator("main"), "It was cancelled by else.")


def test_a_hidden_tab_asks_seldom(web: Web, managed: Server) -> None:
    page = web.log_in()
    asked: list[str] = []

    with dump_held_up(managed):
        hold(page)
        page.on("request", lambda request: asked.append(request.url))
        page.clock.install()
        page.reload()
        page.evaluate("Object.defineProperty(document, 'hidden', {get: () => true})")
        with page.expect_response("**/progress/**"):
            page.clock.run_for(1000)
        page.locator("[data-live-duration]").get_by_text(re.compile(r"\d s")).wait_for()
        before = len(asked)
        page.clock.run_for(14_000)
        page.evaluate("fetch(location.href)")

        assert [url for url in asked[before:] if "progress" in url] == []
        with page.expect_response("**/progress/**"):
            page.clock.run_for(2000)


def test_a_backup_works_without_javascript(web: Web) -> None:
    page = web.log_in(java_script_enabled=False)

    press(page, "Back up now")

    see_end(page)


def test_a_backup_works_by_keyboard_alone(web: Web) -> None:
    page = web.log_in()

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip-to-content-link"
    for _ in range(30):
        page.keyboard.press("Tab")
        seen = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert seen == "solid", page.evaluate("document.activeElement.outerHTML")
        if page.evaluate("document.activeElement.textContent").strip() == "Back up now":
            break
    page.keyboard.press("Enter")

    see_end(page)


def test_a_backup_is_downloaded(web: Web) -> None:
    name = web.site.backup()
    page = web.log_in()
    page.goto("/backups_app/backup/")
    follow(page, name)

    with page.expect_download() as coming:
        press(page, "Download")

    assert coming.value.suggested_filename == name
    page.goto("/backups_app/operation/?kind__exact=download")
    see(page.locator("#result_list"), name)
