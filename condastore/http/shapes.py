"""The JSON that goes out, as structs made from rows (rest-api §2, §4.1)."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec

from condastore.service.builds import FoundBuild
from condastore.service.namespaces import ListedNamespace as ListedNamespaceRecord
from condastore.service.packages import FoundPackage
from condastore.service.pages import Page
from condastore.service.records import (
    BuildRecord,
    ChannelRecord,
    EnvironmentRecord,
    NamespaceRecord,
    PackageRecord,
)
from condastore.service.roles import NamespaceRole

R = TypeVar("R")
T = TypeVar("T")

# Stored JSON goes out as it is.
Object = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "object"})]
ObjectOrNull = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": ["object", "null"]})]


class Data(msgspec.Struct, Generic[T], kw_only=True):
    """The envelope of a value."""

    status: Literal["ok"] = "ok"
    data: T
    message: str | None = None


class Acknowledgement(msgspec.Struct, kw_only=True):
    """The envelope of a change."""

    status: Literal["ok"] = "ok"
    message: str | None = None


class Listed(msgspec.Struct, Generic[T], kw_only=True):
    """The envelope of a page of a list."""

    status: Literal["ok"] = "ok"
    data: list[T]
    message: None = None
    page: int
    size: int
    count: int


class Problem(msgspec.Struct):
    """The envelope of an error."""

    status: Literal["error"]
    message: str


class NoRoute(msgspec.Struct):
    """What is answered to a path that leads nowhere."""

    detail: str


class Invalid(msgspec.Struct):
    """What is wrong with a path, query or body, in FastAPI's shape."""

    detail: list[dict[str, Any]]


class Specification(msgspec.Struct):
    id: int
    name: str
    spec: Object
    sha256: str
    created_on: datetime


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
    def listed(cls, row: BuildRecord) -> "Build":
        """A build in a list: without specification and artifacts."""
        return cls(row.id, row.environment_id, None, None, *row[2:], None)

    @classmethod
    def of(cls, found: FoundBuild) -> "Build":
        """A build by itself."""
        number, name, spec, sha256, created_on = found.specification
        build = cls.listed(found.build)
        build.specification = Specification(number, name, msgspec.Raw(spec), sha256, created_on)
        build.build_artifacts = [BuildArtifact(*artifact) for artifact in found.artifacts]
        return build


class RoleMapping(msgspec.Struct):
    id: int
    entity: str
    role: str


class Namespace(msgspec.Struct):
    id: int
    name: str
    metadata_: ObjectOrNull
    role_mappings: list[RoleMapping]

    @classmethod
    def of(cls, row: NamespaceRecord) -> "Namespace":
        roles = [RoleMapping(*role) for role in row.role_mappings]
        return cls(row.id, row.name, msgspec.Raw(row.metadata or "null"), roles)


class ListedNamespace(msgspec.Struct):
    id: int
    name: str

    @classmethod
    def of(cls, row: ListedNamespaceRecord) -> "ListedNamespace":
        return cls(*row)


class NamespaceList(msgspec.Struct, kw_only=True):
    """conda-store drops what equals its default from this one list."""

    status: Literal["ok"] = "ok"
    data: list[ListedNamespace]
    page: int
    size: int
    count: int


class Role(msgspec.Struct):
    """What the users of a namespace may do in another one."""

    id: int
    namespace: str
    other_namespace: str
    role: str

    @classmethod
    def of(cls, row: NamespaceRole) -> "Role":
        return cls(row.id, row.namespace, row.other_namespace, row.role)


class EnvironmentV2(msgspec.Struct):
    id: int
    namespace: Namespace
    name: str
    current_build_id: int
    description: str | None

    @classmethod
    def of(cls, row: EnvironmentRecord) -> "EnvironmentV2":
        return cls(
            row.id,
            Namespace.of(row.namespace),
            row.name,
            row.current_build_id,
            row.description,
        )


class EnvironmentCursorPage(msgspec.Struct, kw_only=True):
    """A page that ends with a cursor to the next one."""

    data: list[EnvironmentV2]
    status: Literal["ok"] = "ok"
    message: None = None
    cursor: str
    count: int


class Environment(msgspec.Struct):
    id: int
    namespace: Namespace
    name: str
    current_build_id: int
    current_build: None
    description: str | None

    @classmethod
    def of(cls, row: EnvironmentRecord) -> "Environment":
        return cls(
            row.id,
            Namespace.of(row.namespace),
            row.name,
            row.current_build_id,
            None,
            row.description,
        )


class PackageChannel(msgspec.Struct):
    id: int
    name: str
    last_update: None


class Channel(msgspec.Struct):
    id: int
    name: str
    last_update: datetime | None

    @classmethod
    def of(cls, row: ChannelRecord) -> "Channel":
        return cls(row.id, row.name, row.last_update)


class BuildId(msgspec.Struct):
    build_id: int


class About(msgspec.Struct):
    version: str


class Package(msgspec.Struct):
    id: int
    channel: PackageChannel
    license: str | None
    name: str
    version: str
    summary: str | None

    @classmethod
    def of(cls, row: PackageRecord) -> "Package":
        channel = PackageChannel(row.channel_id, row.channel_name, None)
        return cls(row.id, channel, row.license, row.name, row.version, row.summary)

    @classmethod
    def found(cls, row: FoundPackage) -> "Package":
        """A package of an indexed channel."""
        package = row.package
        channel = PackageChannel(row.channel_id, package.channel, None)
        return cls(
            package.id, channel, package.license, package.name, package.version, package.summary
        )


def data(value: T, message: str | None = None) -> Data[T]:
    """Returns the envelope of a value."""
    return Data(data=value, message=message)


def acknowledge(message: str | None = None) -> Acknowledgement:
    """Returns the envelope of a change."""
    return Acknowledgement(message=message)


def page(rows: Page[R], shape: Callable[[R], T]) -> Listed[T]:
    """Returns the envelope of a page of a list."""
    return Listed(
        data=[shape(row) for row in rows.rows],
        page=rows.page,
        size=rows.size,
        count=rows.count,
    )
