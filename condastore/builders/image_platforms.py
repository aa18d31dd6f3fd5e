"""The image of one platform: its layers, arranged, made as far as they are missing, and named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from condastore.builders.blobs import BlobKeeper
from condastore.builders.image_bases import Base
from condastore.builders.image_contents import Contents
from condastore.builders.image_settings import image_settings
from condastore.builders.jobs import FETCHES_AT_ONCE, connections
from condastore.builders.making import Listener
from condastore.builders.process import Child, Event
from condastore.configuration import CondaStore, server_platform
from condastore.faults import fault
from condastore.image_configuration import Images
from condastore.layers import (
    Weight,
    Writing,
    arranged,
    layer_key,
    package_hash,
    package_layers,
    python_key,
)
from condastore.lockfiles.records import Record
from condastore.manifests import LayerBlob, image_config, image_manifest
from condastore.prefixes import Store

HOST = "host"


@dataclass(frozen=True)
class PlatformImage:
    """The documents of an image for one platform, and its layers from the bottom up."""

    manifest: bytes
    config: bytes
    layers: list[LayerBlob]
    reused: set[str]
    """The digests of the layers that are recorded by their keys."""


@dataclass(frozen=True)
class _Arrangement:
    """The packages' layers from the bottom up, and their keys."""

    packages: list[list[Record]]
    indexes: list[list[int]]
    keys: list[str]
    compiles: bool
    has_python: bool


@dataclass(frozen=True)
class Platforms:
    """Makes the images of one build for its platforms."""

    config: CondaStore
    images: Images
    store: Store
    keeper: BlobKeeper
    directory: Path
    """Where children put blobs."""
    listener: Listener
    popularity: Mapping[str, int]
    sizes: Mapping[str, int]
    """Bytes of the server's platform's packages, by name."""
    left_out: Mapping[str, str]
    """The platforms that there is no image for, and why."""

    async def make(
        self, child: Child, contents: Contents, platform: str, base: Base
    ) -> PlatformImage:
        """Makes what is missing of one platform's image."""
        arrangement = self._arrange(contents, platform, base)
        known = await self.keeper.known_layers(arrangement.keys)
        result = await self._make_layers(child, contents, platform, base, arrangement, known)
        fault("image.layers_made")
        layers = [_named(layer, base.name) for layer in base.layers]
        for key, packages in zip(arrangement.keys, arrangement.packages, strict=True):
            layers.append(_named(known[key], _title(packages)))
        for part, title in (("libraries", "libraries of the host"), ("environment", "environment")):
            if result[part]:
                blob = await self.keeper.keep_file(result[part], self.directory)
                layers.append(_named(blob, title))
        facts = {
            **result,
            "bytecode": arrangement.compiles or not arrangement.has_python,
            "left_out": self.left_out,
        }
        settings = image_settings(self.images, contents, base, facts)
        config = image_config(platform, layers, settings, base.config)
        reused = {layer.digest for layer in (*base.layers, *known.values())}
        return PlatformImage(image_manifest(config, layers), config, layers, reused)

    def _arrange(self, contents: Contents, platform: str, base: Base) -> _Arrangement:
        records = contents.packages[platform]
        budget = package_layers(self.images.layer_budget, len(base.layers))
        indexes = arranged(records, self._weights(contents), budget)
        packages = [[records[index] for index in layer] for layer in indexes]
        compiles = _minor(records) == _minor(contents.packages[server_platform()]) is not None
        python = python_key(records, bytecode=compiles)
        writing = Writing(self.images.prefix, self.images.compression, self.images.level)
        keys = [layer_key(layer, python, writing) for layer in packages]
        return _Arrangement(packages, indexes, keys, compiles, python is not None)

    def _weights(self, contents: Contents) -> dict[str, Weight]:
        """Returns what is known of the server's packages, which goes for other platforms too."""
        return {
            record["name"]: Weight(
                self.popularity.get(package_hash(record), 0),
                self.sizes.get(record["name"], 0),
            )
            for record in contents.packages[server_platform()]
        }

    async def _make_layers(
        self,
        child: Child,
        contents: Contents,
        platform: str,
        base: Base,
        arrangement: _Arrangement,
        known: dict[str, LayerBlob],
    ) -> dict[str, Any]:
        """Adds the layers that are not known, kept as soon as each is made."""

        async def listen(event: Event) -> None:
            if event["t"] == "layer":
                key = event["key"]
                known[key] = await self.keeper.keep_layer(key, event, self.directory)
            else:
                await self.listener(event)

        layers = [
            {"key": key, "packages": indexes, "known": key in known}
            for key, indexes in zip(arrangement.keys, arrangement.indexes, strict=True)
        ]
        job = self._job(contents, platform, base, arrangement.compiles)
        return await child.do({**job, "layers": layers}, listen)

    def _job(self, contents: Contents, platform: str, base: Base, compiles: bool) -> dict[str, Any]:
        pip = contents.pip.get(platform)
        prefix = str(contents.prefix)
        return {
            "v": 1,
            "job": "image",
            "packages_dir": str(self.store.packages),
            "blobs_dir": str(self.directory),
            "prefix": self.images.prefix,
            "records": contents.packages[platform],
            "codec": self.images.compression,
            "level": self.images.level,
            "python_prefix": prefix if compiles else None,
            "pip": {"prefix": prefix, "names": [record["name"] for record in pip]} if pip else None,
            "variables": contents.variables,
            "host_libraries": self.images.base == HOST and self.images.host_libraries,
            "glibc": base.glibc,
            "fetch_concurrency": FETCHES_AT_ONCE,
            **connections(self.config),
            "limits": {
                "package_bytes": self.config.max_package_bytes,
                "package_files": self.config.max_package_files,
                "memory_bytes": self.config.max_build_memory,
                "disk_free_bytes": self.config.min_free_bytes,
            },
        }


def _minor(records: Sequence[Record]) -> str | None:
    python = python_key(records, bytecode=True)
    return None if python is None else str(python[0])


def _title(packages: Sequence[Record]) -> str:
    if len(packages) == 1:
        return f"{packages[0]['name']} {packages[0]['version']}"
    return f"{len(packages)} packages"


def _named(layer: LayerBlob, title: str) -> LayerBlob:
    return replace(layer, created_by=title)
