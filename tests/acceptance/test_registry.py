"""Pulling from the registry: the numbered cases of oci-registry §8, over HTTP.

Here are 1 to 18; of 10, what concerns serving. The clients, authentication, waiting and storage
have modules of their own.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from condastore import oci
from condastore.http.registry import MAX_REFERRERS
from tests.acceptance.harness import Daemon, get, running
from tests.acceptance.registry import (
    CODES,
    VERSION,
    Content,
    Puller,
    assert_pulls,
    assert_refused,
    linked,
)
from tests.images import Made, artifact, image, index

BIG = bytes(range(256)) * 8
A = image({"a": BIG})
B = image({"b": b"b"})
ARM = image({"arm": b"arm"}, architecture="arm64")
NESTED = index(B)
WHOLE = index(A, ARM, NESTED)
ZSTD = image({"z": b"z"}, compress=False)
SBOM = artifact(A.descriptor, "test/sbom", b"sbom")
SIGNATURE = artifact(A.descriptor, "test/signature", b"signature")
OF_INDEX = artifact(WHOLE.descriptor, "test/sbom", b"of the index")
NO_SUBJECT = {**A.descriptor, "digest": oci.digest_of(b"nothing")}
LONELY = artifact(NO_SUBJECT, "test/lonely", b"")
PRIVATE = image({"private": b"private"})
NOWHERE = oci.digest_of(b"nowhere")


@dataclass(frozen=True)
class Scene:
    """A daemon with some images; who asks without a password sees the namespace default."""

    daemon: Daemon
    content: Content
    anybody: Puller
    admin: Puller
    build_id: int
    """Of A, in default/env."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with (
        running(tmp_path_factory.mktemp("registry") / "data") as daemon,
        Puller(daemon) as anybody,
        Puller(daemon, daemon.token) as admin,
    ):
        content = Content(daemon)
        build_id = content.build("default", "env", A)
        content.store(SBOM, SIGNATURE)
        content.build("default", "several", WHOLE)
        content.store(OF_INDEX)
        content.build("default", "zstd", ZSTD)
        content.build("default", "lonely", index(LONELY))
        content.build("private", "env", PRIVATE)
        yield Scene(daemon, content, anybody, admin, build_id)


METHODS = ("GET", "HEAD")
PIECES = st.sampled_from(
    [
        *["default", "env", "latest", "manifests", "blobs", "tags", "referrers", "list"],
        *["conda-store-dynamic", "python.ge.3", "_catalog", "", ".", "..", "%2f", "%00", "%ff"],
        *[":", "sha256:", A.digest, NOWHERE, "x" * 300, "A", "before-2026-01-01", "lock-", "é"],
    ]
)
QUERIES = st.sampled_from(
    ["", "n=1", "n=-1", "n=&last=%00", "last=%ff", "hop=1", "artifactType=%00", "a&&=", "n=1&n=x"]
)
ODD_HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Accept": st.sampled_from(["", ",", ";", "*", oci.DOCKER_MANIFEST, "a/b;q=x,,"]),
        "Range": st.sampled_from(["bytes=0-1", "bytes=-1", "bytes=9-1", "x", "bytes=-", "bytes=,"]),
        "If-None-Match": st.sampled_from(["*", '"', '""', "W/", '"x"']),
        "If-Range": st.sampled_from(["", '"x"', "x"]),
        "Authorization": st.sampled_from(
            ["Bearer x", "Basic x", "Basic eDp5", "x", "Bearer a.b.c"]
        ),
        "Host": st.sampled_from(["localhost", "127.0.0.1:1"]),
    },
)

# Ping and errors


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PIECES, max_size=6), QUERIES, ODD_HEADERS, st.sampled_from(METHODS))
def test_02_no_request_is_an_error_of_ours(
    scene: Scene, pieces: list[str], query: str, headers: dict[str, str], method: str
) -> None:
    url = f"{scene.daemon.url}/v2/{'/'.join(pieces)}?{query}"
    answer = scene.anybody.client.request(method, url, headers=headers)
    assert answer.status_code < 500, (url, answer.text)
    is_ours = answer.url.path.startswith("/v2/") and "%2f" not in url
    if is_ours and method == "GET" and answer.status_code in (400, 401, 404):
        assert answer.json()["errors"][0]["code"] in CODES


def test_01_ping(scene: Scene) -> None:
    for path in ("/v2/", "/v2"):
        answer = get(scene.daemon.url + path)
        assert_refused(answer, 401, "UNAUTHORIZED")
        assert answer.headers["www-authenticate"].startswith("Bearer realm=")
    answer = scene.anybody.get("")
    assert (answer.status_code, answer.json()) == (200, {})
    assert answer.headers[VERSION] == "registry/2.0"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("_catalog", 404, "NAME_UNKNOWN"),
        ("nothing", 404, "NAME_UNKNOWN"),
        ("default/env/tags", 404, "NAME_UNKNOWN"),
        ("default/env/tags/other", 404, "NAME_UNKNOWN"),
        ("default/env/manifests/", 404, "NAME_UNKNOWN"),
        ("default/env/blobs/uploads/x", 404, "NAME_UNKNOWN"),
        ("Default/Env/manifests/latest", 400, "NAME_INVALID"),
        ("default/a=b/manifests/latest", 400, "NAME_INVALID"),
        ("default//env/manifests/latest", 400, "NAME_INVALID"),
        ("default/-env/tags/list", 400, "NAME_INVALID"),
        ("default/en%00v/tags/list", 400, "NAME_INVALID"),
        (f"default/{'x' * 300}/manifests/latest", 400, "NAME_INVALID"),
        ("default/a/b/manifests/latest", 404, "NAME_UNKNOWN"),
        ("alone/manifests/latest", 404, "NAME_UNKNOWN"),
        ("default/absent/manifests/latest", 404, "NAME_UNKNOWN"),
        ("default/absent/blobs/" + NOWHERE, 404, "NAME_UNKNOWN"),
    ],
)
def test_02_names_and_paths(scene: Scene, path: str, status: int, code: str) -> None:
    for method in METHODS:
        assert_refused(scene.anybody.request(method, path), status, code)


def test_02_a_repository_may_be_called_like_a_part_of_the_path(scene: Scene) -> None:
    made = image({"x": b"x"})
    scene.content.build("default", "manifests", made)
    assert_pulls(scene.anybody, "default/manifests", made)
    assert scene.anybody.manifest("default/manifests", "latest").content == made.body


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "path",
    [
        "",
        "default/env/manifests/latest",
        f"default/env/manifests/{A.digest}",
        f"default/env/blobs/{A.digest}",
        "default/env/blobs/uploads/",
        "default/env/tags/list",
        f"default/env/referrers/{A.digest}",
        "Odd//path",
    ],
)
def test_03_nothing_can_be_written(scene: Scene, method: str, path: str) -> None:
    before = scene.daemon.query("SELECT count(*) FROM manifest, blob, task")
    answer = scene.admin.request(method, path, content=b"{}")
    assert_refused(answer, 405, "UNSUPPORTED")
    assert answer.headers["allow"] == "GET, HEAD"
    assert scene.daemon.query("SELECT count(*) FROM manifest, blob, task") == before


# Manifests


@pytest.mark.parametrize("by", ["latest", "id", "key", "lock", "digest"])
def test_04_a_manifest_by_all_its_names(scene: Scene, by: str) -> None:
    tags = scene.anybody.get("default/env/tags/list").json()["tags"]
    reference = {
        "latest": "latest",
        "id": str(scene.build_id),
        "key": next(tag for tag in tags if tag.endswith("-env")),
        "lock": next(tag for tag in tags if tag.startswith("lock-")),
        "digest": A.digest,
    }[by]
    get = scene.anybody.manifest("default/env", reference)
    head = scene.anybody.request("HEAD", f"default/env/manifests/{reference}")
    assert get.status_code == head.status_code == 200
    assert get.content == A.body
    assert head.content == b""
    for name in ("content-length", "content-type", "docker-content-digest", "etag", VERSION):
        assert get.headers[name] == head.headers[name]
    assert get.headers["docker-content-digest"] == f"sha256:{hashlib.sha256(A.body).hexdigest()}"
    assert get.headers["content-length"] == str(len(A.body))
    assert get.headers["content-type"] == json.loads(A.body)["mediaType"]
    immutable = "private, max-age=31536000, immutable"
    assert get.headers["cache-control"] == (immutable if by == "digest" else "private, no-cache")
    again = scene.anybody.manifest(
        "default/env", reference, headers={"If-None-Match": get.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "reference",
    [
        "unknown",
        "lock-000000000000",
        "lock-%",
        "lock-____________",
        "999999",
        "9" * 100,
        "before-2020-01-01",
        "x" * 129,
        "-x",
        NOWHERE,
        "sha512:" + "0" * 128,
        WHOLE.digest,
        PRIVATE.digest,
    ],
)
def test_05_what_is_not_in_a_repository(scene: Scene, method: str, reference: str) -> None:
    answer = scene.anybody.request(method, f"default/env/manifests/{reference}")
    assert_refused(answer, 404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "digest",
    ["sha256:totallywrong", "sha256:", ":", "md5:" + "0" * 32, f"sha256:{'A' * 64}", "a:b:c"],
)
@pytest.mark.parametrize("kind", ["manifests", "blobs", "referrers"])
def test_06_what_is_no_digest(scene: Scene, method: str, digest: str, kind: str) -> None:
    answer = scene.anybody.request(method, f"default/env/{kind}/{digest}")
    assert_refused(answer, 400, "DIGEST_INVALID")


def test_07_an_index_and_all_below_it(scene: Scene) -> None:
    answer = scene.anybody.manifest("default/several", "latest")
    assert answer.content == WHOLE.body
    assert answer.headers["content-type"] == oci.INDEX
    assert_pulls(scene.anybody, "default/several", WHOLE)


DOCKER = [oci.DOCKER_MANIFEST, oci.DOCKER_INDEX]
SEVERAL = [oci.DOCKER_MANIFEST, oci.DOCKER_INDEX, oci.MANIFEST, oci.INDEX]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ([], oci.MANIFEST),
        (["*/*"], oci.MANIFEST),
        (["application/json"], oci.MANIFEST),
        (["application/vnd.docker.distribution.manifest.v1+json"], oci.MANIFEST),
        ([oci.MANIFEST], oci.MANIFEST),
        (SEVERAL, oci.MANIFEST),
        ([", ".join(SEVERAL)], oci.MANIFEST),
        ([f"{oci.MANIFEST};q=0.1, {oci.DOCKER_MANIFEST};q=1"], oci.MANIFEST),
        ([f"{oci.DOCKER_MANIFEST}; charset=utf-8 ;q=0.5"], oci.DOCKER_MANIFEST),
        (DOCKER, oci.DOCKER_MANIFEST),
        ([",".join(DOCKER)], oci.DOCKER_MANIFEST),
    ],
)
def test_08_what_a_client_accepts(scene: Scene, accept: list[str], expected: str) -> None:
    headers = httpx.Headers([("Accept", value) for value in accept])
    get, head = (
        scene.anybody.client.send(
            scene.anybody.client.build_request(
                method, f"{scene.daemon.url}/v2/default/env/manifests/latest", headers=headers
            )
        )
        for method in METHODS
    )
    assert get.headers["content-type"] == head.headers["content-type"] == expected
    assert get.json()["mediaType"] == expected
    assert get.headers["docker-content-digest"] == oci.digest_of(get.content)
    assert head.headers["docker-content-digest"] == get.headers["docker-content-digest"]
    by_digest = scene.anybody.manifest(
        "default/env", get.headers["docker-content-digest"], headers={"Accept": "nothing/known"}
    )
    assert by_digest.content == get.content


def test_08_the_docker_twin_is_the_same_image(scene: Scene) -> None:
    answer = scene.anybody.manifest(
        "default/env", "latest", headers={"Accept": oci.DOCKER_MANIFEST}
    )
    twin = answer.json()
    assert twin["config"]["mediaType"] == oci.DOCKER_CONFIG
    assert [layer["mediaType"] for layer in twin["layers"]] == [oci.DOCKER_LAYER]
    for ours, theirs in zip(
        [A.document["config"], *A.document["layers"]],
        [twin["config"], *twin["layers"]],
        strict=True,
    ):
        assert (ours["digest"], ours["size"]) == (theirs["digest"], theirs["size"])


def test_08_an_index_for_clients_of_all_kinds(scene: Scene) -> None:
    def asked(*accept: str) -> httpx.Response:
        headers = {"Accept": ", ".join(accept)}
        return scene.anybody.manifest("default/several", "latest", headers=headers)

    assert asked(oci.INDEX, oci.DOCKER_INDEX).content == WHOLE.body
    twins = asked(*DOCKER)
    assert twins.headers["content-type"] == oci.DOCKER_INDEX
    digests = [entry["digest"] for entry in twins.json()["manifests"]]
    assert len(digests) == 2
    for digest in digests:
        child = scene.anybody.manifest("default/several", digest)
        assert child.json()["mediaType"] == oci.DOCKER_MANIFEST
    # Who knows no indexes gets the first image.
    assert asked(oci.MANIFEST).content == A.body
    assert asked(oci.DOCKER_MANIFEST).json()["mediaType"] == oci.DOCKER_MANIFEST


def test_08_what_docker_s_schema_has_no_words_for(scene: Scene) -> None:
    answer = scene.anybody.manifest(
        "default/zstd", "latest", headers={"Accept": oci.DOCKER_MANIFEST}
    )
    assert "newer client" in assert_refused(answer, 404, "MANIFEST_UNKNOWN")
    assert scene.anybody.manifest("default/zstd", "latest").content == ZSTD.body


def test_09_manifests_are_served_byte_for_byte(scene: Scene) -> None:
    descriptor = {"mediaType": "x/y", "digest": oci.digest_of(b"{}"), "size": 2, "data": "e30="}
    document = {
        "layers": [],
        "config": descriptor,
        "zzz": [1.0, None, "é", {"b": 1, "a": 2}],
        "mediaType": oci.MANIFEST,
        "schemaVersion": 2,
        "artifactType": "test/odd",
        "annotations": {"long": "x" * (4 * 1024 * 1024 - 600)},
    }
    # Neither sorted nor compact, as others may write it.
    body = json.dumps(document, indent=1).encode()
    assert 4 * 1024 * 1024 - 1000 < len(body) <= 4 * 1024 * 1024
    odd = Made(body, {oci.digest_of(b"{}"): b"{}"})
    scene.content.build("default", "odd", odd)
    for reference in ("latest", odd.digest):
        answer = scene.anybody.manifest("default/odd", reference)
        assert answer.content == body
        assert answer.headers["docker-content-digest"] == oci.digest_of(body)


def test_10_builds_of_one_lockfile_share_an_image(scene: Scene) -> None:
    first = scene.content.build("default", "again", B, lock="same")
    second = scene.content.build("default", "again", B, lock="same")
    (tag,) = (
        tag
        for tag in scene.anybody.get("default/again/tags/list").json()["tags"]
        if tag.startswith("lock-")
    )
    for reference in (str(first), str(second), "latest", tag):
        answer = scene.anybody.manifest("default/again", reference)
        assert answer.headers["docker-content-digest"] == B.digest


# Blobs


def test_11_every_blob_of_every_manifest(scene: Scene) -> None:
    for name, made in (("default/env", A), ("default/env", SBOM), ("default/zstd", ZSTD)):
        assert_pulls(scene.anybody, name, made)
        for digest, data in made.blobs.items():
            head = scene.anybody.request("HEAD", f"{name}/blobs/{digest}")
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == str(len(data))
            assert head.headers["docker-content-digest"] == digest
            assert head.headers["content-type"] == "application/octet-stream"
            assert head.headers["accept-ranges"] == "bytes"
            assert head.headers["etag"] == f'"{digest}"'
            assert head.headers["cache-control"] == "private, max-age=31536000, immutable"
            assert head.headers[VERSION] == "registry/2.0"


def test_12_blobs_without_content(scene: Scene) -> None:
    scene.content.store(artifact(A.descriptor, "test/empty", b""))
    for data in (b"", b"{}"):
        answer = scene.anybody.blob("default/env", oci.digest_of(data))
        assert (answer.status_code, answer.content) == (200, data)
        assert answer.headers["content-length"] == str(len(data))
    for method in METHODS:
        for digest in (NOWHERE, "sha512:" + "0" * 128):
            answer = scene.anybody.request(method, f"default/env/blobs/{digest}")
            assert_refused(answer, 404, "BLOB_UNKNOWN")


LAYER = A.document["layers"][0]["digest"]
DATA = A.blobs[LAYER]
SIZE = len(DATA)


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        ("bytes=5-14", 206, 5, 15),
        ("bytes=5-", 206, 5, SIZE),
        ("bytes=-5", 206, SIZE - 5, SIZE),
        (f"bytes=5-{SIZE + 1000}", 206, 5, SIZE),
        ("bytes=5-0", 416, 0, 0),
        (f"bytes={SIZE}-", 416, 0, 0),
        ("bytes=0-1,4-5", 200, 0, SIZE),
    ],
)
def test_13_ranges(scene: Scene, asked: str, status: int, start: int, end: int) -> None:
    answer = scene.anybody.blob("default/env", LAYER, headers={"Range": asked})
    assert answer.status_code == status
    assert answer.content == DATA[start:end]
    assert answer.headers["content-length"] == str(end - start)
    assert answer.headers["docker-content-digest"] == LAYER
    if status == 206:
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
    if status == 416:
        assert answer.headers["content-range"] == f"bytes */{SIZE}"


def test_13_a_download_that_goes_on_is_the_whole(scene: Scene) -> None:
    got, etag = b"", f'"{LAYER}"'
    while len(got) < SIZE:
        answer = scene.anybody.blob(
            "default/env", LAYER, headers={"Range": f"bytes={len(got)}-", "If-Range": etag}
        )
        assert answer.status_code == 206
        got += answer.content[:100]
    assert got == DATA
    other = {"Range": "bytes=5-", "If-Range": '"another"'}
    assert scene.anybody.blob("default/env", LAYER, headers=other).content == DATA
    known = scene.anybody.blob("default/env", LAYER, headers={"If-None-Match": etag})
    assert (known.status_code, known.content) == (304, b"")


def test_14_a_blob_only_through_its_own_repositories(scene: Scene) -> None:
    (digest,) = (layer["digest"] for layer in PRIVATE.document["layers"])
    for method in METHODS:
        answer = scene.admin.request(method, f"default/env/blobs/{digest}")
        assert_refused(answer, 404, "BLOB_UNKNOWN")
    assert scene.admin.blob("private/env", digest).content == PRIVATE.blobs[digest]


# Tags


def test_15_tags_page_by_page(scene: Scene) -> None:
    for _ in range(5):
        scene.content.build("default", "paged", B)
    answer = scene.anybody.get("default/paged/tags/list")
    tags = answer.json()["tags"]
    assert answer.json()["name"] == "default/paged"
    assert tags == sorted(tags, key=str.encode)
    assert len(set(tags)) == len(tags) == 5 * 3 + 1
    assert linked(answer) is None
    seen: list[str] = []
    following: str | None = "default/paged/tags/list?n=3"
    while following is not None:
        page = scene.anybody.get(following)
        assert 1 <= len(page.json()["tags"]) <= 3
        seen += page.json()["tags"]
        following = linked(page)
    assert seen == tags

    def listed(query: str) -> list[str]:
        found: list[str] = scene.anybody.get(f"default/paged/tags/list?{query}").json()["tags"]
        return found

    assert listed("n=4") == tags[:4]
    assert listed(f"n={10**17}") == listed("") == tags
    assert listed(f"last={tags[2]}") == tags[3:]
    # It is exclusive, and need not be there.
    assert listed(f"last={tags[2]}%20") == tags[3:]
    assert listed("last=~") == listed("n=2&last=~") == []
    none = scene.anybody.get("default/paged/tags/list?n=0")
    assert none.json()["tags"] == []
    assert linked(none) is None
    for n in ("x", "-1", "1.5", "", "9" * 30):
        refused = scene.anybody.get(f"default/paged/tags/list?n={n}")
        assert_refused(refused, 400, "UNSUPPORTED")


def test_16_repositories_without_tags(scene: Scene) -> None:
    scene.daemon.submit(
        {"name": "no-tags", "channels": ["file:///nowhere"], "dependencies": ["x"]},
        namespace="default",
    )
    answer = scene.anybody.get("default/no-tags/tags/list")
    assert answer.json() == {"name": "default/no-tags", "tags": []}
    assert_refused(scene.anybody.get("default/absent/tags/list"), 404, "NAME_UNKNOWN")


# Referrers


def referrers(puller: Puller, name: str, digest: str, query: str = "") -> httpx.Response:
    answer = puller.get(f"{name}/referrers/{digest}{query}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == oci.INDEX
    assert answer.json()["schemaVersion"] == 2
    assert answer.json()["mediaType"] == oci.INDEX
    return answer


@pytest.mark.parametrize("digest", [B.digest, NOWHERE])
def test_17_nothing_refers_to_it(scene: Scene, digest: str) -> None:
    assert referrers(scene.anybody, "default/several", digest).json()["manifests"] == []


def test_18_what_refers_to_an_image(scene: Scene) -> None:
    found = referrers(scene.anybody, "default/env", A.digest).json()["manifests"]
    kinds = {entry["artifactType"]: entry for entry in found}
    assert {"test/sbom", "test/signature"} <= kinds.keys()
    assert kinds["test/sbom"] == {
        **SBOM.descriptor,
        "artifactType": "test/sbom",
        "annotations": {"test.kind": "test/sbom"},
    }
    filtered = referrers(scene.anybody, "default/env", A.digest, "?artifactType=test/signature")
    assert [entry["digest"] for entry in filtered.json()["manifests"]] == [SIGNATURE.digest]
    assert filtered.headers["oci-filters-applied"] == "artifactType"
    for made in (SBOM, SIGNATURE):
        assert_pulls(scene.anybody, "default/env", made)


def test_18_what_refers_to_an_index_and_to_nothing(scene: Scene) -> None:
    (found,) = referrers(scene.anybody, "default/several", WHOLE.digest).json()["manifests"]
    assert found["digest"] == OF_INDEX.digest
    missing = NO_SUBJECT["digest"]
    (found,) = referrers(scene.anybody, "default/lonely", missing).json()["manifests"]
    assert found["digest"] == LONELY.digest
    assert found["artifactType"] == "test/lonely"
    # Not through a repository that has nothing to do with it.
    assert referrers(scene.anybody, "default/env", missing).json()["manifests"] == []
    assert referrers(scene.anybody, "default/zstd", A.digest).json()["manifests"] == []


def test_18_what_kind_a_referrer_is_of(scene: Scene) -> None:
    subject = image({"of": b"kinds"})
    scene.content.build("default", "kinds", subject)
    of_its_config = image({"a": b"referrer"}, subject=subject.descriptor)
    untyped = index(of_its_config, subject=subject.descriptor)
    typed = index(subject=subject.descriptor, artifactType="test/index")
    scene.content.store(of_its_config, untyped, typed)
    found = {
        entry["digest"]: (entry["mediaType"], entry.get("artifactType"))
        for entry in referrers(scene.anybody, "default/kinds", subject.digest).json()["manifests"]
    }
    assert found == {
        of_its_config.digest: (oci.MANIFEST, oci.CONFIG),
        untyped.digest: (oci.INDEX, None),
        typed.digest: (oci.INDEX, "test/index"),
    }
    for kind, expected in ((oci.CONFIG, [of_its_config]), ("test/index", [typed]), ("none", [])):
        answer = referrers(
            scene.anybody, "default/kinds", subject.digest, f"?artifactType={quote(kind, safe='')}"
        )
        digests = [entry["digest"] for entry in answer.json()["manifests"]]
        assert digests == [made.digest for made in expected]
        assert answer.headers["oci-filters-applied"] == "artifactType"
    unfiltered = referrers(scene.anybody, "default/kinds", subject.digest, "?artifactType=")
    assert len(unfiltered.json()["manifests"]) == 3
    assert "oci-filters-applied" not in unfiltered.headers


def test_18_more_referrers_than_a_page_has(scene: Scene) -> None:
    subject = image({"of": b"pages"})
    scene.content.build("default", "pages", subject)
    kinds = ["test/even?", "test/odd&"]
    attached = [artifact(subject.descriptor, kinds[number % 2], b"") for number in range(2)] + [
        index(subject=subject.descriptor, artifactType=kinds[0], annotations={"number": str(each)})
        for each in range(MAX_REFERRERS)
    ]
    scene.content.store(*attached)
    for query, expected in (
        ("", attached),
        (f"?artifactType={quote(kinds[0], safe='')}", [attached[0], *attached[2:]]),
    ):
        pages = []
        following: str | None = f"default/pages/referrers/{subject.digest}{query}"
        while following is not None:
            answer = scene.anybody.get(following)
            assert answer.headers["content-type"] == oci.INDEX
            assert ("oci-filters-applied" in answer.headers) == bool(query)
            pages.append([entry["digest"] for entry in answer.json()["manifests"]])
            following = linked(answer)
        assert [len(page) for page in pages] == [MAX_REFERRERS, len(expected) - MAX_REFERRERS]
        seen = [digest for page in pages for digest in page]
        assert sorted(seen) == sorted(made.digest for made in expected)


def test_lists_have_heads_too(scene: Scene) -> None:
    for path in ("default/env/tags/list?n=1", f"default/env/referrers/{A.digest}"):
        get, head = (scene.anybody.request(method, path) for method in METHODS)
        assert (get.status_code, head.status_code, head.content) == (200, 200, b"")
        for name in ("content-type", "content-length", "link", VERSION):
            assert head.headers.get(name) == get.headers.get(name)
    assert_refused(scene.anybody.request("HEAD", "default/absent/tags/list"), 404, "NAME_UNKNOWN")
