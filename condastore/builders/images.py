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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from condastore.build_rows import add_artifact, find_build
from condastore.builders.blobs import BlobKeeper
from condastore.builders.image_bases import Base, Bases
from condastore.builders.image_contents import Contents, contents_of
from condastore.builders.image_referrers import Attachment, inventories, records_of
from condastore.builders.image_settings import image_settings, settings_of
from condastore.builders.jobs import FETCHES_AT_ONCE
from condastore.builders.making import Listener, Making
from condastore.builders.popularity import popularity
from condastore.builders.process import Child, Event, engine
from condastore.builds import ArtifactType
from condastore.configuration import CondaStore, Images, server_platform
from condastore.database import Database
from condastore.errors import BuildError, NotFound
from condastore.faults import fault
from condastore.image_rows import add_manifest, find_image, keep_blob, record_image, sizes_of
from condastore.layers import Weight, Writing, arranged, layer_key, package_hash, python_key
from condastore.manifests import EMPTY_BLOB, LayerBlob, image_config, image_index, image_manifest
from condastore.oci import digest_of
from condastore.pool import GiveUp, Retry, Run, Stop
from condastore.prefixes import Store
from condastore.storage import Storage
from condastore.tasks import Claim

KIND = "image"
HOST = "host"
# The environment's and the libraries' layers come on top, and a Dockerfile may add its own.
MOST_LAYERS = 112


@dataclass(frozen=True)
class _Platform:
    """The image of one platform: its manifest, its configuration, and what it is made of."""

    manifest: bytes
    config: bytes
    layers: list[LayerBlob]
    reused: set[str]
    """The digests of those that are recorded already."""


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
            base = await self._bases.known(platform)
            if base is None:
                return None
            bases[platform] = base
        key = self._key(contents, bases)
        async with self._database.write() as session:
            image = await find_image(session, key)
            if image is None:
                return None
            digest = image.manifest_digest
            await self._record(session, contents, key, digest)
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
                made = {
                    platform: await self._make_platform(
                        child, contents, platform, base, directory, listener
                    )
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

    async def _make_platform(
        self,
        child: Child,
        contents: Contents,
        platform: str,
        base: Base,
        directory: Path,
        listener: Listener,
    ) -> _Platform:
        """Makes what is missing of one platform's image."""
        records = contents.packages[platform]
        weights = await self._weights(contents)
        arrangement = arranged(records, weights, self._budget(base))
        compiles = _same_python(contents, platform)
        python = python_key(records, bytecode=compiles)
        writing = Writing(self._images.prefix, self._images.compression, self._images.level)
        keys = [
            layer_key([records[index] for index in layer], python, writing) for layer in arrangement
        ]
        known = await self._keeper.known_layers(keys)

        async def listen(event: Event) -> None:
            if event["t"] == "layer":
                known[event["key"]] = await self._keeper.keep_layer(event["key"], event, directory)
            else:
                await listener(event)

        job = {
            **self._job(contents, platform, base, compiles, directory),
            "layers": [
                {"key": key, "packages": layer, "known": key in known}
                for key, layer in zip(keys, arrangement, strict=True)
            ],
        }
        result = await child.do(job, listen)
        fault("image.layers_made")
        last = [part for part in (result["libraries"], result["environment"]) if part]
        layers = [
            *base.layers,
            *(known[key] for key in keys),
            *[await self._keeper.keep_file(part, directory) for part in last],
        ]
        names = [
            *([base.name] * len(base.layers)),
            *(_named([records[index] for index in layer]) for layer in arrangement),
            *(["libraries of the host"] if result["libraries"] else []),
            "environment",
        ]
        named = [
            LayerBlob(layer.digest, layer.size, layer.media_type, layer.diff_id, name)
            for layer, name in zip(layers, names, strict=True)
        ]
        facts = {**result, "bytecode": compiles or python is None}
        facts["left_out"] = self._left_out(contents)
        settings = image_settings(self._images, contents, base, facts)
        config = image_config(platform, named, settings, base.config)
        reused = {layer.digest for layer in (*base.layers, *known.values())}
        return _Platform(image_manifest(config, named), config, named, reused)

    def _job(
        self, contents: Contents, platform: str, base: Base, compiles: bool, directory: Path
    ) -> dict[str, Any]:
        pip = contents.pip.get(platform)
        prefix = str(contents.prefix)
        return {
            "v": 1,
            "job": "image",
            "packages_dir": str(self._store.packages),
            "blobs_dir": str(directory),
            "prefix": self._images.prefix,
            "records": contents.packages[platform],
            "codec": self._images.compression,
            "level": self._images.level,
            "python_prefix": prefix if compiles else None,
            "pip": {"prefix": prefix, "names": [record["name"] for record in pip]} if pip else None,
            "variables": contents.variables,
            "host_libraries": self._images.base == HOST and self._images.host_libraries,
            "glibc": base.glibc,
            "fetch_concurrency": FETCHES_AT_ONCE,
            "credentials": self._config.channel_credentials,
            "limits": {
                "package_bytes": self._config.max_package_bytes,
                "package_files": self._config.max_package_files,
                "memory_bytes": self._config.max_build_memory,
                "disk_free_bytes": self._config.min_free_bytes,
            },
        }

    async def _publish(
        self,
        contents: Contents,
        bases: Mapping[str, Base],
        made: Mapping[str, _Platform],
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
        async with self._database.write() as session:
            for data, digest in blobs.items():
                await keep_blob(session, digest, len(data))
            await self._keep_layers(session, made)
            digests = [await add_manifest(session, body) for body in bodies]
            await self._record(session, contents, self._key(contents, bases), digests[-1])
        fault("image.recorded")
        return digests[-1]

    async def _keep_layers(self, session: AsyncSession, made: Mapping[str, _Platform]) -> None:
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

    def _budget(self, base: Base) -> int:
        return max(2, min(self._images.layer_budget, MOST_LAYERS - len(base.layers)))

    async def _weights(self, contents: Contents) -> dict[str, Weight]:
        builds = await popularity(self._database)
        records = contents.packages[server_platform()]
        return {
            record["name"]: Weight(
                builds.get(package_hash(record), 0), contents.sizes.get(record["name"], 0)
            )
            for record in records
        }


def _same_python(contents: Contents, platform: str) -> bool:
    """Whether the server's Python makes the byte code of a platform's."""
    wanted = python_key(contents.packages[platform], bytecode=True)
    return wanted is not None and wanted[0] == _minor(contents)


def _minor(contents: Contents) -> str | None:
    found = python_key(contents.packages[server_platform()], bytecode=True)
    return None if found is None else str(found[0])


def _named(records: list[dict[str, Any]]) -> str:
    if len(records) == 1:
        return f"{records[0]['name']} {records[0]['version']}"
    return f"{len(records)} packages"
