"""Namespaces, tokens, settings, and who changed what."""

import json
import re
from pathlib import Path

import httpx
from playwright.sync_api import expect

from tests.acceptance.harness import Daemon, running
from tests.acceptance.ui.visiting import Visit


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
    good = page.get_by_role("button", name=re.compile("^Revoke token"))
    count = good.count()
    page.reload()
    expect(good).to_have_count(count)
    assert token not in page.content()
    good.first.click()
    expect(page.get_by_text(re.compile("is worth nothing any more"))).to_be_visible()

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
