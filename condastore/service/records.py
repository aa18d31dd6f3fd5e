"""What is read often and goes out as it is: plain records, not objects of a session.

JSON that nobody here looks into stays text.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import String, Text, cast, func, select, type_coerce

from condastore.tables import (
    Build,
    BuildArtifact,
    CondaChannel,
    CondaPackage,
    Environment,
    Namespace,
    NamespaceRoleMapping,
    Specification,
)
from condastore.views import Statement, View, among, ids


class RoleMappingRecord(NamedTuple):
    """What the users of a namespace may do elsewhere."""

    id: int
    entity: str
    role: str


class NamespaceRecord(NamedTuple):
    """A namespace."""

    id: int
    name: str
    metadata: str | None
    role_mappings: Sequence[RoleMappingRecord]


class EnvironmentRecord(NamedTuple):
    """An environment; `current_build_id` is 0 where there is none."""

    id: int
    name: str
    current_build_id: int
    description: str | None
    namespace: NamespaceRecord


class BuildRecord(NamedTuple):
    """A build as lists show it."""

    id: int
    environment_id: int
    status: str
    status_info: str | None
    size: int
    scheduled_on: datetime
    started_on: datetime | None
    ended_on: datetime | None


class SpecificationRecord(NamedTuple):
    """A specification; `spec` is JSON."""

    id: int
    name: str
    spec: str
    sha256: str
    created_on: datetime


class PackageRecord(NamedTuple):
    """A version of a package."""

    id: int
    license: str | None
    name: str
    version: str
    summary: str | None
    channel_id: int
    channel_name: str


class ChannelRecord(NamedTuple):
    """A channel, by its normalised URL."""

    id: int
    name: str
    last_update: datetime | None


class ArtifactRecord(NamedTuple):
    """One stored form of a build."""

    id: int
    artifact_type: str
    key: str


BUILD_COLUMNS = (
    Build.id,
    Build.environment_id,
    type_coerce(Build.status, String),
    Build.status_info,
    Build.size,
    Build.scheduled_on,
    Build.started_on,
    Build.ended_on,
)
SPECIFICATION_COLUMNS = (
    Specification.id,
    Specification.name,
    cast(Specification.spec, Text),
    Specification.sha256,
    Specification.created_on,
)
ARTIFACT_COLUMNS = (
    BuildArtifact.id,
    type_coerce(BuildArtifact.artifact_type, String),
    BuildArtifact.key,
)
PACKAGE_COLUMNS = (
    CondaPackage.id,
    CondaPackage.license,
    CondaPackage.name,
    CondaPackage.version,
    CondaPackage.summary,
    CondaChannel.id,
    CondaChannel.name,
)
CHANNEL_COLUMNS = (CondaChannel.id, CondaChannel.name, CondaChannel.last_update)
NAMESPACE_COLUMNS = (Namespace.id, Namespace.name, cast(Namespace.metadata_, Text))
ENVIRONMENT_COLUMNS = (
    Environment.id,
    Environment.name,
    func.coalesce(Environment.current_build_id, 0),
    Environment.description,
    *NAMESPACE_COLUMNS,
)
_ROLE_MAPPINGS = Statement(
    select(
        NamespaceRoleMapping.namespace_id,
        NamespaceRoleMapping.id,
        NamespaceRoleMapping.entity,
        NamespaceRoleMapping.role,
    )
    .where(among(NamespaceRoleMapping.namespace_id, "ids"))
    .order_by(NamespaceRoleMapping.id)
)


def role_mappings(
    view: View, namespace_ids: Collection[int]
) -> Mapping[int, Sequence[RoleMappingRecord]]:
    """Returns the role mappings of namespaces."""
    found: dict[int, list[RoleMappingRecord]] = {number: [] for number in namespace_ids}
    for number, *mapping in view.rows(_ROLE_MAPPINGS, {"ids": ids(namespace_ids)}):
        found[number].append(RoleMappingRecord(*mapping))
    return found
