"""A real browser before a real daemon, and what must never happen in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT_MS = 120_000
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
WIDE, PHONE = (1280, 900), (390, 844)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Starts Debian's browser; skips the test where there is none."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    # The machine may have other things to do.
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Visitor:
    """Somebody with a browser of his own, and what went wrong in it."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        width, height = options.pop("size", WIDE)
        self.url = url
        self.context: BrowserContext = browser.new_context(
            viewport={"width": width, "height": height}, **options
        )
        self.context.set_default_timeout(TIMEOUT_MS)
        self.page: Page = self.context.new_page()
        self.problems: list[str] = []
        self.expected: set[str] = set()
        """What the console may say, by a part of it."""
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("request", self._asked)

    def go(self, path: str) -> Page:
        """Opens a page of the daemon."""
        self.page.goto(f"{self.url}{path}")
        return self.page

    def sign_in(self, name: str, password: str, path: str = "/ui/") -> Page:
        """Signs in on the way to a page."""
        self.go(f"/login/?next={urlsplit(self.url).path}{path}")
        self.page.fill("#username", name)
        self.page.fill("#password", password)
        self.page.get_by_role("button", name="Sign In").click()
        self.page.wait_for_url(f"{self.url}{path}")
        return self.page

    def screenshot(self, name: str) -> None:
        """Keeps a picture among what the tests leave behind."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def violations(self) -> list[str]:
        """Returns what the rules of axe find on the page."""
        axe = files("axe_playwright_python").joinpath("axe.min.js").read_text()
        self.page.evaluate(axe)
        found = self.page.evaluate(
            "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa',"
            " 'best-practice']}).then(found => found.violations)"
        )
        return [
            f"{rule['id']}: {rule['help']}: {[node['html'][:200] for node in rule['nodes'][:3]]}"
            for rule in found
        ]

    def overflow(self) -> int:
        """Returns by how many pixels the page is wider than its window."""
        width: int = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return width

    def leave(self) -> None:
        """Closes the browser's window. Raises if something went wrong in it."""
        self.context.close()
        assert not self.problems, self.problems

    def _said(self, message: Any) -> None:
        text = message.text
        if message.type in ("error", "warning") and not any(part in text for part in self.expected):
            self.problems.append(f"{message.type}: {text}")

    def _asked(self, request: Any) -> None:
        host = urlsplit(request.url).netloc
        if host and host != urlsplit(self.url).netloc:
            self.problems.append(f"a request to another host: {request.url}")
