"""What the tests of the web interface share."""

from collections.abc import Callable

from playwright.sync_api import Locator, Page

from tests.acceptance.browser import Visitor

PREFIX = "/conda-store"
BUILD_MS = 180_000
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
Visit = Callable[..., Visitor]
"""Opens a browser's window; it is closed, and must be without complaint, when its test ends."""


def text_of(page: Page) -> Locator:
    """Returns the text field of the editor."""
    return page.get_by_role("textbox", name="Text", exact=True)
