"""conda-store's web interface from npm, as it is, in a real browser (rest-api §16)."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.browser import TIMEOUT_MS, chromium
from tests.acceptance.harness import Daemon, eventually, running
from tests.conftest import CACHE

PREFIX = "/conda-store"
PACKAGE = "@conda-store/conda-store-ui@2024.11.1"


@pytest.fixture(scope="module")
def ui_directory() -> Path:
    """The interface's files, fetched once a machine."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm on this machine to fetch the web interface with")
    dist = CACHE / "npm" / "package" / "dist"
    if not (dist / "main.js").is_file():
        (CACHE / "npm").mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            [npm, "pack", "--silent", PACKAGE],
            cwd=CACHE / "npm",
            check=True,
            capture_output=True,
            text=True,
        )
        archive = CACHE / "npm" / packed.stdout.split()[-1]
        shutil.unpack_archive(archive, CACHE / "npm", filter="data")
    return dist


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, ui_directory: Path, tiny: str
) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("ui")
    config = directory / "config.py"
    config.write_text(f"c.CondaStore.conda_indexed_channels = [{tiny!r}]\n")
    options = (
        f"--CondaStoreServer.url_prefix={PREFIX}",
        f"--CondaStoreServer.ui_directory={ui_directory}",
        "--CondaStoreServer.authentication_class=condastore.auth.DummyAuthentication",
        "--DummyAuthentication.password=secret",
        "--CondaStoreWorker.index_interval=900",
        f"--config={config}",
    )
    with running(directory / "data", *options) as found:
        found.url = found.url.replace("127.0.0.1", "localhost")
        yield found


@pytest.fixture
def page() -> Iterator[Page]:
    with chromium() as browser:
        found = browser.new_page(viewport={"width": 1300, "height": 1000})
        found.set_default_timeout(TIMEOUT_MS)
        yield found


def test_the_pages_of_the_interface(daemon: Daemon) -> None:
    """It routes by itself below `/ui/`; only `not-found` is a 404."""

    def get(path: str) -> httpx.Response:
        return daemon.client.get(daemon.url.removesuffix(PREFIX) + path)

    for path in ("/", PREFIX):
        assert get(path).status_code == 307
    assert get("/").headers["location"] == f"{daemon.url}/ui/"
    for path in ("/ui", "/ui/", "/ui/ada/env"):
        answer = get(PREFIX + path)
        assert answer.status_code == 200
        assert f'"REACT_APP_API_URL": "{daemon.url}"' in answer.text
    assert get(f"{PREFIX}/ui/not-found").status_code == 404
    # Ours stay beside it.
    assert "Environments" in get(f"{PREFIX}/admin/").text
    script = get(f"{PREFIX}/static/conda-store-ui/main.js")
    assert script.status_code == 200
    assert "javascript" in script.headers["content-type"]
    for path in ("../package.json", "%2e%2e/package.json", "%2e%2e%2fpackage.json"):
        assert get(f"{PREFIX}/static/conda-store-ui/{path}").status_code == 404


def sign_in(daemon: Daemon, page: Page) -> None:
    page.goto(f"{daemon.url}/ui/")
    page.get_by_role("button", name="Log in").click()
    page.fill("#username", "ada")
    page.fill("#password", "secret")
    page.get_by_role("button", name="Sign In").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible(timeout=TIMEOUT_MS)


def begin_environment(daemon: Daemon, page: Page, name: str) -> None:
    page.goto(f"{daemon.url}/ui/ada/new-environment")
    page.get_by_label("Environment name").fill(name)
    # The interface takes a name over when nobody has typed for a moment.
    page.wait_for_timeout(1500)


def test_a_package_is_picked_with_its_version(daemon: Daemon, page: Page, tiny: str) -> None:
    """The picker finds names in the package index, and the versions of one."""
    eventually(lambda: daemon.data_of("/package/?search=harmless"))
    sign_in(daemon, page)
    begin_environment(daemon, page, "picked")
    page.get_by_role("button", name="+ Add Package").click()
    page.get_by_label("Enter package").press_sequentially("harm", delay=50)
    page.get_by_role("option", name="harmless").click()
    row = page.get_by_role("row").filter(has_text="harmless")
    row.get_by_role("combobox").last.click()
    page.get_by_role("option", name="1.0").click()
    page.get_by_role("button", name="Channels").click()
    page.get_by_role("button", name="+ Add Channel").click()
    page.get_by_label("Enter channel").fill(tiny)
    page.get_by_label("Enter channel").press("Enter")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_text("Status: Completed")).to_be_visible(timeout=TIMEOUT_MS)
    build_id = daemon.data_of("/environment/ada/picked/")["current_build_id"]
    spec = daemon.build(build_id)["specification"]["spec"]
    assert spec["dependencies"] == ["harmless>=1.0"]


def test_a_journey(daemon: Daemon, page: Page, tiny: str) -> None:
    """Sign in, make an environment, watch it build, switch to another version, delete it."""
    sign_in(daemon, page)
    begin_environment(daemon, page, "from-the-ui")
    page.get_by_text("YAML", exact=True).click()
    editor = page.locator(".cm-content")
    editor.click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(
        f"channels:\n  - {tiny}\ndependencies:\n  - harmless\nvariables: {{}}\n"
    )
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_text("Status: Completed")).to_be_visible(timeout=TIMEOUT_MS)
    expect(page.get_by_text("Show lockfile")).to_be_visible(timeout=TIMEOUT_MS)

    first = daemon.data_of("/environment/ada/from-the-ui/")["current_build_id"]
    second = daemon.request("PUT", f"/build/{first}/").json()["data"]["build_id"]
    daemon.completed(second)
    page.reload()
    page.get_by_role("button", name="Edit").click()
    page.get_by_role("combobox").first.click()
    page.get_by_role("option").filter(has_not_text="Active").first.click()
    with page.expect_response(re.compile("/environment/ada/from-the-ui/")) as switched:
        page.get_by_role("button", name="Change environment version").click()
    assert switched.value.request.method == "PUT"
    assert switched.value.status == 200
    assert daemon.data_of("/environment/ada/from-the-ui/")["current_build_id"] == first

    page.goto(f"{daemon.url}/ui/ada/from-the-ui")
    page.get_by_role("button", name="Edit").click()
    page.get_by_text("Delete environment").click()
    with page.expect_response(
        lambda answer: answer.request.method == "DELETE" and "from-the-ui" in answer.url
    ) as deleted:
        page.get_by_role("button", name="Delete", exact=True).click()
    assert deleted.value.status == 200
