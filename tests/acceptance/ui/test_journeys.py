"""Whole journeys, with and without JavaScript."""

import re

from playwright.sync_api import expect

from tests.acceptance.harness import Daemon, eventually
from tests.acceptance.ui.visiting import BUILD_MS, Visit, text_of


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

    area = text_of(page)
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
    expect(text_of(page)).to_have_value(re.compile(r"- flask>=3\n"))
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
    text_of(page).fill(wrong)
    page.locator("#name").fill("plain")
    page.get_by_role("button", name="Build").click()
    expect(page.get_by_role("alert").filter(has_text="can't be built")).to_contain_text("Line 5:")
    # What was typed is still there.
    text = text_of(page).input_value()
    assert text == f"name: plain\n{wrong}"
    text_of(page).fill(text.replace("- 'a b c d'\n", ""))
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
