"""The pages of builds: why one failed, what can be done with one, and its log."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import httpx
from playwright.sync_api import Browser, expect

from devtools.localchannel.server import ChannelServer, Fault
from tests.acceptance.browser import Visitor
from tests.acceptance.harness import FOREVER_S, Daemon, running
from tests.acceptance.ui.visiting import BUILD_MS, Visit
from tests.patience import soon


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
    # What changes by itself leaves alone what somebody has typed there.
    visitor.go("/ui/environment/root/handled/")
    filtered = page.get_by_label("Filter packages")
    filtered.fill("nothing")
    filtered.blur()
    for _ in range(2):
        with page.expect_response(re.compile("/ui/environment/root/handled/")):
            pass
    expect(page.get_by_text("No package has this in its name.")).to_be_visible()
    expect(filtered).to_have_value("nothing")
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


def test_every_way_to_use_it_works_as_it_is_copied(
    daemon: Daemon, visit: Visit, tiny: str, tmp_path: Path
) -> None:
    """But for conda and Docker, which tests have not; what is not made yet can be made there."""
    visitor = visit()
    page = visitor.sign_in("root", "secret")
    specification = {"name": "used", "channels": [tiny], "dependencies": ["harmless"]}
    build_id = daemon.submit(specification, namespace="root")
    daemon.completed(build_id)
    for form, kind in (("archive", "CONDA_PACK"), ("installer", "CONSTRUCTOR_INSTALLER")):
        visitor.go("/ui/environment/root/used/?tab=use")
        page.get_by_role("button", name=f"Make the {form}").first.click()
        expect(page.get_by_role("heading", name=f"Build {build_id}")).to_be_visible()
        daemon.made(build_id, kind)
    visitor.go("/ui/environment/root/used/?tab=use")
    texts = page.locator(".ways .copyable code").all_inner_texts()
    expect(page.locator("main")).to_contain_text("Add the package ipykernel")
    commands = [text for text in texts if not re.search("conda activate|docker pull", text)]
    assert len(commands) == len(texts) - 2 == 5
    environment = {
        **os.environ,
        "CONDA_STORE_TOKEN": daemon.token,
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    for text in commands:
        if text.startswith("skopeo") and shutil.which("skopeo") is None:
            continue
        done = subprocess.run(
            ["bash", "-ec", text.partition("\nconda-lock")[0]],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_MS / 1000,
        )
        assert done.returncode == 0, (text, done.stdout, done.stderr)
    assert [
        package["name"]
        for package in json.loads((tmp_path / "conda-lock.yml").read_text())["package"]
    ] == ["harmless"]
    assert {path.name for path in tmp_path.iterdir()} >= {"used", "environments"}


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
    assert longest < 1000 * soon(1.0, 5.0)


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
