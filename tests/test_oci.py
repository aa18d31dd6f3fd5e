"""Names, digests, and the same image in Docker's words."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condastore import oci
from tests.images import artifact, image, index
from tests.patience import processor_time_below

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    "name",
    ["a", "a/b", "a.b/c_d/e__f/g-h/i---j", "0/1", "a" * 255, "a/manifests", "x/" * 9 + "y"],
)
def test_names_of_repositories(name: str) -> None:
    assert oci.is_repository(name)


@pytest.mark.parametrize(
    "name",
    [
        "", "/", "a/", "/a", "a//b", "A", "a/B", "-a", "a-", "a..b", "a___b", "a._b", "a_-b", "a b",
        "a=b", "a+b", "a~b", "a:b", "a@b", "é", "a\n", "a\x00", "a" * 256,
    ],
)  # fmt: skip
def test_what_is_no_name(name: str) -> None:
    assert not oci.is_repository(name)


def test_long_names_take_no_time() -> None:
    with processor_time_below(0.5):
        for text in ("a" * 255, "a-" * 127, "-" * 255, "a/" * 127, "a_" * 127 + "!"):
            oci.is_repository(text)


def test_tags() -> None:
    for tag in ("latest", "1", "_x", "A.b-c_d", "a" * 128):
        assert oci.is_tag(tag)
    for tag in ("", "-a", ".a", "a" * 129, "a:b", "a+b", "a b", "a\n", "é"):
        assert not oci.is_tag(tag)


def test_digests_and_keys() -> None:
    assert oci.is_digest(DIGEST)
    assert oci.is_digest("sha512:" + "0" * 128)
    for text in (
        DIGEST[:-1],
        DIGEST.upper(),
        f"{DIGEST}0",
        "sha512:" + "0" * 64,
        "md5:" + "0" * 32,
    ):
        assert not oci.is_digest(text)
    key = oci.blob_key(DIGEST)
    assert key == f"blobs/sha256/0a/{'0a' * 32}"
    assert oci.digest_of_key(key) == DIGEST
    for other in ("", "blobs", f"x{key}", key[:-1], key.replace("/0a/", "/0b/"), f"{key}/x"):
        assert oci.digest_of_key(other) is None


@given(st.text())
def test_no_key_is_an_error(text: str) -> None:
    assert oci.digest_of_key(text) is None
    assert oci.digest_of_key(f"blobs/sha256/{text[:2]}/{text}") is None


def test_an_image_in_docker_s_words() -> None:
    made = image({"a": b"a"}, {"b": b"b"}, annotations={"x": "y"})
    twin = oci.docker_twin(made.body)
    assert twin is not None
    assert json.loads(twin) == {
        "schemaVersion": 2,
        "mediaType": oci.DOCKER_MANIFEST,
        "config": {**made.document["config"], "mediaType": oci.DOCKER_CONFIG},
        "layers": [{**layer, "mediaType": oci.DOCKER_LAYER} for layer in made.document["layers"]],
    }
    assert twin == oci.canonical(json.loads(twin))
    assert set(oci.references(twin).blobs) == made.blobs.keys()


def test_what_docker_has_no_words_for() -> None:
    made = image({"a": b"a"})
    assert oci.docker_twin(image({"a": b"a"}, compress=False).body) is None
    assert oci.docker_twin(artifact(made.descriptor, "test/x").body) is None
    assert oci.docker_twin(index(made).body) is None


def test_an_index_in_docker_s_words_has_the_images_that_it_can_have() -> None:
    first, second = image({"a": b"a"}), image({"b": b"b"}, compress=False)
    whole = index(first, second)
    twin = oci.docker_twin(first.body)
    assert twin is not None
    found = oci.docker_twin(whole.body, {first.digest: twin})
    assert found is not None
    assert json.loads(found) == {
        "schemaVersion": 2,
        "mediaType": oci.DOCKER_INDEX,
        "manifests": [
            {
                "mediaType": oci.DOCKER_MANIFEST,
                "digest": oci.digest_of(twin),
                "size": len(twin),
                "platform": {"os": "linux", "architecture": "amd64"},
            }
        ],
    }
    assert oci.references(found).children == [oci.digest_of(twin)]
