"""Container images of builds, made by tasks after them.

An image is a function of its key: the packages, the base, the settings. So one that exists is only
recorded for another build, and of a new one only the layers are made that no image had before. The
bytes of a blob are in the storage before anything says so, and all rows of an image appear in one
transaction: what a crash leaves is never served, and is made use of by the next attempt.
"""

import asyncio
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from condastore.build_rows import add_artifact, find_build
from condastore.builders.blobs import BlobKeeper
from condastore.builders.image_bases import Base, Bases
from condastore.builders.image_contents import Contents, contents_of, package_sizes
from condastore.builders.image_platforms import HOST, PlatformImage, Platforms
from condastore.builders.image_referrers import (
    OF_ONE_BUILD,
    Attachment,
    inventories,
    records_of,
)
from condastore.builders.image_settings import settings_of
from condastore.builders.making import Listener, Making
from condastore.builders.popularity import popularity
from condastore.builders.process import Child, engine
from condastore.builds import ArtifactType
from condastore.configuration import CondaStore, server_platform
from condastore.database import Database
from condastore.errors import BuildError, NotFound
from condastore.faults import fault
from condastore.image_configuration import Images
from condastore.image_rows import (
    add_manifest,
    detach,
    environments_with,
    find_image,
    keep_blob,
    record_image,
    sizes_of,
)
from condastore.manifests import EMPTY_BLOB, image_index
from condastore.oci import digest_of
from condastore.pool import GiveUp, Retry, Run, Stop
from condastore.prefixes import Store
from condastore.storage import Storage
from condastore.tasks import Claim

KIND = "image"


class ImageMaker:
    """Runs the tasks of kind `image`."""

    def __init__(
        self,
        config: CondaStore,
        images: Images,
        database: Database,
        store: Store,
        storage: Storage,
        making: Making,
    ) -> None:
        self._config = config
        self._images = images
        self._database = database
        self._store = store
        self._storage = storage
        self._making = making
        self._keeper = BlobKeeper(database, storage)
        self._bases = Bases(config, images, database, self._keeper)

    async def run(self, run: Run) -> dict[str, Any]:
        """Makes the image of a build, or records the one that there is already."""
        assert run.claim.build_id is not None
        contents = await contents_of(self._database, self._storage, run.claim.build_id)
        listener = self._making.begin(contents.build_id, KIND)
        directory = self._store.scratch / uuid.uuid4().hex
        try:
            digest = await self._reuse(contents) or await self._make(contents, directory, listener)
        except BuildError as error:
            raise GiveUp(str(error)) from error
        finally:
            self._making.end(contents.build_id, KIND)
        return {"digest": digest}

    async def abandon(self, claim: Claim, why: Stop | str) -> None:
        """Layers that were made stay for the next image; nothing else is left."""

    # One that is there

    async def _reuse(self, contents: Contents) -> str | None:
        """Records an image that is made of the same things, if there is one."""
        bases = {}
        for platform in self._platforms(contents):
            # The image keeps them, if it is there.
            base = await self._bases.known(platform, keep=False)
            if base is None:
                return None
            bases[platform] = base
        key = self._key(contents, bases)

        async def record(session: AsyncSession) -> str | None:
            image = await find_image(session, key)
            if image is None:
                return None
            await self._record(session, contents, key, image.manifest_digest)
            return image.manifest_digest

        digest = await self._database.insist(record)
        if digest is not None:
            fault("image.reused")
        return digest

    # A new one

    async def _make(self, contents: Contents, directory: Path, listener: Listener) -> str:
        await asyncio.to_thread(directory.mkdir)
        try:
            memory = str(self._config.max_build_memory)
            ready = ("--role", KIND, "--memory", memory)
            async with engine(self._store.scratch, *ready) as child:
                bases = await self._find_bases(child, contents, directory, listener)
                platforms = Platforms(
                    self._config,
                    self._images,
                    self._store,
                    self._keeper,
                    directory,
                    listener,
                    await popularity(self._database),
                    await package_sizes(self._database, contents.build_id),
                    self._left_out(contents),
                )
                made = {
                    platform: await platforms.make(child, contents, platform, base)
                    for platform, base in bases.items()
                }
                attached = await inventories(child, contents, self._store, directory, listener)
            fault("image.made")
            attached += await records_of(contents, self._storage)
            return await self._publish(contents, bases, made, attached)
        finally:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    async def _find_bases(
        self, child: Child, contents: Contents, directory: Path, listener: Listener
    ) -> dict[str, Base]:
        bases = {}
        for platform in self._platforms(contents):
            base = await self._bases.known(platform)
            bases[platform] = base or await self._bases.find(child, platform, directory, listener)
        return bases

    async def _publish(
        self,
        contents: Contents,
        bases: Mapping[str, Base],
        made: Mapping[str, PlatformImage],
        attached: Sequence[Attachment],
    ) -> str:
        """Stores the documents of an image, and makes it visible."""
        blobs = {data: digest_of(data) for data in (EMPTY_BLOB, *(each.data for each in attached))}
        for each in made.values():
            blobs[each.config] = digest_of(each.config)
        for data in blobs:
            await self._keeper.keep_bytes(data)
        fault("image.stored")
        manifests = {platform: each.manifest for platform, each in made.items()}
        bodies = list(manifests.values())
        if len(bodies) > 1:
            bodies.append(image_index(manifests))
        bodies = [*(each.manifest(bodies[-1]) for each in attached), *bodies]

        async def record(session: AsyncSession) -> str:
            # What a build left that has the image no more is nobody else's business.
            if not await environments_with(session, image := digest_of(bodies[-1])):
                await detach(session, image, OF_ONE_BUILD)
            for data, digest in blobs.items():
                await keep_blob(session, digest, len(data))
            await self._keep_layers(session, made)
            digests = [await add_manifest(session, body) for body in bodies]
            await self._record(session, contents, self._key(contents, bases), digests[-1])
            return digests[-1]

        digest = await self._database.insist(record)
        fault("image.recorded")
        return digest

    async def _keep_layers(self, session: AsyncSession, made: Mapping[str, PlatformImage]) -> None:
        recorded = await sizes_of(session, {d for each in made.values() for d in each.reused})
        for each in made.values():
            if each.reused - recorded.keys():
                raise Retry("a layer was removed meanwhile")
            for layer in each.layers:
                await keep_blob(session, layer.digest, layer.size)

    async def _record(
        self, session: AsyncSession, contents: Contents, key: str, digest: str
    ) -> None:
        with suppress(NotFound):
            build = await find_build(session, contents.build_id)
            if build.deleted_on is not None:
                raise GiveUp(f"build {build.id} was deleted")
            await record_image(
                session, build.id, key=key, lock_hash=contents.lock_hash, manifest_digest=digest
            )
            add_artifact(build, ArtifactType.DOCKER_MANIFEST, digest)
            # Whoever may read an image may read what is attached to it.
            if len(await environments_with(session, digest)) > 1:
                await detach(session, digest, OF_ONE_BUILD)

    # What it depends on

    def _platforms(self, contents: Contents) -> list[str]:
        """Returns the platforms that images are made for."""
        here = server_platform()
        if here not in contents.packages:
            raise GiveUp(f"there are no container images for {here}")
        return [p for p in contents.packages if p not in self._left_out(contents)]

    def _left_out(self, contents: Contents) -> dict[str, str]:
        """Returns the platforms of the lockfile that images are not made for, and why."""
        foreign = [platform for platform in contents.packages if platform != server_platform()]
        if self._images.base == HOST:
            return dict.fromkeys(foreign, "the base is the server's")
        return {p: "it has pip packages" for p in foreign if p in contents.pip}

    def _key(self, contents: Contents, bases: Mapping[str, Base]) -> str:
        settings = {
            **settings_of(self._images),
            "bases": {platform: base.key for platform, base in bases.items()},
        }
        return contents.image_key(settings)
