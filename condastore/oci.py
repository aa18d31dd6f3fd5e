"""Images by the OCI image specification 1.1: digests, media types, and what manifests refer to.

All of it is pure: bytes in, bytes out. Equal content gives equal bytes, and so an equal digest.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from condastore.errors import InvalidInput

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

EMPTY_BLOB = b"{}"
# 1980-01-01: an image says when its content was made, and that depends on no clock.
CREATED = "1980-01-01T00:00:00Z"

_DOCKER_TYPES = {
    MANIFEST: DOCKER_MANIFEST,
    INDEX: DOCKER_INDEX,
    CONFIG: DOCKER_CONFIG,
    LAYER_GZIP: DOCKER_LAYER,
}
_PLATFORMS = {
    "linux-32": ("386", None),
    "linux-64": ("amd64", None),
    "linux-aarch64": ("arm64", "v8"),
    "linux-armv6l": ("arm", "v6"),
    "linux-armv7l": ("arm", "v7"),
    "linux-ppc64le": ("ppc64le", None),
    "linux-riscv64": ("riscv64", None),
    "linux-s390x": ("s390x", None),
}


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


def platform_of(subdir: str) -> dict[str, str] | None:
    """Returns what OCI calls a platform of conda; None where there are no containers of it."""
    found = _PLATFORMS.get(subdir)
    if found is None:
        return None
    architecture, variant = found
    platform = {"architecture": architecture, "os": "linux"}
    return platform | ({"variant": variant} if variant else {})


@dataclass(frozen=True)
class LayerBlob:
    """A layer as manifests and configurations speak of it."""

    digest: str
    size: int
    media_type: str
    diff_id: str
    created_by: str = ""


@dataclass(frozen=True)
class Settings:
    """What a container of an image starts with, and what the image says about itself."""

    environment: Mapping[str, str]
    command: Sequence[str]
    entrypoint: Sequence[str] = ()
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def image_config(
    subdir: str,
    layers: Sequence[LayerBlob],
    settings: Settings,
    base: Mapping[str, Any] | None = None,
) -> bytes:
    """Returns the configuration of an image; `base` is that of the image it stands on.

    Of the base's, what is set here is replaced, and the rest stays.
    """
    platform = platform_of(subdir)
    if platform is None:
        raise InvalidInput(f"there are no images for {subdir}")
    inherited: dict[str, Any] = dict((base or {}).get("config") or {})
    environment = dict(entry.split("=", 1) for entry in inherited.get("Env") or () if "=" in entry)
    environment.update(settings.environment)
    config = {
        **inherited,
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Cmd": list(settings.command),
        "Labels": {**(inherited.get("Labels") or {}), **settings.labels},
    }
    # The base's would run in place of ours.
    config.pop("Entrypoint", None)
    if settings.entrypoint:
        config["Entrypoint"] = list(settings.entrypoint)
    if settings.user:
        config["User"] = settings.user
    history = [{"created": CREATED, "created_by": layer.created_by} for layer in layers]
    return canonical(
        {
            **platform,
            "created": CREATED,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": history,
        }
    )


def image_manifest(
    config: bytes, layers: Sequence[LayerBlob], annotations: Mapping[str, str] | None = None
) -> bytes:
    """Returns the manifest of an image for one platform."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(CONFIG, config),
        "layers": [
            {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
            for layer in layers
        ],
    }
    return canonical(manifest | ({"annotations": dict(annotations)} if annotations else {}))


def image_index(manifests: Mapping[str, bytes]) -> bytes:
    """Returns the index of the manifests of several platforms, in the order of preference."""
    entries = [
        {**_descriptor(MANIFEST, body), "platform": platform_of(subdir)}
        for subdir, body in manifests.items()
    ]
    return canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})


def referrer(
    subject: bytes,
    artifact_type: str,
    media_type: str,
    data: bytes,
    annotations: Mapping[str, str],
) -> bytes:
    """Returns the manifest that attaches some bytes to an image; its config is `EMPTY_BLOB`."""
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": artifact_type,
            "config": _descriptor(EMPTY, EMPTY_BLOB),
            "layers": [_descriptor(media_type, data)],
            "subject": _descriptor(json.loads(subject)["mediaType"], subject),
            "annotations": dict(annotations),
        }
    )


def docker_twin(body: bytes, children: Mapping[str, bytes] | None = None) -> list[bytes]:
    """Returns the same image as manifests of Docker's schema 2, the one of `body` last.

    Of an index, `children` are the manifests by their digests. Raises `InvalidInput` if the schema
    has no such image, as for layers in zstd.
    """
    document = json.loads(body)
    if document["mediaType"] == INDEX:
        twins = {
            entry["digest"]: docker_twin((children or {})[entry["digest"]])[-1]
            for entry in document["manifests"]
        }
        document["manifests"] = [
            {**entry, **_descriptor(DOCKER_MANIFEST, twins[entry["digest"]])}
            for entry in document["manifests"]
        ]
        return [*twins.values(), _twin(document)]
    if document["mediaType"] != MANIFEST or "artifactType" in document:
        raise InvalidInput("this is not an image")
    for descriptor in (document["config"], *document["layers"]):
        descriptor["mediaType"] = _docker_type(descriptor["mediaType"])
    return [_twin(document)]


def _twin(document: dict[str, Any]) -> bytes:
    known = ("schemaVersion", "mediaType", "config", "layers", "manifests")
    twin = {name: document[name] for name in known if name in document}
    return canonical({**twin, "mediaType": _docker_type(document["mediaType"])})


def _docker_type(media_type: str) -> str:
    if media_type not in _DOCKER_TYPES:
        raise InvalidInput(f"Docker's schema 2 has no {media_type}")
    return _DOCKER_TYPES[media_type]


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


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
