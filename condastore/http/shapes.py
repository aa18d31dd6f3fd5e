"""The JSON that goes out, as structs made from rows (rest-api §2, §4.1)."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from condastore import tables
from condastore.service.pages import Page

R = TypeVar("R")


class Specification(msgspec.Struct):
    id: int
    name: str
    spec: dict[str, Any]
    sha256: str
    created_on: datetime

    @classmethod
    def of(cls, row: tables.Specification) -> "Specification":
        return cls(row.id, row.name, row.spec, row.sha256, row.created_on)


class BuildArtifact(msgspec.Struct):
    id: int
    artifact_type: str
    key: str


class Build(msgspec.Struct):
    id: int
    environment_id: int
    specification: Specification | None
    packages: None
    status: str
    status_info: str | None
    size: int
    scheduled_on: datetime
    started_on: datetime | None
    ended_on: datetime | None
    build_artifacts: list[BuildArtifact] | None

    @classmethod
    def listed(cls, row: tables.Build) -> "Build":
        """A build in a list: without specification and artifacts."""
        return cls(
            row.id,
            row.environment_id,
            None,
            None,
            row.status,
            row.status_info,
            row.size,
            row.scheduled_on,
            row.started_on,
            row.ended_on,
            None,
        )

    @classmethod
    def of(cls, row: tables.Build) -> "Build":
        """A build by itself."""
        build = cls.listed(row)
        build.specification = Specification.of(row.specification)
        build.build_artifacts = [
            BuildArtifact(artifact.id, artifact.artifact_type, artifact.key)
            for artifact in row.build_artifacts
        ]
        return build


class RoleMapping(msgspec.Struct):
    id: int
    entity: str
    role: str


class Namespace(msgspec.Struct):
    id: int
    name: str
    metadata_: dict[str, Any] | None
    role_mappings: list[RoleMapping]

    @classmethod
    def of(cls, row: tables.Namespace) -> "Namespace":
        roles = [RoleMapping(role.id, role.entity, role.role) for role in row.role_mappings]
        return cls(row.id, row.name, row.metadata_, roles)


class ListedNamespace(msgspec.Struct):
    id: int
    name: str

    @classmethod
    def of(cls, row: tables.Namespace) -> "ListedNamespace":
        return cls(row.id, row.name)


class Environment(msgspec.Struct):
    id: int
    namespace: Namespace
    name: str
    current_build_id: int
    current_build: None
    description: str | None

    @classmethod
    def of(cls, row: tables.Environment) -> "Environment":
        return cls(
            row.id,
            Namespace.of(row.namespace),
            row.name,
            row.current_build_id or 0,
            None,
            row.description,
        )


class PackageChannel(msgspec.Struct):
    id: int
    name: str
    last_update: None


class Package(msgspec.Struct):
    id: int
    channel: PackageChannel
    license: str | None
    name: str
    version: str
    summary: str | None

    @classmethod
    def of(cls, row: tables.CondaPackage) -> "Package":
        channel = PackageChannel(row.channel.id, row.channel.name, None)
        return cls(row.id, channel, row.license, row.name, row.version, row.summary)


def data(value: object, message: str | None = None) -> dict[str, Any]:
    """Returns the envelope of a value."""
    return {"status": "ok", "data": value, "message": message}


def acknowledge(message: str | None = None) -> dict[str, Any]:
    """Returns the envelope of a change."""
    return {"status": "ok", "message": message}


def page(rows: Page[R], shape: Callable[[R], object]) -> dict[str, Any]:
    """Returns the envelope of a page of a list."""
    return {
        "status": "ok",
        "data": [shape(row) for row in rows.rows],
        "message": None,
        "page": rows.page,
        "size": rows.size,
        "count": rows.count,
    }
