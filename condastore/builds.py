"""Builds: their states, their keys and what they leave in storage (rest-api §4.1, §4.6, §8)."""

import hashlib
import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal, NamedTuple

from condastore.errors import BuildError, Conflict, InvalidInput
from condastore.names import shorten

MAX_PREFIX_LENGTH = 255

KeyVersion = Literal[1, 2, 3]

_KEY_WITH_ID = re.compile(
    "(?:[0-9a-f]{64}-[0-9]{8}-[0-9]{6}-[0-9]{6}-(?P<v1>[0-9]{1,18})"
    "|[0-9a-f]{8}-[0-9]+-(?P<v2>[0-9]{1,18}))-.+"
)


class BuildStatus(StrEnum):
    """Where a build is."""

    QUEUED = "QUEUED"
    BUILDING = "BUILDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


class ArtifactType(StrEnum):
    """What a build can leave behind; the docker and container types are no longer made."""

    DIRECTORY = "DIRECTORY"
    LOCKFILE = "LOCKFILE"
    LOGS = "LOGS"
    YAML = "YAML"
    CONDA_PACK = "CONDA_PACK"
    DOCKER_MANIFEST = "DOCKER_MANIFEST"
    CONSTRUCTOR_INSTALLER = "CONSTRUCTOR_INSTALLER"
    CONTAINER_REGISTRY = "CONTAINER_REGISTRY"
    DOCKER_BLOB = "DOCKER_BLOB"


# BUILDING goes back to QUEUED when the daemon that ran the build died (promise I3).
_TRANSITIONS: dict[BuildStatus, frozenset[BuildStatus]] = {
    BuildStatus.QUEUED: frozenset({BuildStatus.BUILDING, BuildStatus.FAILED, BuildStatus.CANCELED}),
    BuildStatus.BUILDING: frozenset(
        {BuildStatus.QUEUED, BuildStatus.COMPLETED, BuildStatus.FAILED, BuildStatus.CANCELED}
    ),
    BuildStatus.COMPLETED: frozenset(),
    BuildStatus.FAILED: frozenset(),
    BuildStatus.CANCELED: frozenset(),
}

FINAL = frozenset(status for status, following in _TRANSITIONS.items() if not following)


def check_transition(old: BuildStatus, new: BuildStatus) -> None:
    """Refuses a move of a build that the state machine does not have."""
    if new not in _TRANSITIONS[old]:
        raise Conflict(f"a build that is {old} can't become {new}")


def build_key(
    version: KeyVersion,
    *,
    sha256: str,
    scheduled_on: datetime,
    build_id: int,
    name: str,
    namespace: str,
) -> str:
    """The key of a build, part of its prefix and storage keys (§8.1); times are naive UTC."""
    seconds = int(scheduled_on.replace(tzinfo=UTC).timestamp())
    match version:
        case 1:
            return f"{sha256}-{scheduled_on:%Y%m%d-%H%M%S-%f}-{build_id}-{name}"
        case 2:
            return f"{sha256[:8]}-{seconds}-{build_id}-{name}"
        case 3:
            text = f"{namespace}{sha256}{seconds}{build_id}"
            return hashlib.sha256(text.encode()).hexdigest()[:32]


def build_id_of(key: str) -> int | None:
    """The id in a build key; None for version 3, whose build is found by its `hash`."""
    if "-" not in key:
        return None
    match = _KEY_WITH_ID.fullmatch(key)
    if match is None:
        raise InvalidInput(f"{shorten(key)!r} is not a build key")
    return int(match["v1"] or match["v2"])


ARTIFACT_TASKS = {
    ArtifactType.CONDA_PACK: "archive",
    ArtifactType.CONSTRUCTOR_INSTALLER: "installer",
    ArtifactType.DOCKER_MANIFEST: "image",
}
"""The kinds of tasks that make artifacts after a build."""


class _File(NamedTuple):
    folder: str
    suffix: str
    media_type: str


_FILES = {
    ArtifactType.LOGS: _File("logs", ".log", "text/plain"),
    ArtifactType.LOCKFILE: _File("lockfile", ".yml", "application/json"),
    ArtifactType.YAML: _File("yaml", ".yml", "text/yaml"),
    ArtifactType.CONDA_PACK: _File("archive", ".tar.gz", "application/gzip"),
    ArtifactType.CONSTRUCTOR_INSTALLER: _File("installer", ".sh", "application/octet-stream"),
}

_ZST = _File("archive", ".tar.zst", "application/zstd")


def storage_key(artifact: ArtifactType, key: str) -> str:
    """Where the artifact of a build with this key is kept (§8.3)."""
    return f"{_FILES[artifact].folder}/{key}{_FILES[artifact].suffix}"


def archive_key(key: str, suffix: str) -> str:
    """Where the archive of a build with this key is kept, by its suffix, such as `tar.zst`."""
    return f"{_FILES[ArtifactType.CONDA_PACK].folder}/{key}.{suffix}"


def media_type(artifact: ArtifactType, key: str = "") -> str:
    """The content type under which an artifact, kept under a storage key, is served (§4.6)."""
    return _ZST.media_type if key.endswith(_ZST.suffix) else _FILES[artifact].media_type


def file_suffix(artifact: ArtifactType, key: str) -> str:
    """The end of the file name under which an artifact is saved."""
    return _ZST.suffix if key.endswith(_ZST.suffix) else _FILES[artifact].suffix


def check_prefix(prefix: str) -> None:
    """Refuses a prefix that would not fit into the placeholder of conda packages (§8.3)."""
    if len(prefix.encode()) > MAX_PREFIX_LENGTH:
        raise BuildError("spec", f"build_path too long: must be <= {MAX_PREFIX_LENGTH} characters")


def cancel_message(build_id: int) -> str:
    """The answer to a cancel request (§4.6)."""
    return f"build {build_id} canceled"


def cancel_marker(build_id: int) -> str:
    """The line that a canceled build's log ends with (§4.6)."""
    return f"build {build_id} marked as CANCELED due to being canceled from the REST API"
