"""What images stand on: found once by a child, and kept with its layers like those of packages."""

import asyncio
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from condastore.builders.blobs import BlobKeeper
from condastore.builders.jobs import connections
from condastore.builders.making import Listener
from condastore.builders.process import Child
from condastore.configuration import CondaStore
from condastore.database import Database
from condastore.image_configuration import Images
from condastore.manifests import LayerBlob
from condastore.oci import canonical
from condastore.tables import KeyValueStore


@dataclass(frozen=True)
class Base:
    """What is below the packages of an image."""

    name: str
    layers: list[LayerBlob]
    config: dict[str, Any]
    glibc: str | None

    @property
    def key(self) -> str:
        """A hash of all of it."""
        content = [self.name, [layer.digest for layer in self.layers], self.config]
        return hashlib.sha256(canonical(content)).hexdigest()

    @property
    def path(self) -> str | None:
        """Its PATH, if it sets one."""
        for entry in self.config.get("config", {}).get("Env") or ():
            if entry.startswith("PATH="):
                return str(entry.removeprefix("PATH="))
        return None


class Bases:
    """The bases that this daemon knows."""

    def __init__(
        self, config: CondaStore, images: Images, database: Database, keeper: BlobKeeper
    ) -> None:
        self._config = config
        self._images = images
        self._database = database
        self._keeper = keeper

    async def known(self, platform: str, *, keep: bool = True) -> Base | None:
        """Returns the base for a platform, if it is there and still what it was made of.

        With `keep`, its layers stay for as long as anybody needs.
        """
        async with self._database.read() as session:
            row = await session.scalar(select(KeyValueStore).filter_by(**self._place(platform)))
        if row is None or not await asyncio.to_thread(_are_unchanged, row.value["sources"]):
            return None
        value = row.value
        find = self._keeper.known_layers if keep else self._keeper.seen_layers
        layers = await find(value["layers"])
        if set(value["layers"]) != layers.keys():
            return None
        ordered = [layers[key] for key in value["layers"]]
        return Base(value["name"], ordered, value["config"], value["glibc"])

    async def find(self, child: Child, platform: str, directory: Path, listener: Listener) -> Base:
        """Returns the base for a platform, made by a child; `directory` is for its blobs."""
        job = {
            "v": 1,
            "job": "base",
            "reference": self._images.base,
            "platform": platform,
            "blobs_dir": str(directory),
            "codec": self._images.compression,
            "level": self._images.level,
            **connections(self._config),
        }
        result = await child.do(job, listener)
        keys = []
        for layer in result["layers"]:
            key = hashlib.sha256(f"base {layer['digest']}".encode()).hexdigest()
            await self._keeper.keep_layer(key, layer, directory)
            keys.append(key)
        value = {
            "layers": keys,
            "config": result["config"],
            "glibc": result["glibc"],
            "name": result["name"],
            "sources": await asyncio.to_thread(_states, result["sources"]),
        }
        async with self._database.write() as session:
            place = self._place(platform)
            row = await session.scalar(select(KeyValueStore).filter_by(**place))
            if row is None:
                session.add(KeyValueStore(**place, value=value))
            else:
                row.value = value
        found = await self.known(platform)
        assert found is not None
        return found

    def _place(self, platform: str) -> dict[str, str]:
        images = self._images
        what = [images.base, platform, images.compression, str(images.level)]
        digest = hashlib.sha256(canonical(what)).hexdigest()
        return {"prefix": "image", "key": f"base-{platform}-{digest[:32]}"}


def _states(paths: Sequence[str]) -> list[list[Any]]:
    return [[path, *_state(path)] for path in paths]


def _are_unchanged(states: Sequence[Sequence[Any]]) -> bool:
    return all(_state(path) == list(state) for path, *state in states)


def _state(path: str) -> list[int]:
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]
