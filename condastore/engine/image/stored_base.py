"""A base that is a file of this machine: an OCI layout, or an archive of OCI or of docker."""

import json
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from condastore.engine.events import EngineError
from condastore.engine.image.base_images import (
    check_platform,
    checked_json,
    layer_of,
    manifest_for,
    packed_layer,
    proper,
    read_pieces,
    unpacked,
)
from condastore.engine.jobs import BaseJob


class _Files(Protocol):
    """The files of a layout or an archive."""

    def open(self, name: str) -> BinaryIO:
        """One of them. Raises `KeyError`."""


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, name: str) -> BinaryIO:
        try:
            return (self._path / name).open("rb")
        except FileNotFoundError:
            raise KeyError(name) from None


class _Archive:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive

    def open(self, name: str) -> BinaryIO:
        try:
            found = self._archive.extractfile(name)
        except KeyError:
            found = self._archive.extractfile(f"./{name}")
        if found is None:
            raise KeyError(name)
        return found  # type: ignore[return-value]


def stored_base(job: BaseJob, directory: Path) -> dict[str, Any]:
    """Takes the layers of the image in a file."""
    path = Path(job["reference"])
    with ExitStack() as stack:
        try:
            files: _Files
            if path.is_dir():
                files = _Folder(path)
            else:
                files = _Archive(stack.enter_context(tarfile.open(path)))
            found = _layers(files, job, directory)
        except (OSError, tarfile.TarError) as error:
            raise EngineError(
                "spec", f"The base of images, {path}, can't be read: {error}"
            ) from None
        except (KeyError, ValueError, TypeError) as error:
            raise EngineError(
                "spec", f"{path} is no OCI layout, oci-archive or docker-archive: {error!r}"
            ) from None
    # What it was made of is one file, or for a layout its index.
    source = path / "index.json" if path.is_dir() else path
    return {**found, "glibc": None, "sources": [str(source)], "name": path.name}


def _layers(files: _Files, job: BaseJob, directory: Path) -> dict[str, Any]:
    try:
        index = _document(files, "index.json")
    except KeyError:
        return _docker_layers(files, job, directory)
    return _oci_layers(files, index, job, directory)


def _oci_layers(files: _Files, index: Any, job: BaseJob, directory: Path) -> dict[str, Any]:
    document = index
    while "manifests" in document:
        digest = manifest_for(document, job["platform"])
        document = checked_json(_blob(files, digest), digest)
    config = checked_json(_blob(files, document["config"]["digest"]), document["config"]["digest"])
    check_platform(config, job["platform"])
    layers = [
        layer_of(
            descriptor,
            diff_id,
            _blob(files, descriptor["digest"]),
            job["codec"],
            job["level"],
            directory,
        )
        for descriptor, diff_id in zip(
            document["layers"], config["rootfs"]["diff_ids"], strict=True
        )
    ]
    return {"layers": layers, "config": config}


def _docker_layers(files: _Files, job: BaseJob, directory: Path) -> dict[str, Any]:
    image = _document(files, "manifest.json")[0]
    config = _document(files, image["Config"])
    check_platform(config, job["platform"])
    layers = []
    for name, diff_id in zip(image["Layers"], config["rootfs"]["diff_ids"], strict=True):
        with files.open(name) as opened:
            pieces = unpacked(read_pieces(opened))
            layers.append(packed_layer(pieces, diff_id, job["codec"], job["level"], directory))
    return {"layers": layers, "config": config}


def _document(files: _Files, name: str) -> Any:
    with files.open(name) as opened:
        return json.load(opened)


def _blob(files: _Files, digest: str) -> Iterator[bytes]:
    with files.open(f"blobs/{proper(digest).replace(':', '/')}") as opened:
        yield from read_pieces(opened)
