"""The wire contract: shapes, statuses and messages of what is served so far (rest-api §2-§4.6)."""

import base64
import json
import re
import socket
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.acceptance.harness import Daemon, eventually

NAIVE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?")
HUGE = 10**30


@dataclass(frozen=True)
class Built:
    """A daemon with a namespace `wire` that has one environment with two builds."""

    daemon: Daemon
    first: int
    second: int
    specification: dict[str, Any]


@pytest.fixture(scope="module")
def built(shared_daemon: Daemon, tiny: str) -> Built:
    specification = {
        "name": "shapes",
        "channels": [tiny],
        "dependencies": ["harmless"],
        "description": "for shapes",
        "variables": {"A": 1, "B": "two"},
    }
    builds = [shared_daemon.submit(specification, namespace="wire") for _ in range(2)]
    for build_id in builds:
        shared_daemon.completed(build_id)
    first, second = builds
    return Built(shared_daemon, first, second, specification)


def error(response: httpx.Response) -> tuple[int, Any]:
    """Returns the status and the message of an application error of the exact shape."""
    body = response.json()
    assert list(body) == ["status", "message"], body
    assert body["status"] == "error"
    return response.status_code, body["message"]


def invalid(response: httpx.Response) -> dict[str, Any]:
    """Returns the one entry of an answer to what can't be parsed."""
    assert response.status_code == 422, response.text
    body = response.json()
    assert list(body) == ["detail"]
    (entry,) = body["detail"]
    assert isinstance(entry, dict)
    return entry


def test_the_root_names_the_version(shared_daemon: Daemon) -> None:
    body = shared_daemon.request("GET", "/").json()
    assert body.keys() == {"status", "data", "message"}
    assert body["data"].keys() == {"version"}


def test_namespaces_in_a_list_are_id_and_name_only(built: Built) -> None:
    body = built.daemon.request("GET", "/namespace/").json()
    assert list(body) == ["status", "data", "page", "size", "count"]
    assert all(list(row) == ["id", "name"] for row in body["data"])
    assert body["count"] == len(body["data"])
    assert [row["name"] for row in body["data"]] == sorted(row["name"] for row in body["data"])


def test_a_namespace_by_itself(built: Built) -> None:
    body = built.daemon.request("GET", "/namespace/wire/").json()
    assert body["data"].keys() == {"id", "name", "metadata_", "role_mappings"}
    assert (body["data"]["metadata_"], body["data"]["role_mappings"]) == ({}, [])
    missing = built.daemon.request("GET", "/namespace/nowhere/")
    assert error(missing) == (404, "namespace does not exist")


def test_a_namespace_is_made_once_and_deleted_with_what_it_holds(
    shared_daemon: Daemon, tiny: str
) -> None:
    daemon = shared_daemon
    made = daemon.request("POST", "/namespace/short-lived/")
    assert (made.status_code, made.json()) == (200, {"status": "ok", "message": None})
    again = daemon.request("POST", "/namespace/short-lived/")
    assert error(again) == (409, "namespace already exists")
    specification = {"name": "e", "channels": [tiny], "dependencies": ["harmless"]}
    daemon.completed(daemon.submit(specification, namespace="short-lived"))

    deleted = daemon.request("DELETE", "/namespace/short-lived/")

    assert deleted.json().keys() == {"status", "message"}
    assert error(daemon.request("DELETE", "/namespace/short-lived/"))[0] == 404
    # When files and rows are gone the name is free again.
    eventually(lambda: daemon.request("POST", "/namespace/short-lived/").status_code == 200)
    assert not daemon.prefixes("short-lived")
    assert not daemon.link("e", "short-lived").is_symlink()


@pytest.mark.parametrize(
    ("name", "status"),
    [("..", 400), (".", 400), ("-x", 400), ("x" * 256, 400), ("a b", 403), ("a:b", 403)],
)
def test_names_that_could_leave_a_directory_are_refused(
    shared_daemon: Daemon, name: str, status: int
) -> None:
    """No pattern matches characters that no name has (rest-api §2)."""
    url = shared_daemon.url + "/api/v1/namespace/" + name.replace(".", "%2e") + "/"
    assert shared_daemon.client.post(url).status_code == status
    assert shared_daemon.post({"name": "e"}, namespace=name).status_code == status


def test_an_environment(built: Built) -> None:
    data = built.daemon.data_of("/environment/wire/shapes/")
    assert list(data) == [
        "id",
        "namespace",
        "name",
        "current_build_id",
        "current_build",
        "description",
    ]
    assert data["namespace"].keys() == {"id", "name", "metadata_", "role_mappings"}
    assert data["current_build"] is None
    assert data["description"] == "for shapes"
    listed = built.daemon.request("GET", "/environment/?namespace=wire").json()
    assert list(listed) == ["status", "data", "message", "page", "size", "count"]
    assert listed["data"] == [data]
    missing = built.daemon.request("GET", "/environment/wire/nothing/")
    assert error(missing) == (404, "environment does not exist")


def test_a_build(built: Built) -> None:
    data = built.daemon.build(built.first)
    assert list(data) == [
        "id",
        "environment_id",
        "specification",
        "packages",
        "status",
        "status_info",
        "size",
        "scheduled_on",
        "started_on",
        "ended_on",
        "build_artifacts",
    ]
    assert data["packages"] is None
    assert data["status_info"] is None
    assert data["size"] > 0
    specification = data["specification"]
    assert list(specification) == ["id", "name", "spec", "sha256", "created_on"]
    assert specification["spec"] == {**built.specification, "prefix": None}
    assert list(specification["spec"]) == sorted(specification["spec"])
    for time in (*(data[f"{what}_on"] for what in ("scheduled", "started", "ended")),):
        assert NAIVE.fullmatch(time)
        assert datetime.fromisoformat(time).tzinfo is None
    assert NAIVE.fullmatch(specification["created_on"])
    assert all(list(row) == ["id", "artifact_type", "key"] for row in data["build_artifacts"])


def test_builds_in_a_list_are_short(built: Built) -> None:
    body = built.daemon.request("GET", "/build/?namespace=wire&name=shapes").json()
    assert list(body) == ["status", "data", "message", "page", "size", "count"]
    assert [row["id"] for row in body["data"]] == [built.first, built.second]
    for row in body["data"]:
        assert (row["specification"], row["packages"], row["build_artifacts"]) == (None,) * 3


def test_packages_of_a_build(built: Built) -> None:
    daemon, path = built.daemon, f"/build/{built.first}/packages/"
    (row,) = daemon.request("GET", path).json()["data"]
    assert list(row) == ["id", "channel", "license", "name", "version", "summary"]
    assert list(row["channel"]) == ["id", "name", "last_update"]
    assert row["channel"]["last_update"] is None
    assert row["channel"]["name"] == built.specification["channels"][0]
    for query, count in {
        "search=arml": 1,
        "search=arml&exact=true": 0,
        "search=harmless&exact=1": 1,
        "search=%25": 0,
        "search=": 1,
        "build=0": 1,
        "build=7": 0,
    }.items():
        assert daemon.request("GET", f"{path}?{query}").json()["count"] == count, query


def test_artifacts(built: Built) -> None:
    daemon = built.daemon
    for name in ("lockfile/", "conda-lock.yml", "conda-lock.yaml"):
        lockfile = daemon.request("GET", f"/build/{built.first}/{name}")
        assert lockfile.headers["content-type"] == "application/json"
        assert json.dumps(json.loads(lockfile.text), indent=4) == lockfile.text
    for name in ("lockfile/", "conda-lock.yml", "conda-lock.yaml"):
        assert daemon.request("GET", f"/environment/wire/shapes/{name}").status_code == 200
    exported = daemon.request("GET", f"/build/{built.first}/yaml/")
    assert exported.headers["content-type"].startswith("text/yaml")
    log = daemon.request("GET", f"/build/{built.first}/logs/")
    assert log.headers["content-type"].startswith("text/plain")
    for path in ("lockfile/", "yaml/", "logs/", "packages/", ""):
        missing = daemon.request("GET", f"/build/{HUGE}/{path}")
        assert error(missing) == (404, "build id does not exist")


@pytest.mark.parametrize("name", ["lockfile/", "conda-lock.yml", "yaml/", "logs/"])
def test_artifacts_in_parts(built: Built, name: str) -> None:
    def ask(method: str, **headers: str) -> httpx.Response:
        path = f"/build/{built.first}/{name}"
        return built.daemon.request(method, path, headers=headers)

    whole = ask("GET")
    data, etag = whole.content, whole.headers["etag"]
    head = ask("HEAD")
    assert (head.status_code, head.content) == (200, b"")
    for header in ("content-length", "content-type", "etag", "accept-ranges"):
        assert head.headers[header] == whole.headers[header]
    assert whole.headers["content-length"] == str(len(data))
    part = ask("GET", Range="bytes=5-9")
    assert (part.status_code, part.content) == (206, data[5:10])
    assert part.headers["content-range"] == f"bytes 5-9/{len(data)}"
    assert ask("GET", Range=f"bytes={len(data)}-").status_code == 416
    assert ask("GET", **{"If-None-Match": etag}).status_code == 304
    assert ask("GET", **{"If-None-Match": '"x"'}).content == data
    assert ask("GET", Range="bytes=5-9", **{"If-Range": '"x"'}).content == data
    assert built.daemon.request("HEAD", f"/build/{HUGE}/{name}").status_code == 404


def test_the_name_of_an_image(built: Built) -> None:
    answer = built.daemon.request("GET", f"/build/{built.first}/docker/")
    host = built.daemon.url.removeprefix("http://")
    key = built.daemon.build(built.first)["build_artifacts"][0]["key"]
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["deprecation"] == "True"
    name, _, tag = answer.text.rpartition(":")
    assert name == f"{host}/wire/shapes"
    assert tag in key


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("status=COMPLETED", 2),
        ("status=FAILED", 0),
        ("artifact=LOCKFILE", 2),
        ("artifact=CONDA_PACK", 0),
        ("packages=harmless", 2),
        ("packages=harmless&packages=python", 0),
        ("environment_id=999999", 0),
        (f"environment_id={HUGE}", 0),
        ("name=other", 0),
    ],
)
def test_filters_of_builds(built: Built, query: str, count: int) -> None:
    path = f"/build/?namespace=wire&name=shapes&{query}"
    if "name=other" in query:
        path = "/build/?namespace=wire&name=other"
    assert built.daemon.request("GET", path).json()["count"] == count


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("search=hape", 1),
        ("search=wir", 1),
        ("search=_hapes", 0),
        ("search=", 1),
        ("name=shapes", 1),
        ("name=shape", 0),
        ("status=COMPLETED", 1),
        ("status=FAILED", 0),
        ("artifact=YAML", 1),
        ("packages=harmless", 1),
        ("packages=harmless&packages=numpy", 0),
    ],
)
def test_filters_of_environments(built: Built, query: str, count: int) -> None:
    answer = built.daemon.request("GET", f"/environment/?namespace=wire&{query}")
    assert answer.json()["count"] == count


def test_pages_and_order(built: Built) -> None:
    def page(query: str) -> dict[str, Any]:
        path = f"/build/?namespace=wire&name=shapes&{query}"
        body: dict[str, Any] = built.daemon.request("GET", path).json()
        return {**body, "ids": [row["id"] for row in body["data"]]}

    first, second = built.first, built.second
    newest = page("size=1&order=desc&sort_by=scheduled_on")
    assert (newest["ids"], newest["page"], newest["size"], newest["count"]) == ([second], 1, 1, 2)
    assert page("size=1&page=2")["ids"] == [second]
    assert page("order=desc")["ids"] == [second, first]
    assert page("order=sideways&sort_by=nonsense")["ids"] == [first, second]
    assert page("sort_by=started_on&sort_by=id&order=desc")["ids"] == [second, first]
    assert page("size=100000")["size"] == 100
    assert page(f"page={HUGE}")["ids"] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "place"),
    [
        ("GET", "/build/abc/", None, "int_parsing", ["path", "build_id"]),
        ("GET", "/build/1.5/", None, "int_parsing", ["path", "build_id"]),
        ("GET", "/build/?status=BOGUS", None, "enum", ["query", "status"]),
        ("GET", "/environment/?artifact=x", None, "enum", ["query", "artifact"]),
        ("GET", "/build/?page=x", None, "int_parsing", ["query", "page"]),
        ("GET", "/build/?size=0", None, "greater_than_equal", ["query", "size"]),
        ("GET", "/build/?page=-1", None, "greater_than_equal", ["query", "page"]),
        ("GET", "/build/1/logs/?offset=-1", None, "greater_than_equal", ["query", "offset"]),
        ("POST", "/specification/", b'{"specification": {}}', "string_type", ["body"]),
        ("POST", "/specification/", b'{"is_lockfile": "x"}', "bool_type", ["body"]),
        ("POST", "/specification/", b"{not json}", "json_invalid", ["body", 1]),
        ("POST", "/specification/", b"[" * 50_000, "json_invalid", ["body"]),
        ("POST", "/specification/", b"\xff\xfe{}", "json_invalid", ["body"]),
        ("POST", "/specification/", b"[]", "model_attributes_type", ["body"]),
        ("PUT", "/environment/wire/shapes/", b'{"build_id": "x"}', "int_parsing", ["body"]),
        ("PUT", "/environment/wire/shapes/", b'{"build_id": true}', "int_type", ["body"]),
        ("PUT", "/environment/wire/shapes/", b'{"description": 7}', "string_type", ["body"]),
        (
            "PUT",
            "/environment/wire/shapes/",
            rb'{"description": "\ud800"}',
            "string_unicode",
            ["body"],
        ),
    ],
)
def test_what_cannot_be_parsed(
    built: Built, method: str, path: str, body: bytes | None, kind: str, place: list[Any]
) -> None:
    entry = invalid(built.daemon.request(method, path, content=body))
    assert entry["type"] == kind
    assert entry["loc"][: len(place)] == place
    assert {"type", "loc", "msg", "input"} <= entry.keys() <= {"type", "loc", "msg", "input", "ctx"}


def test_an_unknown_status_is_answered_as_pydantic_does(shared_daemon: Daemon) -> None:
    expected = "'QUEUED', 'BUILDING', 'COMPLETED', 'FAILED' or 'CANCELED'"
    assert invalid(shared_daemon.request("GET", "/build/?status=BOGUS")) == {
        "type": "enum",
        "loc": ["query", "status"],
        "msg": f"Input should be {expected}",
        "input": "BOGUS",
        "ctx": {"expected": expected},
    }


@pytest.mark.parametrize("number", [0, -1, HUGE, -HUGE, 2**31, 2**63, -(2**63) - 1])
def test_numbers_that_no_row_can_have_are_just_not_there(built: Built, number: int) -> None:
    missing = built.daemon.request("GET", f"/build/{number}/")
    assert error(missing) == (404, "build id does not exist")
    answer = built.daemon.request("PUT", "/environment/wire/shapes/", json={"build_id": number})
    assert error(answer) == (400, f"build id={number} does not exist")


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("GET", "/build?status=FAILED", "/build/?status=FAILED"),
        ("POST", "/specification", "/specification/"),
        ("PUT", "/build/1/cancel", "/build/1/cancel/"),
        ("DELETE", "/environment/a/b", "/environment/a/b/"),
        ("GET", "/build/1/conda-lock.yml/", "/build/1/conda-lock.yml"),
    ],
)
def test_a_wrong_slash_redirects_with_method_and_query(
    shared_daemon: Daemon, method: str, path: str, target: str
) -> None:
    answer = shared_daemon.request(method, path)
    assert answer.status_code == 307
    assert answer.headers["location"] == f"{shared_daemon.url}/api/v1{target}"


def test_unknown_paths_and_methods(shared_daemon: Daemon) -> None:
    for path in ("/nothing/", "/build/1/nothing/", "/environment/a%2Fb/c/"):
        answer = shared_daemon.request("GET", path)
        assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})
    answer = shared_daemon.request("PATCH", "/build/1/")
    assert (answer.status_code, answer.json()) == (405, {"detail": "Method Not Allowed"})
    assert set(answer.headers["allow"].split(", ")) == {"DELETE", "GET", "PUT"}
    assert shared_daemon.request("HEAD", "/build/1/").status_code == 405


WRITES = [
    ("POST", "/specification/"),
    ("POST", "/namespace/new/"),
    ("DELETE", "/namespace/wire/"),
    ("PUT", "/environment/wire/shapes/"),
    ("DELETE", "/environment/wire/shapes/"),
    ("PUT", "/build/{first}/"),
    ("PUT", "/build/{first}/cancel/"),
    ("DELETE", "/build/{first}/"),
]


@pytest.mark.parametrize("authorization", ["", "Bearer wrong", "Basic !!!", "Bearer", "Digest x"])
def test_writes_need_the_token(built: Built, authorization: str) -> None:
    for method, path in WRITES:
        body = {"specification": "name: x"} if "specification" in path else None
        answer = built.daemon.request(
            method,
            path.format(first=built.first),
            json=body,
            headers={"Authorization": authorization},
        )
        assert error(answer) == (403, "request not authorized"), (method, path)
    assert built.daemon.build(built.first)["status"] == "COMPLETED"


def test_the_token_is_also_a_password(built: Built) -> None:
    login = base64.b64encode(f"anyone:{built.daemon.token}".encode()).decode()
    answer = built.daemon.request(
        "PUT",
        "/environment/wire/shapes/",
        json={"description": "for shapes"},
        headers={"Authorization": f"Basic {login}"},
    )
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "message": None})


def test_another_sites_host_name_is_refused(shared_daemon: Daemon) -> None:
    answer = shared_daemon.request("GET", "/", headers={"Host": "evil.example"})
    assert answer.status_code == 400


def test_a_body_without_end_is_refused_before_it_is_parsed(shared_daemon: Daemon) -> None:
    small = shared_daemon.request(
        "PUT", "/environment/wire/shapes/", content=b'{"description": "' + b"x" * 2**20 + b'"}'
    )
    assert error(small)[0] == 413


def test_what_an_environment_can_be_updated_to(built: Built, tiny: str) -> None:
    daemon, path = built.daemon, "/environment/wire/shapes/"
    failed = daemon.submit(
        {"name": "shapes", "channels": [tiny], "dependencies": ["not-there"]}, namespace="wire"
    )
    other = daemon.submit(
        {"name": "other", "channels": [tiny], "dependencies": ["harmless"]}, namespace="wire"
    )
    assert daemon.ended(failed)["status"] == "FAILED"
    daemon.completed(other)

    def put(path: str, **body: Any) -> tuple[int, Any]:
        answer = daemon.request("PUT", path, json=body)
        return answer.status_code, answer.json()["message"]

    update = "cannot update environment to build id since"
    assert put(path, build_id=failed) == (400, f"{update} not completed")
    assert put(path, build_id=other) == (
        400,
        f"{update} specification does not match environment name",
    )
    assert put("/environment/wire/nothing/", build_id=other) == (
        400,
        "environment namespace=wire name=nothing does not exist",
    )
    assert put(path) == (200, None)
    assert put(path, build_id=None, description=None) == (200, None)
    assert put(path, build_id=str(built.first), description="new") == (200, None)
    found = daemon.data_of(path)
    assert (found["current_build_id"], found["description"]) == (built.first, "new")
    assert put(path, build_id=built.second, description="for shapes") == (200, None)
    for build_id in (failed, other):
        assert daemon.request("DELETE", f"/build/{build_id}/").status_code == 200


def test_deleting_what_is_not_there(shared_daemon: Daemon) -> None:
    answer = shared_daemon.request("DELETE", "/environment/wire/nothing/")
    assert error(answer) == (400, "environment namespace=wire name=nothing does not exist")
    answer = shared_daemon.request("DELETE", f"/build/{HUGE}/")
    assert error(answer) == (404, "build id does not exist")


def test_a_rebuild_is_a_new_build_of_the_same_specification(built: Built) -> None:
    answer = built.daemon.request("PUT", f"/build/{built.first}/")
    body = answer.json()
    assert list(body) == ["status", "data", "message"]
    assert body["message"] == "rebuild triggered"
    rebuilt = built.daemon.completed(body["data"]["build_id"])
    assert rebuilt["specification"] == built.daemon.build(built.first)["specification"]
    assert rebuilt["environment_id"] == built.daemon.build(built.first)["environment_id"]
    built.daemon.request("PUT", "/environment/wire/shapes/", json={"build_id": built.second})
    assert built.daemon.request("DELETE", f"/build/{rebuilt['id']}/").status_code == 200


def test_cancelling_what_has_ended_changes_nothing(built: Built) -> None:
    answer = built.daemon.request("PUT", f"/build/{built.first}/cancel/")
    assert answer.json() == {"status": "ok", "message": f"build {built.first} canceled"}
    assert built.daemon.build(built.first)["status"] == "COMPLETED"


def test_a_name_that_no_path_can_hold_fails_the_build_and_nothing_else(
    shared_daemon: Daemon, tiny: str
) -> None:
    name = "n" * 255
    build_id = shared_daemon.submit({"name": name, "channels": [tiny]}, namespace="long")
    build = shared_daemon.ended(build_id)
    assert build["status"] == "FAILED"
    assert build["status_info"] == "build_path too long: must be <= 255 characters"
    assert "build_path too long" in shared_daemon.log(build_id)
    assert shared_daemon.request("DELETE", f"/environment/long/{name}/").status_code == 200


@pytest.mark.sqlite
def test_a_poll_of_what_has_not_changed(built: Built) -> None:
    """Pages of the old interface poll every five seconds."""
    path = f"/build/{built.first}/"
    first = built.daemon.request("GET", path)
    etag = first.headers["etag"]
    same = built.daemon.request("GET", path, headers={"If-None-Match": etag})
    assert (same.status_code, same.content) == (304, b"")
    url = "/environment/wire/shapes/"
    before = built.daemon.request("GET", url)
    changed = built.daemon.request("PUT", url, json={"description": "changed"})
    assert changed.status_code == 200
    after = built.daemon.request("GET", url, headers={"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200
    assert after.json()["data"]["description"] == "changed"
    nobody = {"If-None-Match": etag, "Authorization": ""}
    assert built.daemon.request("GET", path, headers=nobody).status_code == 403
    built.daemon.request("PUT", url, json={"description": "for shapes"})


def test_a_refused_body_does_not_cost_the_next_request(shared_daemon: Daemon) -> None:
    """The body arrives when the answer is ready; the connection goes on."""
    host, port = shared_daemon.url.removeprefix("http://").split(":")
    head = f"POST /api/v1/namespace/x/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        answers = connection.makefile("rb")
        for _ in range(3):
            connection.sendall(head.encode())
            connection.sendall(b"{}")
            assert answers.readline() == b"HTTP/1.1 403 \r\n"
            length = 0
            while (line := answers.readline()) != b"\r\n":
                name, _, value = line.decode().partition(":")
                length = int(value) if name == "content-length" else length
                assert name != "connection"
            answers.read(length)
