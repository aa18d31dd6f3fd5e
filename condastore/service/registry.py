"""What is in a repository: tags, manifests, blobs, and who refers to whom.

Tags are not stored: they follow from the builds. What may be read through a repository is what the
images of its builds need, and what refers to them; the same blob elsewhere is none of its business.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, false, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from condastore.builds import ArtifactType, BuildStatus, build_id_of, build_key
from condastore.dynamic_images import CUTOFF
from condastore.errors import InvalidInput
from condastore.image_rows import add_manifest
from condastore.oci import INDEX, docker_twin, is_tag, references
from condastore.service.parts import Parts
from condastore.service.repositories import Repository
from condastore.tables import (
    Blob,
    Build,
    Environment,
    Image,
    Manifest,
    Namespace,
    Specification,
    age,
    manifest_blobs,
    manifest_children,
    row_id,
    utcnow,
)

LATEST = "latest"
LOCK = "lock-"
LOCK_DIGITS = 12
# When a manifest was pulled is written down at most this often.
PULLED_EVERY = timedelta(minutes=10)
_MAX_ID_DIGITS = 18
_MANIFESTS_OF_A_BLOB = 1000


async def exists(parts: Parts, repository: Repository) -> bool:
    """Whether there is such an environment."""
    query = (
        select(Environment.id)
        .join(Environment.namespace)
        .where(*_named(repository), Environment.deleted_on.is_(None))
        .limit(1)
    )
    async with parts.database.read() as session:
        return await session.scalar(query) is not None


async def list_tags(parts: Parts, repository: Repository) -> list[str]:
    """Returns all tags, sorted by their bytes."""
    async with parts.database.read() as session:
        rows = (await session.execute(_pullable(parts, repository))).all()
    tags = {tag for row in rows for tag in _tags_of(row, repository)}
    return sorted(tags)


async def find_build_id(parts: Parts, repository: Repository, tag: str) -> int | None:
    """Returns the build that a tag names; None if it can't be pulled, or there is none."""
    condition = _condition(tag)
    if condition is None:
        return None
    query = _pullable(parts, repository).where(condition).order_by(Build.id.desc())
    async with parts.database.read() as session:
        rows = (await session.execute(query.limit(1))).all()
    return next((row.id for row in rows if tag in _tags_of(row, repository)), None)


async def find_manifest(parts: Parts, repository: Repository, digest: str) -> Manifest | None:
    """Returns a manifest that may be read through a repository."""
    async with parts.database.read() as session:
        if not await _is_readable(session, repository, [digest]):
            return None
        return await session.get(Manifest, digest)


async def find_blob(parts: Parts, repository: Repository, digest: str) -> Blob | None:
    """Returns a blob that may be read through a repository."""
    async with parts.database.read() as session:
        for way in _ways_to_blobs(repository):
            found = way.where(manifest_blobs.c.blob_digest == digest).limit(1)
            if (await session.execute(found)).first() is not None:
                return await session.get(Blob, digest)
        # What else there may be, such as an index in an index, leads up from the blob.
        query = select(manifest_blobs.c.manifest_digest).where(
            manifest_blobs.c.blob_digest == digest
        )
        manifests = (await session.scalars(query.limit(_MANIFESTS_OF_A_BLOB))).all()
        if await _is_readable(session, repository, manifests):
            return await session.get(Blob, digest)
    return None


async def list_referrers(parts: Parts, repository: Repository, subject: str) -> list[Manifest]:
    """Returns what refers to a manifest, which itself may be missing, by digest."""
    async with parts.database.read() as session:
        query = select(Manifest).where(Manifest.subject == subject).order_by(Manifest.digest)
        found = (await session.scalars(query)).all()
        if await _is_readable(session, repository, [subject]):
            return list(found)
        # The subject may be missing, or somebody else's.
        return [m for m in found if await _is_readable(session, repository, [m.digest])]


async def docker_twin_of(parts: Parts, manifest: Manifest) -> Manifest | None:
    """Returns the same image in Docker's schema 2; None if that can't say it.

    It is made and recorded when it is asked for the first time.
    """
    known = select(Image.docker_digest).where(Image.manifest_digest == manifest.digest).distinct()
    async with parts.database.read() as session:
        digests = set(await session.scalars(known))
        # Builds that share an image got it one after the other.
        if len(digests) == 1 and None not in digests:
            return await session.get(Manifest, digests.pop())
        twins: dict[str, bytes] = {}
        if manifest.media_type == INDEX:
            children = select(Manifest).join(
                manifest_children, manifest_children.c.child_digest == Manifest.digest
            )
            query = children.where(manifest_children.c.parent_digest == manifest.digest)
            for child in await session.scalars(query):
                if (body := docker_twin(child.body)) is not None:
                    twins[child.digest] = body
    twin = docker_twin(manifest.body, twins)
    return None if twin is None else await _record_docker_twin(parts, manifest, twin, twins)


async def _record_docker_twin(
    parts: Parts, manifest: Manifest, twin: bytes, twins: Mapping[str, bytes]
) -> Manifest | None:
    async with parts.database.write() as session:
        for body in twins.values():
            await add_manifest(session, body)
        digest = await add_manifest(session, twin)
        await session.execute(
            update(Image)
            .where(Image.manifest_digest == manifest.digest)
            .values(docker_digest=digest)
        )
        return await session.get(Manifest, digest)


async def first_child(parts: Parts, manifest: Manifest) -> Manifest | None:
    """Returns the image that an index prefers, for clients that know no index."""
    digests = references(manifest.body).children
    async with parts.database.read() as session:
        return await session.get(Manifest, digests[0]) if digests else None


async def note_pull(parts: Parts, manifest: Manifest) -> None:
    """Writes down that a manifest was pulled, so that what it needs stays for a while."""
    if manifest.pulled_on is not None and age(manifest.pulled_on) < PULLED_EVERY:
        return
    async with parts.database.write() as session:
        await session.execute(
            update(Manifest).where(Manifest.digest == manifest.digest).values(pulled_on=utcnow())
        )


def _named(repository: Repository) -> Sequence[ColumnElement[bool]]:
    """The condition on environments, and namespaces joined to them."""
    name: ColumnElement[bool] = Environment.name == repository.environment
    if repository.specs:
        dated = f"{repository.environment}-{CUTOFF}"
        name = or_(name, Environment.name.startswith(dated, autoescape=True))
    return Namespace.name == repository.namespace, name


def _pullable(parts: Parts, repository: Repository) -> Select[*tuple[Any, ...]]:
    """The builds of a repository that can be pulled, with what their tags are made of."""
    kept = ArtifactType.DOCKER_MANIFEST in parts.defaults.build_artifacts_kept_on_deletion
    return (
        select(
            Build.id,
            Build.scheduled_on,
            Build.build_key_version,
            Build.hash,
            Specification.sha256,
            Specification.name,
            Environment.name.label("environment"),
            Environment.current_build_id,
            Image.lock_hash,
        )
        .join(Specification, Specification.id == Build.specification_id)
        .join(Environment, Environment.id == Build.environment_id)
        .join(Namespace, Namespace.id == Environment.namespace_id)
        .outerjoin(Image, Image.build_id == Build.id)
        .where(
            *_named(repository),
            Environment.deleted_on.is_(None),
            Build.status == BuildStatus.COMPLETED,
            or_(Build.deleted_on.is_(None), Image.id.is_not(None) if kept else false()),
        )
    )


def _condition(tag: str) -> ColumnElement[bool] | None:
    """The condition on builds that a tag may name; None if it can't name any."""
    if tag == LATEST:
        return Environment.current_build_id == Build.id
    if tag.isdecimal() and len(tag) <= _MAX_ID_DIGITS:
        return or_(Build.id == row_id(int(tag)), Build.hash == tag)
    if tag.startswith(CUTOFF):
        return and_(Environment.current_build_id == Build.id, Environment.name.endswith(f"-{tag}"))
    if tag.startswith(LOCK) and len(tag) == len(LOCK) + LOCK_DIGITS:
        return Image.lock_hash.startswith(tag.removeprefix(LOCK), autoescape=True)
    try:
        build_id = build_id_of(tag)
    except InvalidInput:
        return None
    return Build.hash == tag if build_id is None else Build.id == row_id(build_id)


def _tags_of(row: Any, repository: Repository) -> list[str]:
    is_hashed = row.build_key_version == 3 and row.hash
    key = (
        row.hash
        if is_hashed
        else build_key(
            row.build_key_version,
            sha256=row.sha256,
            scheduled_on=row.scheduled_on,
            build_id=row.id,
            name=row.name,
            namespace=repository.namespace,
        )
    )
    tags = [str(row.id), key]
    if row.current_build_id == row.id:
        dated = row.environment.removeprefix(f"{repository.environment}-")
        tags.append(LATEST if row.environment == repository.environment else dated)
    if row.lock_hash is not None:
        tags.append(f"{LOCK}{row.lock_hash[:LOCK_DIGITS]}")
    return [tag for tag in tags if is_tag(tag)]


def _roots(repository: Repository) -> Select[*tuple[Any, ...]]:
    """The images of a repository's builds; one that was deleted has its own until it is collected,
    so that a pull that has begun can end."""
    return (
        select(Image.manifest_digest, Image.docker_digest)
        .join(Build, Build.id == Image.build_id)
        .join(Environment, Environment.id == Build.environment_id)
        .join(Namespace, Namespace.id == Environment.namespace_id)
        .where(*_named(repository))
    )


def _ways_to_blobs(repository: Repository) -> list[Select[*tuple[Any, ...]]]:
    """From the images of a repository to blobs: their own, their platforms', what is attached."""
    roots = _roots(repository)

    def images(column: ColumnElement[Any]) -> ColumnElement[bool]:
        return or_(column == Image.manifest_digest, column == Image.docker_digest)

    of_manifest = manifest_blobs.c.manifest_digest
    return [
        roots.join(manifest_blobs, images(of_manifest)),
        roots.join(manifest_children, images(manifest_children.c.parent_digest)).join(
            manifest_blobs, of_manifest == manifest_children.c.child_digest
        ),
        roots.join(Manifest, Manifest.subject == Image.manifest_digest).join(
            manifest_blobs, of_manifest == Manifest.digest
        ),
    ]


async def _is_readable(
    session: AsyncSession, repository: Repository, digests: Collection[str]
) -> bool:
    """Whether one of some manifests may be read through a repository.

    That is so if an image of the repository leads to it. The way is walked from its end, since that
    is short, however many images the repository has.
    """
    frontier, seen = set(digests), set(digests)
    while frontier:
        leads = or_(Image.manifest_digest.in_(frontier), Image.docker_digest.in_(frontier))
        if (await session.execute(_roots(repository).where(leads).limit(1))).first() is not None:
            return True
        parents = select(manifest_children.c.parent_digest).where(
            manifest_children.c.child_digest.in_(frontier)
        )
        subjects = select(Manifest.subject).where(
            Manifest.digest.in_(frontier), Manifest.subject.is_not(None)
        )
        frontier = {d for d in await session.scalars(parents.union_all(subjects)) if d} - seen
        seen |= frontier
    return False
