"""The web interface in a real browser: whole journeys, with and without JavaScript."""

import html
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from devtools.localchannel.server import ChannelServer, Fault
from tests.acceptance.browser import PHONE, WIDE, Visitor, chromium
from tests.acceptance.harness import FOREVER_S, Daemon, eventually, running

PREFIX = "/conda-store"
BUILD_MS = 180_000
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
Visit = Callable[..., Visitor]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, channel: str) -> Iterator[Daemon]:
    options = (
        f"--CondaStore.conda_indexed_channels={channel}",
        "--CondaStoreWorker.index_interval=900",
        f"--CondaStoreServer.url_prefix={PREFIX}",
        "--CondaStoreServer.authentication_class=condastore.auth.DummyAuthentication",
        "--DummyAuthentication.password=secret",
        "--DummyAuthentication.admin_users=root",
        "--DummyAuthentication.user_role_bindings={'{username}/*': ['admin']}",
    )
    with running(tmp_path_factory.mktemp("ui") / "data", *options) as found:
        found.url = found.url.replace("127.0.0.1", "localhost")
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def visit(browser: Browser, daemon: Daemon) -> Iterator[Visit]:
    visitors: list[Visitor] = []

    def arrive(**options: Any) -> Visitor:
        visitors.append(Visitor(browser, daemon.url, **options))
        return visitors[-1]

    yield arrive
    for visitor in visitors:
        visitor.leave()


@pytest.fixture(scope="module")
def web(daemon: Daemon, channel: str) -> tuple[int, int, int]:
    """Three builds of `default/web`: two that work, and one that can't."""
    common = {"name": "web", "description": HOSTILE, "channels": [channel]}
    first = daemon.submit({**common, "dependencies": ["python", "flask", "click<8.2"]})
    daemon.completed(first)
    second = daemon.submit({**common, "dependencies": ["python", "flask", "rich"]})
    daemon.completed(second)
    third = daemon.submit({**common, "dependencies": ["python", "flask>=99"]})
    assert daemon.ended(third)["status"] == "FAILED"
    return first, second, third


def _text(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Text", exact=True)


def test_a_journey(daemon: Daemon, visit: Visit, channel: str) -> None:
    """Sign in, write an environment, watch it build, change it, compare, go back, delete it."""
    visitor = visit()
    page = visitor.go("/ui/new/?namespace=ada")
    expect(page.get_by_role("heading", name="Please sign in")).to_be_visible()
    visitor.expected.add("status of 401")
    visitor.problems.clear()
    page.locator(".problem").get_by_role("link", name="Login").click()
    page.fill("#username", "ada")
    page.fill("#password", "secret")
    page.get_by_role("button", name="Sign In").click()
    expect(page).to_have_url(re.compile(r"/ui/new/\?namespace=ada$"))

    area = _text(page)
    area.fill(f"name: x\nchannels:\n  - {channel}\ndependencies:\n  - python\n")
    page.get_by_label("Name", exact=True).fill("science")
    expect(area).to_have_value(re.compile("^name: science\n"))
    eventually(lambda: daemon.data_of("/package/?search=six"))
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("six")
    page.get_by_role("option", name=re.compile("^six")).click()
    expect(area).to_have_value(re.compile(r"- python\n  - six\n"))
    expect(page.get_by_label("Version of six")).to_be_visible()
    page.get_by_role("button", name="Build").click()

    expect(page.get_by_role("heading", name="Build")).to_be_visible()
    log = page.get_by_role("log")
    expect(log).to_contain_text("is ada/science now", timeout=BUILD_MS)
    expect(page.locator("#build-status")).to_contain_text("COMPLETED")
    expect(page.locator(".phases .is-done").first).to_contain_text("solve")
    visitor.screenshot("build")
    first = int(re.search(r"/build/(\d+)/", page.url)[1])  # type: ignore[index]

    page.get_by_role("link", name="science").click()
    expect(page.get_by_role("row", name=re.compile("^six.*asked for"))).to_be_visible()
    page.keyboard.press("e")
    expect(page.get_by_role("heading", name="Edit science")).to_be_visible()
    page.get_by_role("button", name="Remove six").click()
    search = page.get_by_role("combobox", name="Search packages to add")
    search.fill("flask")
    expect(page.get_by_role("option", name=re.compile("^flask"))).to_be_visible()
    search.press("ArrowDown")
    search.press("Enter")
    version = page.get_by_label("Version of flask")
    version.focus()
    expect(page.locator("#versions-flask option").first).to_have_attribute("value", re.compile("="))
    version.fill(">=3")
    version.press("Tab")
    expect(_text(page)).to_have_value(re.compile(r"- flask>=3\n"))
    page.get_by_role("button", name="Preview what changes").click()
    preview = page.locator("[data-region=preview]")
    expect(preview).to_contain_text(re.compile(r"Added.*flask.*asked for", re.DOTALL))
    expect(preview).to_contain_text(re.compile("Removed.*six", re.DOTALL))
    page.get_by_role("button", name="Build").click()
    expect(page.get_by_role("log")).to_contain_text("is ada/science now", timeout=BUILD_MS)
    second = int(re.search(r"/build/(\d+)/", page.url)[1])  # type: ignore[index]
    assert second > first

    page.get_by_role("link", name="science").click()
    page.get_by_role("link", name="Builds").click()
    page.get_by_role("button", name="Compare").click()
    expect(
        page.get_by_role("heading", name=f"From build {first} to build {second}")
    ).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("^flask.*asked for"))).to_be_visible()
    page.go_back()
    page.get_by_role("button", name="Make active").click()
    expect(page.get_by_role("status").first).to_have_text(f"Build {first} is the active one now.")
    assert daemon.data_of("/environment/ada/science/")["current_build_id"] == first

    page.get_by_text("Description, people, settings, delete").click()
    page.get_by_role("button", name="Delete science").click()
    expect(page.get_by_text("ada/science is being deleted")).to_be_visible()
    eventually(lambda: daemon.request("GET", "/environment/ada/science/").status_code == 404)


def test_without_javascript(daemon: Daemon, visit: Visit, tiny: str) -> None:
    """Everything can be read, and done by forms."""
    visitor = visit(java_script_enabled=False)
    page = visitor.sign_in("bob", "secret", "/ui/new/")
    visitor.expected.add("status of 400")
    wrong = f"channels: ['{tiny}']\ndependencies:\n- harmless\n- 'a b c d'\n"
    _text(page).fill(wrong)
    page.locator("#name").fill("plain")
    page.get_by_role("button", name="Build").click()
    expect(page.get_by_role("alert").filter(has_text="can't be built")).to_contain_text("Line 5:")
    # What was typed is still there.
    text = _text(page).input_value()
    assert text == f"name: plain\n{wrong}"
    _text(page).fill(text.replace("- 'a b c d'\n", ""))
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("[data-region=preview]")).to_contain_text("harmless")
    page.get_by_role("button", name="Build").click()
    expect(page.get_by_text("is queued.")).to_be_visible()
    build_id = daemon.data_of("/environment/bob/plain/")["current_build_id"]
    daemon.completed(build_id)
    page.reload()
    expect(page.locator("#build-status")).to_contain_text("COMPLETED")
    expect(page.locator("pre.log-plain")).to_contain_text("is bob/plain now")

    visitor.go("/ui/")
    page.get_by_placeholder("Search").fill("plai")
    page.get_by_role("button", name="Search").click()
    expect(page).to_have_url(re.compile("search=plai"))
    page.get_by_role("link", name="bob / plain").click()
    for tab, text in (
        ("Use it", "conda activate"),
        ("Use it", "bob/plain:latest"),
        ("Specification", "- harmless"),
    ):
        page.get_by_role("link", name=tab).click()
        expect(page.locator("main")).to_contain_text(text)
    page.get_by_role("button", name="Rebuild").click()
    expect(page.get_by_text(re.compile("is queued, of the same specification"))).to_be_visible()


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


def test_a_failure_says_why_and_what_next(visit: Visit, web: tuple[int, int, int]) -> None:
    visitor = visit()
    page = visitor.go(f"/ui/build/{web[2]}/")
    cause = page.get_by_role("alert").filter(has_text="Why it failed")
    expect(cause).to_contain_text("None of the channels has flask >=99")
    expect(cause).to_contain_text("Check the spelling of the package")
    page.get_by_role("button", name="Jump to the error").click()
    expect(page.locator(".log-line.is-found")).to_contain_text("build failed")
    page.get_by_label("Find in the log").fill("starting build")
    expect(page.locator("[data-log-found]")).to_have_text("1 line")
    expect(page.locator(".log-line.is-found")).to_contain_text("starting build")
    visitor.screenshot("failed")


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


def test_what_was_typed_outlives_a_lost_session(daemon: Daemon, visit: Visit, tiny: str) -> None:
    visitor = visit()
    visitor.expected.add("status of 401")
    page = visitor.sign_in("dora", "secret", "/ui/new/")
    text = f"name: kept\nchannels: ['{tiny}']\ndependencies: [harmless]\n"
    _text(page).fill(text)
    visitor.context.clear_cookies()
    _text(page).press("End")
    _text(page).press("Enter")
    expect(page.get_by_role("alert").filter(has_text="not signed in any more")).to_be_visible()
    page.wait_for_function("Object.values(sessionStorage).some(kept => kept.includes('kept'))")
    visitor.sign_in("dora", "secret", "/ui/new/")
    expect(page.get_by_text("What you had typed here before is back.")).to_be_visible()
    assert "name: kept" in _text(page).input_value()
    page.get_by_role("button", name="Build").click()
    expect(page.get_by_role("heading", name=re.compile("^Build"))).to_be_visible()
    daemon.completed(daemon.data_of("/environment/dora/kept/")["current_build_id"])
    visitor.go("/ui/new/")
    expect(page.get_by_text("What you had typed here before is back.")).to_be_hidden()


def test_problems_are_shown_at_their_line(visit: Visit) -> None:
    visitor = visit()
    page = visitor.sign_in("ada", "secret", "/ui/new/")
    _text(page).fill("name: x\nchannels: [a\n")
    problems = page.locator("[data-problems]")
    expect(problems).to_contain_text(re.compile("Line 3: .*expected"))
    _text(page).fill("name: x\ndependencies:\n  - python\n  - 'a b c d'\n")
    expect(problems).to_contain_text(re.compile("Line 4: dependencies: Invalid conda package"))
    expect(page.locator("[data-gutter] .is-wrong")).to_have_text("4")
    _text(page).fill("name: x\ndependencies:\n  - python\n")
    expect(problems).to_be_empty()


def test_tokens_and_namespaces(daemon: Daemon, visit: Visit) -> None:
    visitor = visit()
    page = visitor.sign_in("root", "secret", "/ui/user/")
    page.get_by_label("Where").fill("default/*")
    page.get_by_role("button", name="Make a token").click()
    token = page.locator(".copyable code").text_content() or ""
    answer = daemon.client.get(
        f"{daemon.url}/api/v1/permission/", headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.json()["data"]["entity_roles"]["default/*"] == ["viewer"]
    page.get_by_role("button", name=re.compile("^Revoke token")).first.click()
    expect(page.get_by_text(re.compile("is worth nothing any more"))).to_be_visible()
    assert token not in page.content()

    visitor.go("/ui/namespace/")
    for name in ("lab", "grace"):
        page.get_by_label("New namespace").fill(name)
        page.get_by_role("button", name="Make it").click()
        expect(page.get_by_role("heading", name=name)).to_be_visible()
        visitor.go("/ui/namespace/")
    visitor.go("/ui/namespace/lab/")
    page.get_by_label("Let the users of the namespace").fill("grace")
    page.get_by_label("be", exact=True).select_option("developer")
    page.get_by_role("button", name="Grant").click()
    row = page.get_by_role("row", name=re.compile("^Users of the namespace grace developer"))
    expect(row).to_be_visible()
    mappings = daemon.data_of("/namespace/grace/")["role_mappings"]
    assert [(m["entity"], m["role"]) for m in mappings] == [("lab/*", "developer")]
    row.get_by_role("button", name="Take the role back").click()
    expect(row).to_have_count(0)
    page.get_by_label("Let the users of the namespace").fill("nobody-there")
    visitor.expected.add("status of 404")
    page.get_by_role("button", name="Grant").click()
    expect(page.get_by_role("alert").filter(has_text="does not exist")).to_be_visible()


def test_roles_of_the_second_version(tmp_path: Path) -> None:
    """There a namespace itself says to whom it is open."""
    version = "--RBACAuthorizationBackend.role_mappings_version=2"
    with running(tmp_path / "data", version) as daemon:

        def post(path: str, **form: str) -> httpx.Response:
            return daemon.client.post(f"{daemon.url}/ui{path}", data=form, follow_redirects=True)

        for name in ("lab", "grace"):
            assert post("/namespace/", name=name).status_code == 200
        for role in ("viewer", "developer"):
            page = post("/namespace/lab/", action="grant", other="grace", role=role)
            assert re.search(rf"Users of the namespace grace</th><td>{role}<", page.text)
            [row] = daemon.data_of("/namespace/lab/roles")
            assert (row["other_namespace"], row["role"]) == ("grace", role)
        assert "granted here" in page.text
        assert post("/namespace/lab/", action="grant", other="x", role="viewer").status_code == 400
        assert post("/namespace/lab/", action="nothing").status_code == 400
        post("/namespace/lab/", action="withdraw", other="grace")
        assert daemon.data_of("/namespace/lab/roles") == []
        assert post("/namespace/lab/", action="delete", confirm="la").status_code == 400
        assert "is being deleted" in post("/namespace/lab/", action="delete", confirm="lab").text


def test_settings_and_status(daemon: Daemon, visit: Visit) -> None:
    visitor = visit()
    page = visitor.sign_in("root", "secret", "/ui/setting/lab/")
    page.get_by_label("conda_default_packages, one entry a line").fill("python\npip")
    page.get_by_role("button", name="Save conda_default_packages").click()
    expect(page.locator("#conda_default_packages")).to_contain_text("set here")
    assert daemon.data_of("/setting/lab/")["conda_default_packages"] == ["python", "pip"]
    page.get_by_label("conda_default_packages, one entry a line").fill("not a match spec at all")
    visitor.expected.add("status of 400")
    page.get_by_role("button", name="Save conda_default_packages").click()
    expect(page.get_by_role("alert").filter(has_text="validation error")).to_be_visible()
    visitor.go("/ui/setting/lab/")
    page.get_by_role("button", name="Reset conda_default_packages").click()
    expect(page.locator("#conda_default_packages")).to_contain_text("from the configuration")
    assert daemon.data_of("/setting/lab/")["conda_default_packages"] == []
    visitor.go("/ui/status/")
    expect(page.locator("main")).to_contain_text(re.compile("Database works"))


def test_who_changed_what(daemon: Daemon, visit: Visit, tiny: str) -> None:
    """By the pages and by the API, with the number of the request; also what a token does."""
    visitor = visit()
    page = visitor.sign_in("root", "secret", "/ui/user/")
    page.get_by_role("button", name="Make a token").click()
    token = page.locator(".copyable code").text_content() or ""
    headers = {"Authorization": f"Bearer {token}"}
    specification = {"name": "audited", "channels": [tiny], "dependencies": ["harmless"]}
    body = {"specification": json.dumps(specification), "namespace": "root"}
    answer = daemon.request("POST", "/specification/", json=body, headers=headers)
    build_id = answer.json()["data"]["build_id"]
    daemon.completed(build_id)
    visitor.go("/ui/environment/root/audited/")
    page.get_by_role("button", name="Rebuild").click()
    expect(page.get_by_text(re.compile("is queued, of the same specification"))).to_be_visible()
    expect(page.locator("main")).to_contain_text(re.compile("Queued .* by root"))
    daemon.completed(build_id + 1)
    visitor.go("/ui/environment/root/audited/?tab=builds")
    expect(page.get_by_role("row").nth(2)).to_contain_text(re.compile(r"root \(token \d+\)"))

    [entry] = daemon.data_of(f"/audit/?build_id={build_id}")
    assert (entry["actor"], entry["action"], entry["via"]) == ("root", "build.queue", "api")
    assert entry["token_id"] is not None
    assert entry["request_id"] == answer.headers["X-Request-Id"]
    rows = daemon.data_of("/audit/?namespace=root&environment=audited&order=asc")
    assert [(row["action"], row["via"]) for row in rows] == [
        ("build.queue", "api"),
        ("build.rebuild", "ui"),
    ]
    assert token not in daemon.request("GET", "/audit/").text
    for path in ("/audit/", "/setting/?key=conda_channel_alias"):
        method = "GET" if path == "/audit/" else "DELETE"
        anonymous = httpx.request(method, f"{daemon.url}/api/v1{path}")
        assert anonymous.status_code == 403
    assert daemon.request("DELETE", "/setting/?key=nothing").status_code == 400

    visitor.go("/ui/people/")
    page.get_by_role("row", name=re.compile("^root")).get_by_role("link").click()
    expect(page).to_have_url(re.compile("/audit/\\?actor=root"))
    page.get_by_label("Environment", exact=True).fill("audited")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page).to_have_url(re.compile("environment=audited"))
    expect(page.get_by_role("row")).to_have_count(3)
    expect(page.get_by_role("row").nth(1)).to_contain_text(f"rebuilt, as build {build_id + 1}")
    visitor.expected.add("status of 400")
    for wrong in ("since=yesterday", "until=9999-12-31"):
        visitor.go(f"/ui/audit/?{wrong}")
        expect(page.get_by_role("alert").filter(has_text="write days as")).to_be_visible()
    before_all = daemon.request("GET", "/audit/?since=0001-01-01T00:00:00%2B01:00")
    assert (before_all.status_code, "is no time in UTC" in before_all.text) == (400, True)


def test_what_is_typed_stays_where_it_can_not_be_sent(visit: Visit) -> None:
    """In any form: without the daemon, and without a session; then it is sent after all."""
    visitor = visit()
    visitor.expected.add("Failed to load resource")
    page = visitor.sign_in("erin", "secret", "/ui/setting/erin/")
    field = page.get_by_label("conda_included_packages, one entry a line")
    field.fill("six")
    save = page.get_by_role("button", name="Save conda_included_packages")
    visitor.context.set_offline(True)
    save.click()
    alert = page.get_by_role("alert").filter(has_text="The daemon does not answer")
    expect(alert).to_be_visible()
    visitor.context.set_offline(False)
    cookies = visitor.context.cookies()
    visitor.context.clear_cookies()
    save.click()
    alert = page.get_by_role("alert").filter(has_text="not signed in any more")
    expect(alert).to_be_visible()
    expect(field).to_have_value("six")
    visitor.context.add_cookies(cookies)  # type: ignore[arg-type]
    save.click()
    expect(page.get_by_text("conda_included_packages is changed.")).to_be_visible()
    expect(field).to_have_value("six")


def test_what_forms_do_to_builds(
    daemon: Daemon, visit: Visit, tiny: str, server: ChannelServer
) -> None:
    """Describe, make and remove a form of a build, cancel, make active: by buttons."""
    visitor = visit()
    page = visitor.sign_in("root", "secret")
    specification = {"name": "handled", "channels": [tiny], "dependencies": ["harmless"]}
    first = daemon.submit(specification, namespace="root")
    daemon.completed(first)
    daemon.completed(daemon.submit(specification, namespace="root"))
    visitor.go("/ui/environment/root/handled/")
    page.get_by_text("Description, people, settings, delete").click()
    page.get_by_label("Description", exact=True).fill("Handled with <care>")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".about")).to_have_text("Handled with <care>")

    visitor.go(f"/ui/build/{first}/?tab=artifacts")
    row = page.get_by_role("listitem").filter(has_text="Archive")
    row.get_by_role("button", name="Make").click()
    expect(row.get_by_role("link", name="Archive")).to_be_visible()
    row.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("Archive: it is gone")).to_be_visible()
    expect(row).to_contain_text("not made")

    page.get_by_role("button", name="Make active").click()
    expect(page.locator(".facts .pill")).to_have_text("active")
    assert daemon.data_of("/environment/root/handled/")["current_build_id"] == first

    server.faults["*.conda"] = Fault(delay=FOREVER_S)
    slow = {**specification, "channels": [server.url], "dependencies": ["six"]}
    third = daemon.submit(slow, namespace="root")
    visitor.go(f"/ui/build/{third}/")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#build-status")).to_contain_text("CANCELED")
    assert daemon.ended(third)["status"] == "CANCELED"
    actions = [row["action"] for row in daemon.data_of("/audit/?environment=handled")]
    assert actions == [
        "build.cancel",
        "build.queue",
        "environment.activate",
        "artifact.remove",
        "artifact.make",
        "environment.describe",
        "build.queue",
        "build.queue",
    ]


def test_a_deleted_build_is_restored(daemon: Daemon, visit: Visit, tiny: str) -> None:
    """Of exactly its packages, which the package store has still."""
    visitor = visit()
    page = visitor.sign_in("root", "secret")
    text = json.dumps({"name": "restored", "channels": [tiny], "dependencies": ["harmless"]})
    build_id = daemon.submit(text, namespace="root")
    daemon.completed(build_id)
    restore = f"/build/{build_id}/restore/"
    assert daemon.request("PUT", restore).status_code == 400
    assert httpx.put(f"{daemon.url}/api/v1{restore}").status_code == 403
    visitor.go(f"/ui/build/{build_id}/")
    page.get_by_text("Delete this build's files").click()
    page.get_by_role("button", name=f"Delete the files of build {build_id}").click()
    expect(page.locator("main")).to_contain_text("The files of this build are deleted")
    form = {"action": "preview", "namespace": "root", "specification": text}
    preview = daemon.client.post(f"{daemon.url}/ui/new/", data=form)
    assert "nothing to download: all packages" in preview.text
    visitor.go("/ui/environment/root/restored/?tab=builds")
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_text(re.compile("is queued, of exactly the packages"))).to_be_visible()
    again = daemon.completed(build_id + 1)
    assert daemon.data_of("/environment/root/restored/")["current_build_id"] == again["id"]
    packages = [
        [package["name"] for package in daemon.data_of(f"/build/{number}/packages/")]
        for number in (build_id, again["id"])
    ]
    assert packages[0] == packages[1] == ["harmless"]
    [entry] = daemon.data_of("/audit/?action=build.restore")
    assert entry["details"] == {"of": build_id}


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


def test_a_huge_hostile_log_freezes_nothing(
    daemon: Daemon, visit: Visit, web: tuple[int, int, int]
) -> None:
    """100 MB, colours without end, a line of a million characters, and markup."""
    key = next(
        artifact["key"]
        for artifact in daemon.build(web[0])["build_artifacts"]
        if artifact["artifact_type"] == "LOGS"
    )
    _write_log(daemon.data / "storage" / key, 100_000_000)
    visitor = visit()
    page = visitor.go(f"/ui/build/{web[0]}/")
    expect(page.get_by_role("log")).to_contain_text("the last line")
    assert page.locator(".log-line").count() < 200
    assert page.locator(".log-line *").count() < 20_000
    assert page.locator("[role=log] img").count() == 0
    longest = page.evaluate(
        """() => new Promise((resolve) => {
            const log = document.querySelector("[role=log]");
            let last = performance.now(), worst = 0, frames = 0;
            const step = (now) => {
                worst = Math.max(worst, now - last);
                last = now;
                log.scrollTop = (frames * 9973 * 20) % log.scrollHeight;
                frames += 1;
                if (frames < 60) requestAnimationFrame(step); else resolve(worst);
            };
            requestAnimationFrame(step);
        })"""
    )
    assert longest < 1000


def _write_log(path: Path, size: int) -> None:
    line = "plain \x1b[31;1mred\x1b[0m \x1b]0;title\x07 <img src=x onerror=alert(3)> " + "x" * 900
    bomb = "\x1b[3{}m.".format
    lines = (line + "\n") * 1000
    with path.open("w") as file:
        while file.tell() < size:
            file.write(lines)
        file.write("".join(bomb(number % 8) for number in range(100_000)) + "\n")
        file.write("y" * 1_000_000 + "\n")
        file.write("the last line\n")


# What a text says, what is done to it, and what it says then.
WRITTEN = "# mine\nname: x # the name\nchannels:\n- a\ndependencies:\n  # first\n  - python>=3\n"
CHANGES = [
    ("add('dependencies', 'six')", WRITTEN + "  - six\n"),
    ("add('channels', 'b')", WRITTEN.replace("- a\n", "- a\n- b\n")),
    ("add('pip', 'flask')", WRITTEN + "  - pip\n  - pip:\n      - flask\n"),
    ("remove('channels', e.lists.channels[0])", WRITTEN.replace("- a\n", "")),
    ("replace(e.lists.dependencies[0], 'python=3')", WRITTEN.replace(">=", "=")),
    ("add('dependencies', 'a: b')", WRITTEN + "  - 'a: b'\n"),
]


def test_the_picker_changes_only_its_lines(visit: Visit) -> None:
    page = visit().go("/ui/")
    change = """([text, work]) => import(document.querySelector("script[src]").src.replace("app.js",
        "yaml.js")).then(({Environment}) => {
            const e = new Environment(text);
            if (work.startsWith("add")) e.add(...work.match(/'(.*?)'/g).map(t => t.slice(1, -1)));
            else if (work.startsWith("remove")) e.remove("channels", e.lists.channels[0]);
            else e.replace(e.lists.dependencies[0], "python=3");
            return e.text;
        })"""
    for work, expected in CHANGES:
        assert page.evaluate(change, [WRITTEN, work]) == expected, work
    plain = """(text) => import(document.querySelector("script[src]").src.replace("app.js",
        "yaml.js")).then(({Environment}) => new Environment(text).isPlain)"""
    assert page.evaluate(plain, WRITTEN)
    for text in ("channels: [a, b]", '{"name": "x"}', "dependencies:\n  - {pip: [a]}"):
        assert not page.evaluate(plain, text), text


def test_colours_are_bounded(visit: Visit) -> None:
    page = visit().go("/ui/")
    runs = """(line) => import(document.querySelector("script[src]").src.replace("app.js",
        "ansi.js")).then(({runs}) => runs(line))"""
    assert page.evaluate(runs, "a \x1b[1;31mb\x1b[0m c") == [
        ["", "a "],
        ["a-1 a-b", "b"],
        ["", " c"],
    ]
    assert page.evaluate(runs, "\x1b[38;5;9mx\x1b[38;2;1;2;3my\x1b[?25l\x1b]0;t\x07z") == [
        ["a-1", "x"],
        ["a-1", "y"],
        ["a-1", "z"],
    ]
    assert len(page.evaluate(runs, "\x1b[31mx" * 100_000)) <= 202
    assert sum(len(text) for _, text in page.evaluate(runs, "x" * 1_000_000)) < 5000


def test_the_log_goes_on_after_the_daemon_was_away(
    tmp_path: Path, browser: Browser, server: ChannelServer
) -> None:
    """Nothing is missing in it, nothing comes twice; and the page says what happens."""
    returned = threading.Event()
    server.faults["*.conda"] = Fault(until=returned)
    with running(tmp_path / "data") as daemon:
        slow = {"name": "slow", "channels": [server.url], "dependencies": ["six"]}
        build_id = daemon.submit(slow)
        visitor = Visitor(browser, daemon.url)
        visitor.expected.update(("Failed to load resource", "WebSocket connection"))
        page = visitor.go(f"/ui/build/{build_id}/")
        expect(page.get_by_role("log")).to_contain_text("starting build")
        daemon.kill()
        expect(page.locator("[data-log-state]")).to_contain_text("The connection is lost")
        daemon.arguments = (f"--CondaStoreServer.port={daemon.url.rpartition(':')[2]}",)
        daemon.start()
        returned.set()
        expect(page.locator("#build-status")).to_contain_text("COMPLETED")
        expect(page.get_by_role("log")).to_contain_text("is default/slow now")
        shown = page.locator(".log-line .text").all_inner_texts()
        assert "\n".join(shown) == daemon.log(build_id).rstrip("\n")
        visitor.leave()


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
