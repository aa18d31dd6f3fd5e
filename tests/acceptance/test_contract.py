"""Settings, roles, cursors, CORS, slashes: what conda-store's clients rely on (rest-api §18)."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.acceptance.harness import Daemon, running


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, tiny: str) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("contract") / "data") as found:
        for namespace, name in (("b", "x"), ("a", "y"), ("a", "x"), ("c_d", "x"), ("cxd", "x")):
            specification = {"name": name, "channels": [tiny], "dependencies": ["harmless"]}
            found.completed(found.submit(specification, namespace=namespace))
        yield found


def message(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["message"]


# Settings


def test_settings_are_layered_and_never_shared(daemon: Daemon) -> None:
    def channels(place: str) -> Any:
        return daemon.data_of(f"/setting/{place}")["conda_default_channels"]

    answer = daemon.request("PUT", "/setting/a/", json={"conda_default_channels": ["in-a"]})
    assert answer.json() == {
        "status": "ok",
        "data": None,
        "message": "global setting keys ['conda_default_channels'] updated",
    }
    daemon.request("PUT", "/setting/a/x/", json={"conda_default_channels": ["in-a-x"]})
    assert channels("a/x/") == ["in-a-x"]
    assert channels("a/y/") == channels("a/") == ["in-a"]
    assert channels("") == channels("b/") == channels("b/x/") == ["conda-forge"]
    daemon.request("PUT", "/setting/", json={"conda_default_channels": ["everywhere"]})
    assert channels("b/") == ["everywhere"]
    assert channels("a/") == ["in-a"]
    daemon.request("PUT", "/setting/", json={"conda_default_channels": ["conda-forge"]})


@pytest.mark.parametrize(
    ("place", "body", "text"),
    [
        ("", {"nonsense": 1}, "Invalid setting keys {'nonsense'}"),
        (
            "a/",
            {"storage_threshold": 1},
            "Setting storage_threshold is a global setting and cannot be set within a namespace "
            "or environment",
        ),
        ("", {"storage_threshold": "much"}, "1 validation error for storage_threshold"),
        ("", {"conda_default_channels": "x"}, "1 validation error for conda_default_channels"),
    ],
)
def test_settings_that_make_no_sense(
    daemon: Daemon, place: str, body: dict[str, Any], text: str
) -> None:
    before = daemon.data_of(f"/setting/{place}")
    answer = daemon.request("PUT", f"/setting/{place}", json=body)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(text)
    assert daemon.data_of(f"/setting/{place}") == before
    assert daemon.request("PUT", f"/setting/{place}", json=["x"]).status_code == 422


@pytest.mark.parametrize("place", [f"{'n' * 256}/", f"a/{'x' * 256}/", f"{'n' * 255}/{'x' * 255}/"])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_settings_of_names_that_no_database_takes(daemon: Daemon, place: str, method: str) -> None:
    answer = daemon.request(
        method,
        f"/setting/{place}",
        json={"conda_default_channels": ["x"]} if method == "PUT" else None,
        params={"key": "conda_default_channels"} if method == "DELETE" else None,
    )
    assert answer.status_code == 400, answer.text
    assert re.search("at most 255 characters|too long together", answer.json()["message"])


def test_a_threshold_that_is_set_while_the_daemon_runs_counts(daemon: Daemon, tiny: str) -> None:
    daemon.request("PUT", "/setting/", json={"storage_threshold": 2**60})
    try:
        answer = daemon.post({"name": "x", "channels": [tiny]}, namespace="a")
        assert message(answer) == (
            400,
            "`CondaStore.storage_threshold` reached. Action environment:create prevented due to "
            "insufficient storage space",
        )
    finally:
        daemon.request("PUT", "/setting/", json={"storage_threshold": 0})


# Roles of namespaces


def test_roles_between_namespaces(daemon: Daemon) -> None:
    def role(method: str, **options: Any) -> httpx.Response:
        return daemon.request(method, "/namespace/a/role", **options)

    grant = {"other_namespace": "b", "role": "editor"}
    assert message(role("GET", params={"other_namespace": "b"})) == (404, "failed to find role")
    assert message(role("PUT", json=grant)) == (404, "failed to find role")
    assert role("POST", json=grant).status_code == 200
    assert role("POST", json=grant).status_code == 409
    data = role("GET", params={"other_namespace": "b"}).json()["data"]
    assert (data["namespace"], data["other_namespace"], data["role"]) == ("a", "b", "developer")
    assert role("PUT", json={**grant, "role": "viewer"}).status_code == 200
    (listed,) = daemon.data_of("/namespace/a/roles")
    assert listed == {**data, "role": "viewer"}
    assert role("DELETE", json={"other_namespace": "b"}).status_code == 200
    assert role("DELETE", json={"other_namespace": "b"}).status_code == 200
    assert daemon.data_of("/namespace/a/roles") == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"other_namespace": "b", "role": "king"}, (400, "invalid role=king")),
        ({"other_namespace": "gone", "role": "viewer"}, (400, "Namespace='gone' not found")),
    ],
)
def test_roles_that_make_no_sense(
    daemon: Daemon, body: dict[str, str], expected: tuple[int, str]
) -> None:
    assert message(daemon.request("POST", "/namespace/a/role", json=body)) == expected
    missing = daemon.request("POST", "/namespace/gone/role", json=body)
    assert message(missing) == (404, "namespace does not exist")


def test_a_missing_field_is_named_as_fastapi_does(daemon: Daemon) -> None:
    answer = daemon.request("POST", "/namespace/a/role", json={"role": "viewer"})
    assert answer.status_code == 422
    assert answer.json() == {
        "detail": [
            {
                "type": "missing",
                "loc": ["body", "other_namespace"],
                "msg": "Field required",
                "input": {"role": "viewer"},
            }
        ]
    }


def test_metadata_is_the_whole_body(daemon: Daemon) -> None:
    answer = daemon.request("PUT", "/namespace/a/metadata", json={"team": ["ada"]})
    assert answer.json() == {"status": "ok", "message": None}
    assert daemon.data_of("/namespace/a/")["metadata_"] == {"team": ["ada"]}
    kept = daemon.request("PUT", "/namespace/a/", json={"role_mappings": {"a/x": ["editor"]}})
    assert kept.status_code == 200
    namespace = daemon.data_of("/namespace/a/")
    assert namespace["metadata_"] == {"team": ["ada"]}
    ((mapping),) = namespace["role_mappings"]
    assert (mapping["entity"], mapping["role"]) == ("a/x", "developer")
    bad = daemon.request("PUT", "/namespace/a/", json={"role_mappings": {"nonsense": ["viewer"]}})
    assert message(bad) == (400, "invalid entity=nonsense")


# Cursors


def test_cursors_lead_through_everything_once(daemon: Daemon) -> None:
    by_id = ["b/x", "a/y", "a/x", "c_d/x", "cxd/x"]
    assert walked(daemon, "") == by_id
    assert walked(daemon, "order=desc") == by_id[::-1]
    assert walked(daemon, "sort_by=namespace,name") == sorted(by_id)
    both = "sort_by=namespace&sort_by=name&order=desc"
    assert walked(daemon, both) == sorted(by_id)[::-1]
    assert walked(daemon, "sort_by=name") == ["b/x", "a/x", "c_d/x", "cxd/x", "a/y"]


def walked(daemon: Daemon, query: str) -> list[str]:
    """Follows the cursors to the end; returns `namespace/name` of each row."""
    found: list[str] = []
    cursor = ""
    while True:
        url = f"{daemon.url}/api/v2/environment/?limit=2&{query}"
        body = daemon.client.get(f"{url}&cursor={cursor}" if cursor else url).json()
        assert body["count"] == 5
        rows = [f"{row['namespace']['name']}/{row['name']}" for row in body["data"]]
        if not rows:
            assert body["cursor"] == "eyJsYXN0X2lkIjpudWxsLCJsYXN0X3ZhbHVlIjpudWxsfQ=="
            return found
        found += rows
        last = json.loads(base64.b64decode(body["cursor"]))
        assert last["last_id"] == body["data"][-1]["id"]
        cursor = body["cursor"].replace("=", "%3D").replace("+", "%2B")


def test_a_name_to_sort_by_that_there_is_not(daemon: Daemon) -> None:
    answer = daemon.client.get(f"{daemon.url}/api/v2/environment/?sort_by=foo")
    assert message(answer) == (
        400,
        "Cannot sort results by ['foo']. Valid sort_by values are ['namespace', 'name']",
    )
    order = daemon.client.get(f"{daemon.url}/api/v2/environment/?order=up")
    assert order.status_code == 422


# Lists


def test_patterns_tell_characters_apart(daemon: Daemon) -> None:
    """`_` is no wildcard, and `A` is not `a`."""
    for pattern, visible in (("c_d/*", {"c_d"}), ("A/*", set()), ("c*/x", {"c_d", "cxd"})):
        wanted = {"role_bindings": {pattern: ["viewer"]}}
        token = daemon.request("POST", "/token/", json=wanted).json()["data"]["token"]
        headers = {"Authorization": f"Bearer {token}"}
        rows = daemon.request("GET", "/environment/", headers=headers).json()["data"]
        assert {row["namespace"]["name"] for row in rows} == visible


def test_a_token_narrows_a_list(daemon: Daemon) -> None:
    wanted = {"role_bindings": {"a/*": ["viewer"]}}
    token = daemon.request("POST", "/token/", json=wanted).json()["data"]["token"]
    rows = daemon.request("GET", f"/environment/?jwt={token}").json()["data"]
    assert {row["namespace"]["name"] for row in rows} == {"a"}
    assert daemon.request("GET", "/environment/?jwt=nonsense").status_code == 400


def test_usage(daemon: Daemon) -> None:
    found = daemon.data_of("/usage/")["a"]
    assert (found["num_environments"], found["num_builds"]) == (2, 2)
    assert found["storage"] >= 0


# Solving


def test_a_solve_without_a_build(daemon: Daemon, tiny: str) -> None:
    for name in ("channel", "channels"):
        answer = daemon.request("GET", "/specification/", params={name: tiny, "conda": "harmless"})
        (package,) = answer.json()["solve"]
        assert package["name"] == "harmless"
        assert package.keys() >= {"id", "package_id", "channel_id", "version", "size", "subdir"}
    for query in ({"conda": "absent"}, {"conda": "not a==spec=="}, {"pip": "--evil"}):
        answer = daemon.request("GET", "/specification/", params={"channel": tiny, **query})
        assert answer.status_code == 400, answer.text
    wrong = daemon.request("GET", "/specification/?format=xml")
    assert wrong.status_code == 422


# The wire


def test_cors_echoes_the_origin_with_credentials(daemon: Daemon) -> None:
    """The extension for JupyterLab reads answers from another port."""
    headers = {"Origin": "http://localhost:8888"}
    answer = daemon.request("GET", "/", headers=headers)
    assert answer.headers["access-control-allow-origin"] == "http://localhost:8888"
    assert answer.headers["access-control-allow-credentials"] == "true"
    asked = {
        **headers,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type,authorization",
    }
    preflight = daemon.request("OPTIONS", "/build/1/", headers=asked)
    assert (preflight.status_code, preflight.text) == (200, "OK")
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    assert preflight.headers["access-control-max-age"] == "600"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/token"),
        ("POST", "/api/v1/specification"),
        ("POST", "/login"),
        ("GET", "/login?next=/x"),
        ("DELETE", "/api/v1/environment/a/none"),
        ("GET", "/api/v1/namespace/a/roles/"),
    ],
)
def test_a_slash_too_many_or_too_few(daemon: Daemon, method: str, path: str) -> None:
    answer = daemon.client.request(method, daemon.url + path)
    assert answer.status_code == 307
    path, _, query = path.partition("?")
    wanted = path.removesuffix("/") if path.endswith("/") else path + "/"
    assert answer.headers["location"] == daemon.url + wanted + (f"?{query}" if query else "")


def test_an_encoded_slash_is_no_slash(daemon: Daemon) -> None:
    answer = daemon.client.get(f"{daemon.url}/api/v1/environment/a%2Fx/")
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


def test_head_is_not_there(daemon: Daemon) -> None:
    answer = daemon.request("HEAD", "/build/1/")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"DELETE", "GET", "PUT"}
