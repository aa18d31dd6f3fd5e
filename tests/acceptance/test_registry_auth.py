"""Who may pull what (oci-registry §8, cases 19 to 22)."""

import base64
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest

from condastore.auth.registry_tokens import AUDIENCE
from tests.acceptance.harness import Daemon, eventually, running
from tests.acceptance.registry import (
    Content,
    Puller,
    assert_pulls,
    assert_refused,
    parse_challenge,
)
from tests.images import image

PUBLIC = image({"public": b"public"})
A = image({"a": b"a"})
B = image({"b": b"b"})
PREFIX = "/conda"


@dataclass(frozen=True)
class Scene:
    """A daemon below a prefix and behind a proxy; two of its three repositories are private."""

    daemon: Daemon
    client: httpx.Client

    @property
    def root(self) -> str:
        """Where `/v2/` is, whatever the prefix."""
        return self.daemon.url.removesuffix(PREFIX)

    @property
    def endpoint(self) -> str:
        return f"{self.daemon.url}/registry/token"

    def manifest(self, name: str, **headers: str) -> httpx.Response:
        return self.client.get(f"{self.root}/v2/{name}/manifests/latest", headers=headers)

    def mint(self, **fields: Any) -> str:
        """Returns a token of the API."""
        answer = self.daemon.request("POST", "/token/", json=fields)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["data"]["token"]
        return token

    def token(self, password: str | None, *scopes: str) -> httpx.Response:
        auth = None if password is None else ("anybody", password)
        return self.client.get(self.endpoint, params={"scope": list(scopes)}, auth=auth)

    def pulls(self, token: str, name: str) -> bool:
        answer = self.manifest(name, Authorization=f"Bearer {token}")
        assert answer.status_code in (200, 401)
        return answer.status_code == 200


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    data = tmp_path_factory.mktemp("registry-auth") / "data"
    options = [f"--CondaStoreServer.url_prefix={PREFIX}", "--CondaStoreServer.behind_proxy=True"]
    with (
        running(data, *options) as daemon,
        httpx.Client(timeout=30) as client,
    ):
        content = Content(daemon)
        content.build("default", "env", PUBLIC)
        content.build("private", "a", A)
        content.build("private", "b", B)
        yield Scene(daemon, client)


def viewer(*patterns: str) -> dict[str, Any]:
    return {"role_bindings": {pattern: ["viewer"] for pattern in patterns}}


PULL_A, PULL_B = "repository:private/a:pull", "repository:private/b:pull"


def test_19_what_is_public_needs_no_login(scene: Scene) -> None:
    challenge = scene.client.get(f"{scene.root}/v2/").headers["www-authenticate"]
    parameters = parse_challenge(challenge)
    answer = scene.client.get(
        parameters["realm"], params={"service": parameters["service"], "scope": "x"}
    )
    assert answer.status_code == 200
    everybody = scene.token(None, "repository:default/env:pull").json()["token"]
    assert scene.pulls(everybody, "default/env")
    assert scene.manifest("default/env").status_code == 200


def test_19_what_is_private_does_not_show(scene: Scene) -> None:
    answers = [scene.manifest("private/a"), scene.manifest("private/absent")]
    for answer, name in zip(answers, ("private/a", "private/absent"), strict=True):
        message = assert_refused(answer, 401, "DENIED")
        assert message == f"{name} is not there, or may not be pulled; log in"
        assert parse_challenge(answer.headers["www-authenticate"]) == {
            "realm": scene.endpoint,
            "service": "condastore",
            "scope": f"repository:{name}:pull",
        }
    answer = scene.token(None, PULL_A)
    assert answer.status_code == 200
    for name in ("private/a", "private/absent"):
        refused = scene.manifest(name, Authorization=f"Bearer {answer.json()['token']}")
        assert_refused(refused, 401, "DENIED")
        challenge = parse_challenge(refused.headers["www-authenticate"])
        assert challenge["error"] == "insufficient_scope"


def test_20_the_answer_of_the_token_endpoint(scene: Scene) -> None:
    answer = scene.token(scene.daemon.token, PULL_A)
    found = answer.json()
    assert set(found) == {"token", "access_token", "expires_in", "issued_at"}
    assert found["token"] == found["access_token"]
    assert found["expires_in"] >= 60
    issued = datetime.strptime(found["issued_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - issued) < timedelta(seconds=5)
    assert answer.headers["cache-control"] == "no-store"
    assert scene.pulls(found["token"], "private/a")


def test_20_a_token_of_the_api_is_a_password(scene: Scene) -> None:
    minted = scene.mint(**viewer("private/*"))
    for password in (scene.daemon.token, minted):
        # That is `docker login`.
        assert scene.token(password).status_code == 200
        assert scene.pulls(scene.token(password, PULL_A).json()["token"], "private/a")
        basic = base64.b64encode(f"anybody:{password}".encode()).decode()
        assert scene.manifest("private/a", Authorization=f"Basic {basic}").status_code == 200
        ping = scene.client.get(f"{scene.root}/v2/", headers={"Authorization": f"Basic {basic}"})
        assert ping.status_code == 200


@pytest.mark.parametrize("password", ["", "wrong", "x.y.z", "e30.e30.e30", "é", "x" * 20_000])
def test_20_wrong_passwords(scene: Scene, password: str) -> None:
    answer = scene.token(password, "repository:default/env:pull")
    assert answer.status_code == 401
    assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"
    assert answer.headers["www-authenticate"].startswith("Basic ")
    basic = base64.b64encode(f"anybody:{password}".encode()).decode()
    refused = scene.manifest("default/env", Authorization=f"Basic {basic}")
    assert_refused(refused, 401, "UNAUTHORIZED")
    challenge = parse_challenge(refused.headers["www-authenticate"])
    assert challenge["error"] == "invalid_token"


@pytest.mark.parametrize("header", ["Basic !!!", "Basic", "Bearer", "Digest x", "\x80"])
def test_20_odd_credentials(scene: Scene, header: str) -> None:
    headers = {b"Authorization": header.encode("latin-1")}
    url = f"{scene.root}/v2/default/env/manifests/latest"
    assert_refused(scene.client.get(url, headers=headers), 401, "UNAUTHORIZED")
    assert scene.client.get(scene.endpoint, headers=headers).status_code == 401


@pytest.mark.parametrize("name", ['a",x="y', "%00", "a%0dSet-Cookie:%20x=y", "%C3%A9", "A/b"])
def test_20_a_challenge_says_nothing_that_was_made_up(scene: Scene, name: str) -> None:
    answer = scene.client.get(
        f"{scene.root}/v2/{name}/manifests/latest", headers={"Authorization": "Bearer x"}
    )
    assert_refused(answer, 401, "UNAUTHORIZED")
    assert "set-cookie" not in answer.headers
    challenge = parse_challenge(answer.headers["www-authenticate"])
    assert challenge == {
        "realm": scene.endpoint,
        "service": "condastore",
        "error": "invalid_token",
    }


def test_20_tokens_that_are_no_good(scene: Scene) -> None:
    good = scene.token(scene.daemon.token, PULL_A).json()["token"]
    claims = jwt.decode(good, options={"verify_signature": False})
    now = int(time.time())
    bad = {
        "tampered": good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB"),
        "foreign": jwt.encode({**claims, "exp": now + 100}, "x" * 32, "HS256"),
        "unsigned": jwt.encode(claims, "", "none"),
        "of the API": scene.mint(**viewer("private/*")),
        "the admin's": scene.daemon.token,
    }
    secret = (scene.daemon.data / "secret").read_text().strip()
    bad["signed as those of the API"] = jwt.encode({**claims, "aud": AUDIENCE}, secret, "HS256")
    for why, token in bad.items():
        refused = scene.manifest("private/a", Authorization=f"Bearer {token}")
        assert_refused(refused, 401, "UNAUTHORIZED")
        assert not scene.manifest("private/a", Authorization=f"Bearer {token}").is_success, why
    # And one for pulling is none of the API.
    answer = scene.client.get(
        f"{scene.daemon.url}/api/v1/permission/", headers={"Authorization": f"Bearer {good}"}
    )
    assert answer.json()["data"]["authenticated"] is False
    assert scene.token(good).status_code == 401


def test_20_tokens_that_have_ended_or_were_revoked(scene: Scene) -> None:
    for lifetime in (1, 5, 25, 125):
        ending = (datetime.now(UTC) + timedelta(seconds=lifetime)).isoformat()
        short = scene.mint(expiration=ending, **viewer("private/*"))
        # On a busy machine it may have ended already.
        if scene.token(short, PULL_A).status_code == 200:
            break
    else:
        raise AssertionError("no token was good for anything")
    revoked = scene.mint(**viewer("private/*"))
    derived = scene.token(revoked, PULL_A).json()["token"]
    (row,) = scene.daemon.data_of("/token/?sort_by=id&order=desc&size=1")
    assert scene.daemon.request("DELETE", f"/token/{row['id']}/").status_code == 200
    assert scene.token(revoked, PULL_A).status_code == 401
    # What was made from it ends by itself, soon.
    lifetime_s = jwt.decode(derived, options={"verify_signature": False})["exp"] - time.time()
    assert 0 < lifetime_s <= 600
    eventually(lambda: scene.token(short, PULL_A).status_code == 401, timeout_s=200)


def test_21_a_token_opens_what_it_is_for(scene: Scene) -> None:
    one = scene.token(scene.daemon.token, PULL_A).json()["token"]
    assert scene.pulls(one, "private/a")
    assert not scene.pulls(one, "private/b")
    for scopes in ((PULL_A, PULL_B), (f"{PULL_A} {PULL_B}",), (PULL_A, PULL_A, PULL_B)):
        both = scene.token(scene.daemon.token, *scopes).json()["token"]
        assert scene.pulls(both, "private/a")
        assert scene.pulls(both, "private/b")


@pytest.mark.parametrize(
    "scope",
    [
        "repository:private/a:push",
        "repository:private/a:",
        "repository::pull",
        "registry:catalog:*",
        "pull",
        ":::",
        "repository:Private/A:pull",
        "repository:private/a/b:pull",
        "repository:../a:pull",
        "repository:private/a:pull" * 1000,
        "%00",
    ],
)
def test_21_odd_scopes_grant_nothing(scene: Scene, scope: str) -> None:
    answer = scene.token(scene.daemon.token, scope)
    assert answer.status_code == 200
    assert not scene.pulls(answer.json()["token"], "private/a")


def test_21_push_is_not_needed_to_pull(scene: Scene) -> None:
    for actions in ("pull,push", "push,pull", "*"):
        answer = scene.token(scene.daemon.token, f"repository:private/a:{actions}")
        assert scene.pulls(answer.json()["token"], "private/a")
    raw = f"{scene.endpoint}?scope=repository%3Aprivate%2Fa%3Apull&service=x&account=y"
    answer = scene.client.get(raw, auth=("y", scene.daemon.token))
    assert scene.pulls(answer.json()["token"], "private/a")


def test_21_many_scopes_make_no_endless_token(scene: Scene) -> None:
    scopes = [f"repository:private/{'x' * 200}{number}:pull" for number in range(200)]
    answer = scene.token(scene.daemon.token, *scopes)
    assert answer.status_code == 200
    assert len(answer.json()["token"]) < 16_000


def test_21_a_form_does_the_same(scene: Scene) -> None:
    def post(**fields: str) -> httpx.Response:
        return scene.client.post(scene.endpoint, data=fields)

    password = {"username": "x", "password": scene.daemon.token, "scope": PULL_A}
    answer = post(grant_type="password", service="condastore", client_id="x", **password)
    assert answer.status_code == 200
    assert scene.pulls(answer.json()["access_token"], "private/a")
    refreshed = post(grant_type="refresh_token", refresh_token=scene.daemon.token, scope=PULL_A)
    assert scene.pulls(refreshed.json()["access_token"], "private/a")
    assert post(grant_type="password", password="wrong").status_code == 401
    assert post(grant_type="password").status_code == 401
    assert post(grant_type="other").status_code == 400
    assert post().status_code == 400
    assert scene.client.post(scene.endpoint, content=b"\xff" * 70_000).status_code == 413
    many = "&".join(f"f{number}=1" for number in range(1000))
    assert scene.client.post(scene.endpoint, content=many.encode()).status_code == 400
    for method in ("PUT", "DELETE", "PATCH"):
        assert scene.client.request(method, scene.endpoint).status_code == 405


def test_21_a_viewer_of_one_environment_sees_no_other(scene: Scene) -> None:
    minted = scene.mint(**viewer("private/a"))
    token = scene.token(minted, PULL_A, PULL_B).json()["token"]
    assert scene.pulls(token, "private/a")
    assert not scene.pulls(token, "private/b")
    with Puller(scene.daemon, minted) as puller:
        puller._url = scene.root
        assert_pulls(puller, "private/a", A)


@pytest.mark.parametrize(
    ("headers", "realm"),
    [
        ({}, "{url}/registry/token"),
        (
            {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "localhost"},
            "https://localhost/conda/registry/token",
        ),
        (
            {"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "localhost:8443, inner"},
            "https://localhost:8443/conda/registry/token",
        ),
        ({"X-Forwarded-Proto": "gopher"}, "{url}/registry/token"),
        ({"X-Forwarded-Host": 'a",b="'}, "{url}/registry/token"),
        ({"Host": "localhost:1"}, "http://localhost:1/conda/registry/token"),
    ],
)
def test_22_where_the_tokens_are(scene: Scene, headers: dict[str, str], realm: str) -> None:
    answer = scene.client.get(f"{scene.root}/v2/", headers=headers)
    challenge = parse_challenge(answer.headers["www-authenticate"])
    assert challenge["realm"] == realm.format(url=scene.daemon.url)
    # The registry itself is at the root of the host.
    assert scene.client.get(f"{scene.daemon.url}/v2/").status_code == 404


def test_22_other_names_stay_out(scene: Scene) -> None:
    answer = scene.client.get(f"{scene.root}/v2/", headers={"X-Forwarded-Host": "evil.example"})
    assert answer.status_code == 400


def test_the_name_that_docker_pulls(scene: Scene) -> None:
    (build_id,) = (row[0] for row in scene.daemon.query("SELECT min(id) FROM build"))
    answer = scene.daemon.request("GET", f"/build/{build_id}/docker/")
    host, _, name = answer.text.partition("/")
    assert f"http://{host}" == scene.root
    name, _, tag = name.partition(":")
    assert scene.client.get(f"{scene.root}/v2/{name}/manifests/{tag}").content == PUBLIC.body
