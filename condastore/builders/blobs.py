"""Keeps what children make as blobs: the bytes are in the storage before a row says so."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from condastore.database import Database
from condastore.faults import fault
from condastore.image_rows import add_layer, find_layers, reuse_layers, sizes_of
from condastore.manifests import LayerBlob
from condastore.oci import blob_key, digest_of
from condastore.storage import Storage
from condastore.tables import Layer


class BlobKeeper:
    """Puts blobs into the storage, and layers into the database."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage

    async def known_layers(self, keys: Collection[str]) -> dict[str, LayerBlob]:
        """Returns the layers that are kept, by key; they stay for as long as anybody needs."""

        async def reuse(session: AsyncSession) -> dict[str, LayerBlob]:
            return await _blobs(session, await reuse_layers(session, keys))

        return await self._database.insist(reuse)

    async def seen_layers(self, keys: Collection[str]) -> dict[str, LayerBlob]:
        """Returns the same, but they may go when nobody else needs them."""
        async with self._database.read() as session:
            return await _blobs(session, await find_layers(session, keys))

    async def keep_layer(self, key: str, made: Mapping[str, Any], directory: Path) -> LayerBlob:
        """Keeps a layer that a child has made in a directory."""
        blob = await self.keep_file(made, directory)
        fault("image.layer_stored")
        await self._database.insist(
            lambda session: add_layer(
                session,
                key,
                diff_id=blob.diff_id,
                media_type=blob.media_type,
                digest=blob.digest,
                size=blob.size,
            )
        )
        fault("image.layer_recorded")
        return blob

    async def keep_file(self, made: Mapping[str, Any], directory: Path) -> LayerBlob:
        """Stores a blob that a child has made in a directory, under the name of its digest."""
        digest = str(made["digest"])
        await self._storage.move_file(blob_key(digest), directory / digest.partition(":")[2])
        return LayerBlob(digest, made["size"], made["media_type"], made["diff_id"])

    async def keep_bytes(self, data: bytes) -> str:
        """Stores some bytes as a blob, and returns its digest."""
        digest = digest_of(data)
        await self._storage.put_bytes(blob_key(digest), data)
        return digest


async def _blobs(session: AsyncSession, layers: Mapping[str, Layer]) -> dict[str, LayerBlob]:
    sizes = await sizes_of(session, {layer.blob_digest for layer in layers.values()})
    return {
        key: LayerBlob(layer.blob_digest, sizes[layer.blob_digest], layer.media_type, layer.diff_id)
        for key, layer in layers.items()
        # Who only looks may see a layer whose blob went a moment later.
        if layer.blob_digest in sizes
    }
