"""The documents of images."""

import json

import pytest

from condastore.errors import InvalidInput
from condastore.manifests import (
    CREATED,
    EMPTY,
    EMPTY_BLOB,
    LayerBlob,
    Settings,
    image_config,
    image_index,
    image_manifest,
    platform_of,
    referrer,
)
from condastore.oci import CONFIG, INDEX, LAYER_GZIP, MANIFEST, canonical, digest_of, references

LAYERS = [LayerBlob(f"sha256:{n}{n}", n, LAYER_GZIP, f"sha256:{n}", f"package {n}") for n in (1, 2)]
SETTINGS = Settings({"PATH": "/opt/env/bin", "LANG": "C.UTF-8"}, ["sh"], labels={"a": "b"})


@pytest.mark.parametrize(
    ("subdir", "expected"),
    [
        ("linux-64", {"architecture": "amd64", "os": "linux"}),
        ("linux-aarch64", {"architecture": "arm64", "os": "linux", "variant": "v8"}),
        ("linux-ppc64le", {"architecture": "ppc64le", "os": "linux"}),
        ("linux-s390x", {"architecture": "s390x", "os": "linux"}),
        ("osx-arm64", None),
        ("win-64", None),
        ("noarch", None),
    ],
)
def test_platforms(subdir: str, expected: dict[str, str] | None) -> None:
    assert platform_of(subdir) == expected


def test_a_configuration_says_what_a_container_is() -> None:
    config = json.loads(image_config("linux-aarch64", LAYERS, SETTINGS))
    assert config == {
        "architecture": "arm64",
        "os": "linux",
        "variant": "v8",
        "created": CREATED,
        "config": {
            "Env": ["PATH=/opt/env/bin", "LANG=C.UTF-8"],
            "Cmd": ["sh"],
            "Labels": {"a": "b"},
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:1", "sha256:2"]},
        "history": [
            {"created": CREATED, "created_by": "package 1"},
            {"created": CREATED, "created_by": "package 2"},
        ],
    }


def test_there_is_no_image_for_a_platform_without_containers() -> None:
    with pytest.raises(InvalidInput, match="osx-64"):
        image_config("osx-64", LAYERS, SETTINGS)


def test_what_the_base_says_stays_unless_it_is_said_anew() -> None:
    base = {
        "config": {
            "Env": ["PATH=/bin", "KEPT=yes"],
            "Entrypoint": ["/base"],
            "Cmd": ["base"],
            "WorkingDir": "/work",
            "User": "somebody",
            "Labels": {"a": "base", "base": "yes"},
        }
    }
    config = json.loads(image_config("linux-64", LAYERS, SETTINGS, base))["config"]
    assert config == {
        "Env": ["PATH=/opt/env/bin", "KEPT=yes", "LANG=C.UTF-8"],
        "Cmd": ["sh"],
        "WorkingDir": "/work",
        "User": "somebody",
        "Labels": {"a": "b", "base": "yes"},
    }


def test_entrypoint_and_user() -> None:
    settings = Settings({}, ["sh"], ["/enter"], "1000")
    config = json.loads(image_config("linux-64", LAYERS, settings))["config"]
    assert (config["Entrypoint"], config["User"]) == (["/enter"], "1000")


def test_a_manifest_names_its_configuration_and_layers() -> None:
    config = image_config("linux-64", LAYERS, SETTINGS)
    body = image_manifest(config, LAYERS)
    found = references(body)
    assert found.media_type == MANIFEST
    assert found.artifact_type == CONFIG
    assert found.blobs == [digest_of(config), "sha256:11", "sha256:22"]
    assert canonical(json.loads(body)) == body


def test_an_index_has_the_platforms_in_order() -> None:
    bodies = {
        subdir: image_manifest(image_config(subdir, LAYERS, SETTINGS), LAYERS)
        for subdir in ("linux-aarch64", "linux-64")
    }
    index = json.loads(image_index(bodies))
    assert index["mediaType"] == INDEX
    assert [entry["platform"]["architecture"] for entry in index["manifests"]] == [
        "arm64",
        "amd64",
    ]
    assert references(image_index(bodies)).children == [digest_of(body) for body in bodies.values()]


def test_what_is_attached_refers_to_its_image() -> None:
    image = image_manifest(b"{}", LAYERS)
    body = referrer(image, "application/spdx+json", "application/json", b"bill", {"title": "b"})
    found = references(body)
    assert found.subject == digest_of(image)
    assert found.artifact_type == "application/spdx+json"
    assert found.blobs == [digest_of(EMPTY_BLOB), digest_of(b"bill")]
    document = json.loads(body)
    assert document["config"]["mediaType"] == EMPTY
    assert document["annotations"] == {"title": "b"}
    assert document["subject"]["size"] == len(image)
