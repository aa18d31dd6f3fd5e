"""An image as a base: which one of an index, and its layers, checked, as this server keeps them."""

import hashlib
import json
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from condastore.engine.events import EngineError
from condastore.engine.image.codecs import GZIP, ZSTD
from condastore.engine.image.tarball import LayerStream

READ_BYTES = 1 << 18
# What clients take as well.
MANIFEST_BYTES = 4 << 20
_DIGEST = re.compile("sha256:[0-9a-f]{64}")
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_AS_IS = {GZIP: GZIP, ZSTD: ZSTD, _DOCKER_LAYER: GZIP}
_PLAIN = {
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
}
_ARCHITECTURES = {
    "linux-32": "386",
    "linux-64": "amd64",
    "linux-aarch64": "arm64",
    "linux-armv6l": "arm",
    "linux-armv7l": "arm",
    "linux-ppc64le": "ppc64le",
    "linux-riscv64": "riscv64",
    "linux-s390x": "s390x",
}


def manifest_for(index: Any, platform: str) -> str:
    """The digest of the image for a platform in an index."""
    architecture = _ARCHITECTURES.get(platform)
    found = []
    for entry in index["manifests"]:
        of = entry.get("platform")
        if of is None and len(index["manifests"]) == 1:
            return str(entry["digest"])
        if of and (of.get("os"), of.get("architecture")) == ("linux", architecture):
            found.append(str(entry["digest"]))
    if not found:
        raise EngineError("spec", f"The base of images has none for {platform}.")
    return found[0]


def check_platform(config: Any, platform: str) -> None:
    """Refuses an image that is for another platform."""
    if config.get("architecture") != _ARCHITECTURES.get(platform):
        raise EngineError(
            "spec",
            f"The base of images is for {config.get('architecture')} and not for {platform}.",
        )


def layer_of(
    descriptor: Any, diff_id: str, pieces: Iterator[bytes], codec: str, level: int, directory: Path
) -> dict[str, Any]:
    """Keeps a layer that comes in pieces; its digest must be what its descriptor says."""
    media_type = descriptor["mediaType"]
    checked = checked_pieces(pieces, descriptor["digest"], descriptor.get("size"))
    if media_type in _PLAIN:
        return packed_layer(checked, diff_id, codec, level, directory)
    if media_type not in _AS_IS:
        raise EngineError("spec", f"The base of images has a layer of the kind {media_type!r}.")
    size = _store(checked, directory, descriptor["digest"])
    return {
        "digest": descriptor["digest"],
        "diff_id": diff_id,
        "size": size,
        "media_type": _AS_IS[media_type],
    }


def packed_layer(
    pieces: Iterable[bytes], diff_id: str, codec: str, level: int, directory: Path
) -> dict[str, Any]:
    """Keeps a layer whose tar comes in pieces, compressed as the server's own layers are."""
    with LayerStream(codec, level, directory) as stream:
        for piece in pieces:
            stream.write(piece)
        blob = stream.finish()
    if blob.diff_id != diff_id:
        raise EngineError(
            "hash", f"A layer of the base of images is {blob.diff_id}, not {diff_id}."
        )
    layer = {"digest": blob.digest, "diff_id": diff_id, "size": blob.size}
    return {**layer, "media_type": blob.media_type}


def checked_pieces(
    pieces: Iterable[bytes], digest: str, size: int | None = None
) -> Iterator[bytes]:
    """The same pieces; fails at their end if they are not what the digest says."""
    found, count = hashlib.sha256(), 0
    for piece in pieces:
        found.update(piece)
        count += len(piece)
        if size is not None and count > size:
            raise EngineError(
                "hash", f"{digest} of the base of images is larger than {size} bytes."
            )
        yield piece
    if f"sha256:{found.hexdigest()}" != digest:
        raise EngineError("hash", f"{digest} of the base of images has another content.")


def proper(digest: Any) -> str:
    """A digest as it may be part of a path."""
    if not _DIGEST.fullmatch(str(digest)):
        raise EngineError("spec", f"The base of images has {str(digest)[:80]!r} for a digest.")
    return str(digest)


def checked_json(pieces: Iterable[bytes], digest: str) -> Any:
    """A document whose digest is known."""
    data = bytearray()
    for piece in checked_pieces(pieces, digest, MANIFEST_BYTES):
        data += piece
    return json.loads(data)


def read_pieces(opened: BinaryIO) -> Iterator[bytes]:
    """What is in a file."""
    while piece := opened.read(READ_BYTES):
        yield piece


def unpacked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """A tar that comes in pieces, which may be compressed by gzip."""
    first = next(pieces, b"")
    if not first.startswith(b"\x1f\x8b"):
        yield first
        yield from pieces
        return
    inflater = zlib.decompressobj(31)
    yield inflater.decompress(first)
    for piece in pieces:
        yield inflater.decompress(piece)
    yield inflater.flush()


def _store(pieces: Iterable[bytes], directory: Path, digest: str) -> int:
    descriptor, name = tempfile.mkstemp(prefix=".base-", dir=directory)
    size = 0
    try:
        with open(descriptor, "wb") as output:
            for piece in pieces:
                size += output.write(piece)
            os.fchmod(descriptor, 0o644)
        os.rename(name, directory / digest.partition(":")[2])
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return size
