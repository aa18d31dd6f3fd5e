"""A real browser before a daemon with a URL prefix, where everybody signs in as he likes."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.acceptance.browser import Visitor, chromium
from tests.acceptance.harness import Daemon, running
from tests.acceptance.ui.visiting import HOSTILE, PREFIX, Visit


@pytest.fixture(scope="session")
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
    """A browser. Its driver's event loop ends with the module, as other tests have their own."""
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


@pytest.fixture(scope="session")
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
