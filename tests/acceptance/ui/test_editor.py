"""The page where environments are written: its two views, and what was typed."""

import re

import pytest
from playwright.sync_api import expect

from tests.acceptance.harness import Daemon
from tests.acceptance.ui.visiting import Visit, text_of


def test_what_was_typed_outlives_a_lost_session(daemon: Daemon, visit: Visit, tiny: str) -> None:
    visitor = visit()
    visitor.expected.add("status of 401")
    page = visitor.sign_in("dora", "secret", "/ui/new/")
    text = f"name: kept\nchannels: ['{tiny}']\ndependencies: [harmless]\n"
    text_of(page).fill(text)
    visitor.context.clear_cookies()
    text_of(page).press("End")
    text_of(page).press("Enter")
    expect(page.get_by_role("alert").filter(has_text="not signed in any more")).to_be_visible()
    page.wait_for_function("Object.values(sessionStorage).some(kept => kept.includes('kept'))")
    visitor.sign_in("dora", "secret", "/ui/new/")
    expect(page.get_by_text("What you had typed here before is back.")).to_be_visible()
    assert "name: kept" in text_of(page).input_value()
    page.get_by_role("button", name="Build").click()
    expect(page.get_by_role("heading", name=re.compile("^Build"))).to_be_visible()
    daemon.completed(daemon.data_of("/environment/dora/kept/")["current_build_id"])
    visitor.go("/ui/new/")
    expect(page.get_by_text("What you had typed here before is back.")).to_be_hidden()


def test_problems_are_shown_at_their_line(visit: Visit) -> None:
    visitor = visit()
    page = visitor.sign_in("ada", "secret", "/ui/new/")
    text_of(page).fill("name: x\nchannels: [a\n")
    problems = page.locator("[data-problems]")
    expect(problems).to_contain_text(re.compile("Line 3: .*expected"))
    text_of(page).fill("name: x\ndependencies:\n  - python\n  - 'a b c d'\n")
    expect(problems).to_contain_text(re.compile("Line 4: dependencies: Invalid conda package"))
    expect(page.locator("[data-gutter] .is-wrong")).to_have_text("4")
    text_of(page).fill("name: x\ndependencies:\n  - python\n")
    expect(problems).to_be_empty()


def test_a_conflict_is_explained_at_its_line(visit: Visit, channel: str) -> None:
    """And what was said of a text is not said of the next one."""
    visitor = visit()
    visitor.expected.add("status of 400")
    page = visitor.sign_in("dora", "secret", "/ui/new/")
    area = text_of(page)
    wanted = "dependencies:\n  - python\n  - flask>=3\n  - werkzeug<2.4\n"
    area.fill(f"name: x\nchannels:\n  - {channel}\n{wanted}")
    page.get_by_role("button", name="Preview what changes").click()
    problem = page.locator("[data-region=problems]")
    expect(problem).to_contain_text(re.compile("Line 6: .* but werkzeug<2.4 is asked for"))
    expect(page.locator("[data-gutter] .is-wrong")).to_have_text("6")
    problem.get_by_text("How the solver says it").click()
    expect(problem.locator("pre")).to_contain_text("for which no candidates were found")
    area.press("End")
    area.press("Enter")
    expect(problem).to_be_empty()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("# one\n@EXPLICIT\nhttps://host/noarch/a-1-0.conda#" + "0" * 64, "lockfile"),
        ("version: 6\nenvironments: {}\npackages: []\n", "lockfile"),
        ('{"version":1,"metadata":{},"package":[]}', "lockfile"),
        ("name: x\ndependencies:\n  - python\n", "yaml"),
    ],
)
def test_what_a_file_is_is_seen_when_it_is_opened(visit: Visit, text: str, kind: str) -> None:
    visitor = visit()
    page = visitor.sign_in("dora", "secret", "/ui/new/")
    page.locator("[data-upload] input").set_input_files(
        {"name": "x.lock", "mimeType": "text/plain", "buffer": text.encode()}
    )
    expect(text_of(page)).to_have_value(text)
    expect(page.locator(f"input[name=kind][value={kind}]")).to_be_checked()


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
