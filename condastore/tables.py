"""The database's tables (rest-api §7), plus the durable task queue.

Times are naive UTC. Enums are stored as their names.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Enum,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    desc,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from condastore.builds import ArtifactType, BuildStatus, KeyVersion


def utcnow() -> datetime:
    """Returns the time as it is stored: UTC without an offset."""
    return datetime.now(UTC).replace(tzinfo=None)


def age(moment: datetime) -> timedelta:
    """Returns how far away something is that has happened.

    After the clock was set back it seems to be still to come, and what is kept for an hour would
    be kept until then.
    """
    return abs(utcnow() - moment)


def row_id(number: int) -> int:
    """Returns a number as an id that fits a column; what doesn't becomes one that no row has.

    Ids are integers of four bytes on PostgreSQL, which refuses to compare them with larger ones.
    """
    return number if 0 < number < 2**31 else 0


class TaskState(StrEnum):
    """Where a task is in the queue."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


def _stored(enum: type[StrEnum]) -> Enum:
    return Enum(enum, native_enum=False, create_constraint=False, length=64)


class Base(DeclarativeBase):
    """The declarative base; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        dict[str, Any]: JSON,
        list[str]: JSON,
        BuildStatus: _stored(BuildStatus),
        ArtifactType: _stored(ArtifactType),
        TaskState: _stored(TaskState),
    }


class Namespace(Base):
    """A scope of environment names and permissions."""

    __tablename__ = "namespace"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    deleted_on: Mapped[datetime | None]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column(default=dict)

    role_mappings: Mapped[list["NamespaceRoleMapping"]] = relationship(
        cascade="all, delete-orphan", order_by="NamespaceRoleMapping.id"
    )


class NamespaceRoleMapping(Base):
    """What the users of a namespace may do elsewhere (role mappings version 1, rest-api §12)."""

    __tablename__ = "namespace_role_mapping"

    id: Mapped[int] = mapped_column(primary_key=True)
    namespace_id: Mapped[int] = mapped_column(
        ForeignKey("namespace.id", ondelete="CASCADE"), index=True
    )
    entity: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(255))


class NamespaceRoleMappingV2(Base):
    """Who may do what in a namespace (role mappings version 2, rest-api §12)."""

    __tablename__ = "namespace_role_mapping_v2"
    __table_args__ = (UniqueConstraint("namespace_id", "other_namespace_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    namespace_id: Mapped[int] = mapped_column(ForeignKey("namespace.id", ondelete="CASCADE"))
    other_namespace_id: Mapped[int] = mapped_column(ForeignKey("namespace.id", ondelete="CASCADE"))
    role: Mapped[str] = mapped_column(String(255))


class Specification(Base):
    """An environment.yaml or a lockfile, kept once per content."""

    __tablename__ = "specification"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    spec: Mapped[dict[str, Any]]
    sha256: Mapped[str] = mapped_column(String(255), unique=True)
    created_on: Mapped[datetime] = mapped_column(default=utcnow)
    is_lockfile: Mapped[bool] = mapped_column(default=False)


class Environment(Base):
    """A name that points to one of its builds."""

    __tablename__ = "environment"
    __table_args__ = (
        UniqueConstraint("namespace_id", "name", name="_namespace_name_uc"),
        Index(None, "current_build_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    namespace_id: Mapped[int] = mapped_column(ForeignKey("namespace.id"))
    name: Mapped[str] = mapped_column(String(255))
    current_build_id: Mapped[int | None] = mapped_column(
        ForeignKey("build.id", use_alter=True, name="fk_environment_current_build_id_build")
    )
    deleted_on: Mapped[datetime | None]
    description: Mapped[str | None] = mapped_column(Text)

    namespace: Mapped[Namespace] = relationship()


class Build(Base):
    """One attempt to build a specification."""

    __tablename__ = "build"
    __table_args__ = (
        Index(None, "environment_id", "id"),
        Index(None, "status"),
        # People keep the numbers of builds, so none is given twice.
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    specification_id: Mapped[int] = mapped_column(ForeignKey("specification.id"), index=True)
    environment_id: Mapped[int] = mapped_column(ForeignKey("environment.id"))
    status: Mapped[BuildStatus] = mapped_column(default=BuildStatus.QUEUED)
    status_info: Mapped[str | None] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger, default=0)
    scheduled_on: Mapped[datetime] = mapped_column(default=utcnow)
    started_on: Mapped[datetime | None]
    ended_on: Mapped[datetime | None]
    deleted_on: Mapped[datetime | None]
    build_key_version: Mapped[KeyVersion] = mapped_column(Integer)
    hash: Mapped[str | None] = mapped_column(String(32), index=True)
    author: Mapped[str | None] = mapped_column(String(320))
    """Who asked for it, as `Caller.signature` says; null where that was not noted."""

    specification: Mapped[Specification] = relationship()
    environment: Mapped[Environment] = relationship(foreign_keys=[environment_id])
    build_artifacts: Mapped[list["BuildArtifact"]] = relationship(
        cascade="all, delete-orphan", order_by="BuildArtifact.id"
    )


class BuildArtifact(Base):
    """One stored form of a build; for DIRECTORY the key is the prefix."""

    __tablename__ = "build_artifact"
    __table_args__ = (UniqueConstraint("build_id", "artifact_type", "key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    build_id: Mapped[int] = mapped_column(ForeignKey("build.id", ondelete="CASCADE"))
    artifact_type: Mapped[ArtifactType]
    key: Mapped[str] = mapped_column(Text)


class CondaChannel(Base):
    """A channel, by its normalised URL."""

    __tablename__ = "conda_channel"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    last_update: Mapped[datetime | None]


class CondaPackage(Base):
    """A version of a package in a channel."""

    __tablename__ = "conda_package"
    __table_args__ = (UniqueConstraint("channel_id", "name", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    channel_id: Mapped[int] = mapped_column(ForeignKey("conda_channel.id"))
    license: Mapped[str | None] = mapped_column(Text)
    license_family: Mapped[str | None] = mapped_column(Text)
    name: Mapped[str] = mapped_column(String(255), index=True)
    version: Mapped[str] = mapped_column(Text, index=True)
    summary: Mapped[str | None] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)

    channel: Mapped[CondaChannel] = relationship()


class CondaPackageBuild(Base):
    """One package file of a version."""

    __tablename__ = "conda_package_build"
    __table_args__ = (
        UniqueConstraint("channel_id", "package_id", "subdir", "build", "build_number", "sha256"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    package_id: Mapped[int] = mapped_column(ForeignKey("conda_package.id"), index=True)
    channel_id: Mapped[int] = mapped_column(ForeignKey("conda_channel.id"))
    build: Mapped[str] = mapped_column(Text, index=True)
    build_number: Mapped[int]
    constrains: Mapped[list[str] | None]
    depends: Mapped[list[str]]
    md5: Mapped[str] = mapped_column(String(255))
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    subdir: Mapped[str | None] = mapped_column(String(64))
    timestamp: Mapped[int | None] = mapped_column(BigInteger)

    package: Mapped[CondaPackage] = relationship()


build_packages = Table(
    "build_conda_package_build",
    Base.metadata,
    Column("build_id", ForeignKey("build.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "conda_package_build_id",
        ForeignKey("conda_package_build.id", ondelete="CASCADE"),
        primary_key=True,
        index=True,
    ),
)


class Blob(Base):
    """A blob of images, in the storage under `oci.blob_key(digest)`."""

    __tablename__ = "blob"

    digest: Mapped[str] = mapped_column(String(71), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    created_on: Mapped[datetime] = mapped_column(default=utcnow)
    doomed_on: Mapped[datetime | None] = mapped_column(index=True)
    """Since when nothing needs it; it goes when the grace is over."""


class Layer(Base):
    """The blob that a package, or what else a layer is made of, became."""

    __tablename__ = "layer"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    """A hash of all that the layer's content depends on."""
    diff_id: Mapped[str] = mapped_column(String(71))
    media_type: Mapped[str] = mapped_column(String(127))
    blob_digest: Mapped[str] = mapped_column(ForeignKey("blob.digest"), index=True)
    used_on: Mapped[datetime] = mapped_column(default=utcnow, index=True)


class Manifest(Base):
    """An image manifest, an index or an artifact's manifest, byte for byte as it is served."""

    __tablename__ = "manifest"

    digest: Mapped[str] = mapped_column(String(71), primary_key=True)
    media_type: Mapped[str] = mapped_column(String(127))
    artifact_type: Mapped[str | None] = mapped_column(String(127))
    subject: Mapped[str | None] = mapped_column(String(71), index=True)
    """The digest of the manifest that it refers to, which may be missing."""
    body: Mapped[bytes] = mapped_column(LargeBinary)
    created_on: Mapped[datetime] = mapped_column(default=utcnow)
    pulled_on: Mapped[datetime | None]


manifest_blobs = Table(
    "manifest_blob",
    Base.metadata,
    Column("manifest_digest", ForeignKey("manifest.digest", ondelete="CASCADE"), primary_key=True),
    Column("blob_digest", ForeignKey("blob.digest"), primary_key=True, index=True),
)

manifest_children = Table(
    "manifest_child",
    Base.metadata,
    Column("parent_digest", ForeignKey("manifest.digest", ondelete="CASCADE"), primary_key=True),
    Column("child_digest", ForeignKey("manifest.digest"), primary_key=True, index=True),
)


class Image(Base):
    """The image of a build; builds of one lockfile share a manifest."""

    __tablename__ = "image"

    id: Mapped[int] = mapped_column(primary_key=True)
    build_id: Mapped[int] = mapped_column(ForeignKey("build.id", ondelete="CASCADE"), unique=True)
    key: Mapped[str] = mapped_column(String(64), index=True)
    """A hash of all that the image depends on: the lockfile, the base, the settings of images."""
    lock_hash: Mapped[str] = mapped_column(String(64), index=True)
    """Of the lockfile's packages."""
    manifest_digest: Mapped[str] = mapped_column(ForeignKey("manifest.digest"), index=True)
    docker_digest: Mapped[str | None] = mapped_column(ForeignKey("manifest.digest"), index=True)
    """Of the same image in Docker's schema 2, once somebody has asked for it."""


class Token(Base):
    """A token that was given out, so that it can be listed and revoked; never its text."""

    __tablename__ = "token"

    id: Mapped[int] = mapped_column(primary_key=True)
    jti: Mapped[str] = mapped_column(String(64), unique=True)
    owner: Mapped[str | None] = mapped_column(String(255), index=True)
    """The user who signed in, or minted it; null for the admin token and for nobody."""
    primary_namespace: Mapped[str] = mapped_column(String(255))
    role_bindings: Mapped[dict[str, Any]]
    is_login: Mapped[bool]
    created_on: Mapped[datetime] = mapped_column(default=utcnow)
    expires_on: Mapped[datetime] = mapped_column(index=True)
    revoked_on: Mapped[datetime | None]
    maker: Mapped[str | None] = mapped_column(String(320))
    """Who answers for it, also where he used a token to mint it; null where that was not noted."""


class Person(Base):
    """Somebody who has signed in, as he last did."""

    __tablename__ = "person"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    signed_in_on: Mapped[datetime] = mapped_column(default=utcnow)
    seen_on: Mapped[datetime] = mapped_column(default=utcnow)
    """When something was last asked for by him or by a token of his, to within some minutes."""
    role_bindings: Mapped[dict[str, Any]]
    """What the login gave him."""


class AuditEntry(Base):
    """A change that somebody made; it refers to nothing, so that it outlives what it is about."""

    __tablename__ = "audit_entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    made_on: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    actor: Mapped[str] = mapped_column(String(320), index=True)
    token_id: Mapped[int | None] = mapped_column(BigInteger)
    action: Mapped[str] = mapped_column(String(64), index=True)
    namespace: Mapped[str | None] = mapped_column(String(255), index=True)
    environment: Mapped[str | None] = mapped_column(String(255))
    build_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    via: Mapped[str] = mapped_column(String(16))
    request_id: Mapped[str | None] = mapped_column(String(64))
    """As long as `http.request_ids` takes them from a proxy."""


class UsageSample(Base):
    """How many bytes the builds of a namespace took at an hour."""

    __tablename__ = "usage_sample"

    taken_on: Mapped[datetime] = mapped_column(primary_key=True)
    namespace: Mapped[str] = mapped_column(String(255), primary_key=True)
    """Empty for what is used of the whole file system."""
    bytes: Mapped[int] = mapped_column(BigInteger)


class KeyValueStore(Base):
    """Settings (rest-api §10), one JSON value a key."""

    __tablename__ = "keyvaluestore"
    __table_args__ = (UniqueConstraint("prefix", "key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    prefix: Mapped[str] = mapped_column(String(511))
    key: Mapped[str] = mapped_column(String(255))
    value: Mapped[Any] = mapped_column(JSON)


class Task(Base):
    """Work that must happen; the queue outlives every process.

    Times that leases depend on are seconds since the epoch by the database's clock.
    """

    __tablename__ = "task"
    __table_args__ = (
        Index("ix_task_queue", "state", "kind", "namespace", desc("priority"), "id"),
        Index("ix_task_served", "namespace", "claimed_at"),
        Index(None, "build_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(64))
    namespace: Mapped[str] = mapped_column(String(255))
    build_id: Mapped[int | None] = mapped_column(ForeignKey("build.id", ondelete="SET NULL"))
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)
    priority: Mapped[int] = mapped_column(default=0)
    state: Mapped[TaskState] = mapped_column(default=TaskState.QUEUED)
    attempts: Mapped[int] = mapped_column(default=0)
    deaths: Mapped[int] = mapped_column(default=0, server_default="0")
    """How often a daemon has died while it worked on this; such an attempt is no failed one."""
    not_before: Mapped[float] = mapped_column(default=0.0)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[float | None]
    claimed_at: Mapped[float | None]
    created_on: Mapped[datetime] = mapped_column(default=utcnow)
    ended_on: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)
    result: Mapped[dict[str, Any] | None]
