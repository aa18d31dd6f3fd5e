"""Images by the OCI image specification 1.1: digests, media types, and what manifests refer to."""

import hashlib
import json
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


def digest_of(data: bytes) -> str:
    """Returns the digest of some bytes: `sha256:` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def blob_key(digest: str) -> str:
    """Returns the storage key of a blob."""
    algorithm, _, text = digest.partition(":")
    return f"blobs/{algorithm}/{text[:2]}/{text}"


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
