"""What all pages have: addresses, errors, rights, accessibility, and text that stays text."""

import html
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.browser import PHONE, WIDE
from tests.acceptance.harness import Daemon, running
from tests.acceptance.ui.visiting import HOSTILE, PREFIX, Visit


def test_hostile_text_stays_text(visit: Visit, web: tuple[int, int, int]) -> None:
    visitor = visit()
    for path in ("/ui/", "/ui/environment/default/web/", f"/ui/build/{web[1]}/?tab=specification"):
        page = visitor.go(path)
        expect(page.locator("main")).to_contain_text("<script>alert(1)</script>")
        assert page.locator("main script, main img").count() == 0
    page = visitor.go(f"/ui/?search={HOSTILE}")
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    expect(page.get_by_placeholder("Search")).to_have_value(HOSTILE)


def test_every_link_of_an_odd_name_leads_there(daemon: Daemon, tiny: str) -> None:
    """Names may have characters that mean something in an address."""
    name = "a?b&c=d~^$@+e"
    daemon.submit({"name": name, "channels": [tiny], "dependencies": ["harmless"]}, namespace="o?o")
    page = f"/ui/environment/{quote('o?o')}/{quote(name, safe='')}/"
    for path in (f"/ui/?namespace={quote('o?o')}", page, f"{page}?tab=builds"):
        text = daemon.client.get(f"{daemon.url}{path}").text
        links = {html.unescape(link) for link in re.findall(r'href="([^"]*/ui/[^"]*)"', text)}
        assert any(quote(name, safe="") in link for link in links)
        for link in links:
            answer = daemon.client.get(daemon.url.removesuffix(PREFIX) + link)
            assert answer.status_code == 200, link


def test_the_search_is_instant_and_in_the_address(visit: Visit, web: tuple[int, int, int]) -> None:
    visitor = visit()
    page = visitor.go("/ui/")
    page.keyboard.press("/")
    page.keyboard.type("nothing-like-this")
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    expect(page).to_have_url(re.compile("search=nothing-like-this"))
    page.get_by_placeholder("Search").fill("we")
    expect(page.get_by_role("link", name="default / web")).to_be_visible()
    page.get_by_role("link", name="Failed").click()
    expect(page).to_have_url(re.compile("search=we.*status=failed"))
    expect(page.get_by_role("link", name="default / web")).to_be_visible()
    visitor.go("/ui/namespace/")
    page.keyboard.press("/")
    expect(page.get_by_placeholder("Search")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("New environment")
    page.get_by_role("button", name="Close").click()


@pytest.mark.parametrize(
    ("path", "heading"),
    [
        ("/ui/nothing/here/", "This is not here"),
        ("/ui/build/999999/", "This is not here"),
        ("/ui/build/x/", "This address can't be read"),
        ("/ui/environment/default/nothing/", "This is not here"),
        ("/ui/environment/ada/secret/", "Please sign in"),
        ("/ui/setting/", "Please sign in"),
    ],
)
def test_every_error_is_a_sentence_with_a_number(visit: Visit, path: str, heading: str) -> None:
    visitor = visit()
    visitor.expected.add("Failed to load resource")
    page = visitor.go(path)
    expect(page.get_by_role("heading", name=heading)).to_be_visible()
    expect(page.get_by_text(re.compile("^Request [0-9a-f]{8}$"))).to_be_visible()


def test_a_right_that_is_missing_is_said(daemon: Daemon, visit: Visit) -> None:
    visitor = visit()
    visitor.expected.add("Failed to load resource")
    page = visitor.sign_in("carol", "secret", "/ui/namespace/default/")
    expect(page.get_by_role("button", name="Grant")).to_have_count(0)
    page = visitor.go("/ui/setting/")
    expect(page.get_by_role("heading", name="You may not do this")).to_be_visible()
    answer = visitor.context.request.post(
        f"{daemon.url}/ui/environment/default/web/", form={"action": "delete"}
    )
    assert answer.status == 403
    assert "You may not do this" in answer.text()


def test_another_sites_form_changes_nothing(daemon: Daemon, visit: Visit) -> None:
    visitor = visit()
    visitor.sign_in("root", "secret")
    answer = visitor.context.request.post(
        f"{daemon.url}/ui/namespace/",
        form={"name": "stolen"},
        headers={"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"},
    )
    assert answer.status == 403
    assert daemon.request("GET", "/namespace/stolen/").status_code == 404


PAGES = [
    "/ui/",
    "/ui/new/",
    "/ui/environment/default/web/",
    "/ui/environment/default/web/?tab=builds",
    "/ui/environment/default/web/?tab=use",
    "/ui/environment/default/web/edit/",
    "/ui/environment/default/web/diff/?from={0}&to={1}",
    "/ui/build/{1}/",
    "/ui/build/{2}/",
    "/ui/build/{1}/?tab=artifacts",
    "/ui/namespace/",
    "/ui/namespace/default/",
    "/ui/user/",
    "/ui/status/",
    "/ui/people/",
    "/ui/audit/",
    "/ui/setting/",
    "/login/",
    "/logout/",
]


@pytest.mark.parametrize(
    ("scheme", "size"), [("light", WIDE), ("dark", PHONE)], ids=["light", "dark-phone"]
)
def test_every_page_is_accessible(
    visit: Visit, web: tuple[int, int, int], scheme: str, size: tuple[int, int]
) -> None:
    """The rules of WCAG 2.2 AA that a program can check; and nothing is wider than its window."""
    visitor = visit(color_scheme=scheme, size=size)
    page = visitor.sign_in("root", "secret")
    found = {}
    for number, template in enumerate(PAGES):
        path = template.format(*web)
        visitor.go(path)
        page.wait_for_load_state("networkidle")
        name = re.sub("[^a-z]+", "-", template.removeprefix("/ui/")).strip("-")
        visitor.screenshot(f"{scheme}-{number:02}-{name}")
        problems = visitor.violations()
        if visitor.overflow() > 0:
            problems.append(f"{visitor.overflow()} px too wide")
        if problems:
            found[path] = problems
    assert not found


def test_no_pages_where_none_are_wanted(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--CondaStoreServer.enable_ui=False") as daemon:
        for path in ("/", "/ui/", "/admin/", "/favicon.ico"):
            assert daemon.client.get(daemon.url + path).status_code == 404
        assert daemon.client.get(f"{daemon.url}/login/").status_code == 200


def test_admin_leads_to_the_same_pages(
    daemon: Daemon, visit: Visit, web: tuple[int, int, int]
) -> None:
    """As conda-store's own browser test drives them (rest-api §6)."""
    del web
    visitor = visit()
    page: Page = visitor.go("/admin/")
    page.get_by_role("link", name="Login").click()
    page.get_by_placeholder("Username").fill("root")
    page.get_by_placeholder("Password").fill("secret")
    page.get_by_role("button", name="Sign In").click()
    expect(page).to_have_url(f"{daemon.url}/admin/")
    page.get_by_placeholder("Search").fill("web")
    page.get_by_placeholder("Search").press("Enter")
    page.get_by_text("default / web").click()
    page.locator("a:has-text('Build')").first.click()
    expect(page).to_have_url(re.compile("/admin/"))


def test_the_root_leads_to_the_pages(daemon: Daemon) -> None:
    root = daemon.url.removesuffix(PREFIX)
    for path in ("/", PREFIX):
        answer = daemon.client.get(root + path)
        assert answer.status_code == 307
    assert daemon.client.get(root + "/").headers["location"] == f"{daemon.url}/ui/"
    assert daemon.client.get(f"{daemon.url}/ui").status_code == 307
    assert daemon.client.get(f"{daemon.url}/ui/new").status_code == 307
    icon = daemon.client.get(f"{daemon.url}/favicon.ico")
    assert icon.headers["content-type"].startswith("image/")


def test_files_are_kept_for_good_until_they_change(daemon: Daemon) -> None:
    page = daemon.client.get(f"{daemon.url}/ui/")
    style = re.search(r'href="(\S+/style.css)"', page.text)
    assert style
    address = daemon.url.removesuffix(PREFIX) + style[1]
    answer = daemon.client.get(address)
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-encoding"] == "gzip"
    again = daemon.client.get(address, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    other = re.sub("/static/[0-9a-f]+/", "/static/0123/", address)
    assert daemon.client.get(other).headers["cache-control"] == "no-cache"
    for name in ("nothing.js", "..%2fsite.py", "%2e%2e"):
        assert daemon.client.get(address.replace("style.css", name)).status_code == 404
