"""Every route, tried by people who may and by people who may not (rest-api §12, faults F71-F73)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.routing import WebSocketRoute

from condastore.http.app import API
from condastore.http.operations import Resource
from tests.acceptance.harness import Daemon, listen

# Whoever asks may be anybody.
OPEN = {
    "/",
    "/health/",
    "/permission/",
    "/usage/",
    "/namespace/",
    "/environment/",
    "/build/",
    "/channel/",
    "/package/",
}
# Each administrator of a namespace sees what is about his.
OF_ADMINISTRATORS = {"/audit/"}
# About the caller alone.
OWN = {"/token/", "/token/{token_id}/"}


@dataclass(frozen=True)
class Scene:
    """A daemon with an environment of Ada's, and the tokens of some people."""

    daemon: Daemon
    build_id: int
    tokens: dict[str, str]

    def ask(self, who: str, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[who]}"}
        return self.daemon.request(method, path, headers=headers, **options)


@pytest.fixture(scope="module")
def scene(shared_daemon: Daemon, tiny: str) -> Iterator[Scene]:
    daemon = shared_daemon
    specification = {"name": "env", "channels": [tiny], "dependencies": ["harmless"]}
    build_id = daemon.submit(specification, namespace="ada")
    daemon.completed(build_id)

    def token(pattern: str, role: str) -> str:
        wanted = {"role_bindings": {pattern: [role]}}
        answer = daemon.request("POST", "/token/", json=wanted)
        assert answer.status_code == 200, answer.text
        text: str = answer.json()["data"]["token"]
        return text

    tokens = {
        "admin": daemon.token,
        "ada": token("ada/*", "admin"),
        "editor": token("ada/*", "editor"),
        "viewer": token("ada/*", "viewer"),
        "inside": token("ada/env", "admin"),
        "bob": token("bob/*", "admin"),
        "nobody": "nothing",
    }
    yield Scene(daemon, build_id, tokens)


def routes() -> list[tuple[str, str]]:
    return [
        (method, route.path)
        for route in API
        if isinstance(route, Resource) and route.path not in OPEN | OWN | OF_ADMINISTRATORS
        for method in route.operations
    ]


BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/namespace/{namespace}/role"): {"other_namespace": "bob", "role": "viewer"},
    ("PUT", "/namespace/{namespace}/role"): {"other_namespace": "bob", "role": "viewer"},
    ("DELETE", "/namespace/{namespace}/role"): {"other_namespace": "bob"},
    ("POST", "/specification/"): {"specification": "name: env", "namespace": "ada"},
    ("PUT", "/namespace/{namespace}/"): {"metadata": {}},
}


@pytest.mark.parametrize("who", ["bob", "nobody"])
@pytest.mark.parametrize(("method", "path"), routes())
def test_nothing_of_another_namespace_can_be_reached(
    scene: Scene, who: str, method: str, path: str
) -> None:
    filled = path.format(
        namespace="ada", environment="env", build_id=scene.build_id, artifact="CONDA_PACK"
    )
    options: dict[str, Any] = {"json": BODIES.get((method, path), {})}
    if path == "/namespace/{namespace}/role" and method == "GET":
        options["params"] = {"other_namespace": "bob"}
    if path == "/specification/" and method == "GET":
        # Whoever may solve somewhere may solve.
        who, options = "viewer", {"params": {"conda": "harmless"}}
    answer = scene.ask(who, method, filled, **options)
    assert answer.status_code == 403, answer.text
    if method != "HEAD":
        assert answer.json() == {"status": "error", "message": "request not authorized"}


def test_lists_show_what_could_be_got(scene: Scene) -> None:
    for who, sees in (("ada", True), ("viewer", True), ("inside", True), ("bob", False)):
        for path, field in (("/environment/", "name"), ("/build/", "id"), ("/namespace/", "name")):
            rows = scene.ask(who, "GET", path).json()["data"]
            shown = {row[field] for row in rows}
            wanted = {"name": "ada" if path == "/namespace/" else "env", "id": scene.build_id}
            assert (wanted[field] in shown) is sees, (who, path)
        assert (scene.ask(who, "GET", "/environment/ada/env/").status_code == 200) is sees
        assert ("ada" in scene.ask(who, "GET", "/usage/").json()["data"]) is sees


def test_the_audit_log_of_a_namespace_is_for_its_administrators(scene: Scene) -> None:
    def namespaces(who: str, query: str = "") -> set[str | None]:
        answer = scene.ask(who, "GET", f"/audit/?{query}")
        assert answer.status_code == 200, answer.text
        return {row["namespace"] for row in answer.json()["data"]}

    assert {"ada", "default"} <= namespaces("admin")
    assert namespaces("ada") == namespaces("ada", "namespace=ada") == {"ada"}
    assert namespaces("ada", "namespace=default") == set()
    assert "ada" not in namespaces("bob")
    for who in ("editor", "viewer", "inside", "nobody"):
        assert scene.ask(who, "GET", "/audit/").status_code == 403
        assert scene.ask(who, "GET", "/audit/?namespace=ada").status_code == 403


@pytest.mark.parametrize(
    ("who", "method", "path", "status"),
    [
        ("viewer", "PUT", "/build/{build}/cancel/", 403),
        ("viewer", "PUT", "/build/{build}/", 403),
        ("viewer", "DELETE", "/build/{build}/", 403),
        ("viewer", "GET", "/setting/ada/", 403),
        ("editor", "GET", "/setting/ada/", 200),
        ("editor", "PUT", "/setting/ada/", 403),
        ("editor", "PUT", "/build/{build}/cancel/", 200),
        ("editor", "DELETE", "/environment/ada/env/", 403),
        ("editor", "PUT", "/namespace/ada/metadata", 403),
        ("ada", "PUT", "/namespace/ada/metadata", 200),
        ("ada", "GET", "/setting/", 403),
        ("inside", "GET", "/namespace/ada/", 200),
        ("inside", "PUT", "/namespace/ada/metadata", 403),
        ("inside", "DELETE", "/namespace/ada/", 403),
        ("inside", "GET", "/setting/ada/", 403),
        ("inside", "GET", "/setting/ada/env/", 200),
    ],
)
def test_roles_allow_what_they_say(
    scene: Scene, who: str, method: str, path: str, status: int
) -> None:
    answer = scene.ask(who, method, path.format(build=scene.build_id), json={})
    assert answer.status_code == status, answer.text


def test_nobody_makes_himself_an_administrator(scene: Scene) -> None:
    """An admin of one namespace may change its role mappings, which name any pattern."""
    for entity in ("*/*", "bob/*", "*/env"):
        answer = scene.ask(
            "ada", "PUT", "/namespace/ada/", json={"role_mappings": {entity: ["viewer"]}}
        )
        assert answer.status_code == 403, answer.text
    within = {"role_mappings": {"ada/x": ["viewer"]}}
    assert scene.ask("ada", "PUT", "/namespace/ada/", json=within).status_code == 200
    unknown = {"role_mappings": {"ada/x": ["king"]}}
    assert scene.ask("ada", "PUT", "/namespace/ada/", json=unknown).status_code == 400
    assert scene.ask("ada", "PUT", "/namespace/ada/", json={"role_mappings": {}}).status_code == 200


def test_a_token_is_a_part_of_what_its_maker_may_do(scene: Scene) -> None:
    wider = {"role_bindings": {"*/*": ["viewer"]}}
    answer = scene.ask("ada", "POST", "/token/", json=wider)
    assert (answer.status_code, answer.json()["message"]) == (
        400,
        "Requested role_bindings are not a subset of current permissions",
    )
    longer = {"expiration": "2999-01-01T00:00:00Z"}
    answer = scene.ask("ada", "POST", "/token/", json=longer)
    assert (answer.status_code, answer.json()["message"]) == (
        400,
        "Requested expiration of token is greater than current permissions",
    )
    for bad in (
        {"role_bindings": {"ada/*": ["king"]}},
        {"role_bindings": {"everything": ["viewer"]}},
        {"expiration": "2026-01-01T00:00:00"},
        {"primary_namespace": "a/b"},
    ):
        assert scene.ask("ada", "POST", "/token/", json=bad).status_code == 400, bad
    narrow = {"role_bindings": {"ada/env": ["editor"]}, "primary_namespace": "ada"}
    token = scene.ask("ada", "POST", "/token/", json=narrow).json()["data"]["token"]
    data = scene.daemon.request(
        "GET", "/permission/", headers={"Authorization": f"Bearer {token}"}
    ).json()["data"]
    assert data["authenticated"] is True
    assert data["primary_namespace"] == "ada"
    assert data["entity_roles"] == {
        "default/*": ["viewer"],
        "filesystem/*": ["viewer"],
        "ada/env": ["developer"],
    }
    assert data["expiration"].endswith("Z")


def test_a_token_of_nobody_is_worth_no_more_than_nobody(scene: Scene) -> None:
    token = scene.ask("nobody", "POST", "/token/").json()["data"]["token"]
    data = scene.daemon.request(
        "GET", "/permission/", headers={"Authorization": f"Bearer {token}"}
    ).json()["data"]
    assert data["entity_roles"] == {"default/*": ["viewer"]}


def test_tokens_are_listed_and_revoked(scene: Scene) -> None:
    token = scene.ask("ada", "POST", "/token/").json()["data"]["token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert scene.daemon.request("GET", "/setting/ada/", headers=headers).status_code == 200
    newest = scene.daemon.request("GET", "/token/?order=desc").json()["data"][0]
    assert newest["role_bindings"].keys() >= {"ada/*"}
    assert token not in str(newest)
    for who in ("ada", "nobody"):
        assert scene.ask(who, "GET", "/token/").status_code == 403
        assert scene.ask(who, "DELETE", f"/token/{newest['id']}/").status_code == 403
    assert scene.daemon.request("DELETE", f"/token/{newest['id']}/").status_code == 200
    assert scene.daemon.request("GET", "/setting/ada/", headers=headers).status_code == 403
    assert scene.daemon.request("DELETE", f"/token/{10**30}/").status_code == 404


def test_a_websocket_asks_for_permission_too(scene: Scene) -> None:
    (path,) = [route.path for route in API if isinstance(route, WebSocketRoute)]
    url = scene.daemon.url.replace("http://", "ws://")
    address = f"{url}/api/v1{path.format(build_id=scene.build_id)}"
    for who, allowed in (("viewer", True), ("bob", False), ("nobody", False)):
        headers = {"Authorization": f"Bearer {scene.tokens[who]}"}
        with listen(address, additional_headers=headers) as socket:
            assert ("not authorized" in str(socket.recv())) is not allowed
