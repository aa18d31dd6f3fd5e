"""The documents of an image: its configuration, its manifests, and what is attached to them.

All of it is pure. Equal content gives equal bytes, and so an equal digest.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from condastore.errors import InvalidInput
from condastore.oci import CONFIG, INDEX, MANIFEST, canonical, digest_of

EMPTY = "application/vnd.oci.empty.v1+json"
EMPTY_BLOB = b"{}"
EPOCH = 315_532_800
# An image says when its content was made, and that depends on no clock.
CREATED = "1980-01-01T00:00:00Z"

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


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}
