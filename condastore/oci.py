"""Images by the OCI image specification 1.1: digests, media types, and what manifests refer to."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

_COMPONENT = r"[a-z0-9]++(?:(?:\.|__|_|-++)[a-z0-9]++)*+"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*+")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
# Clients count the host and a slash too.
MAX_REPOSITORY_LENGTH = 255


def is_repository(name: str) -> bool:
    """Whether a text can be the name of a repository."""
    return len(name) <= MAX_REPOSITORY_LENGTH and _REPOSITORY.fullmatch(name) is not None


def is_tag(text: str) -> bool:
    """Whether a text can be a tag."""
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Whether a text can be a digest; ours are sha256."""
    return _DIGEST.fullmatch(text) is not None


def digest_of(data: bytes) -> str:
    """Returns the digest of some bytes: `sha256:` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def blob_key(digest: str) -> str:
    """Returns the storage key of a blob."""
    algorithm, _, text = digest.partition(":")
    return f"blobs/{algorithm}/{text[:2]}/{text}"


def digest_of_key(key: str) -> str | None:
    """Returns the digest of the blob under a storage key; None if it can't be a blob's."""
    match key.split("/"):
        case ["blobs", algorithm, _, text] if is_digest(digest := f"{algorithm}:{text}"):
            return digest if blob_key(digest) == key else None
    return None


def canonical(document: Any) -> bytes:
    """Returns JSON that is the same for the same content: sorted keys, no white space."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True)
class References:
    """What a manifest says that it is, and needs."""

    media_type: str
    artifact_type: str | None
    subject: str | None
    blobs: list[str]
    children: list[str]


def references(body: bytes) -> References:
    """Returns what a manifest of our own making refers to."""
    document = json.loads(body)
    config, layers = document.get("config"), document.get("layers", [])
    return References(
        media_type=document["mediaType"],
        # An image manifest without a type of its own is of the type of its configuration.
        artifact_type=document.get("artifactType") or (config["mediaType"] if config else None),
        subject=document["subject"]["digest"] if "subject" in document else None,
        blobs=[blob["digest"] for blob in [*([config] if config else []), *layers]],
        children=[child["digest"] for child in document.get("manifests", [])],
    )


def annotations(body: bytes) -> dict[str, str]:
    """Returns the annotations of a manifest."""
    found: dict[str, str] = json.loads(body).get("annotations") or {}
    return found


def docker_twin(body: bytes, twins: Mapping[str, bytes] | None = None) -> bytes | None:
    """Returns the manifest of the same image, or index, in Docker's schema 2.

    `twins` has the twins of an index's children by the digests of the children. None for what that
    schema can't say: layers that are not gzip, artifacts, an index without any twin.
    """
    document = json.loads(body)
    if document.get("mediaType") == INDEX:
        return _docker_index(document, twins or {})
    config, layers = document.get("config", {}), document.get("layers", [])
    if config.get("mediaType") != CONFIG or any(it["mediaType"] != LAYER_GZIP for it in layers):
        return None
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": _as_type(config, DOCKER_CONFIG),
            "layers": [_as_type(layer, DOCKER_LAYER) for layer in layers],
        }
    )


def _docker_index(document: Any, twins: Mapping[str, bytes]) -> bytes | None:
    entries = [
        {
            "mediaType": DOCKER_MANIFEST,
            "digest": digest_of(twins[child["digest"]]),
            "size": len(twins[child["digest"]]),
            "platform": child["platform"],
        }
        for child in document.get("manifests", [])
        if child["digest"] in twins and "platform" in child
    ]
    if not entries:
        return None
    return canonical({"schemaVersion": 2, "mediaType": DOCKER_INDEX, "manifests": entries})


def _as_type(descriptor: Any, media_type: str) -> dict[str, Any]:
    return {
        "mediaType": media_type,
        "digest": descriptor["digest"],
        "size": descriptor["size"],
    }
