"""What is attached to an image: bills of materials, the lockfile and the log of its build.

Clients find them as the image's referrers. Each is a manifest of its own, with the image as its
subject. What is of one build is marked with it, and is removed as soon as a build of another
namespace has the same image.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from condastore.builders.image_contents import Contents
from condastore.builders.making import Listener
from condastore.builders.process import Child
from condastore.manifests import CREATED, referrer
from condastore.prefixes import Store
from condastore.storage import Storage

CYCLONEDX = "application/vnd.cyclonedx+json"
SPDX = "application/spdx+json"
LOCKFILE = "application/vnd.condastore.lockfile.v1+json"
LOG = "application/vnd.condastore.log.v1"
OF_ONE_BUILD = (LOCKFILE, LOG)
BUILD = "org.condastore.build"
# A log is attached for who wants to see how an image came to be; its end says that best.
LOG_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Attachment:
    """Some bytes to attach."""

    artifact_type: str
    media_type: str
    title: str
    data: bytes
    build_id: int | None = None

    def manifest(self, subject: bytes) -> bytes:
        """Returns the manifest that attaches it to an image."""
        annotations = {
            "org.opencontainers.image.created": CREATED,
            "org.opencontainers.image.title": self.title,
        }
        if self.build_id is not None:
            annotations[BUILD] = str(self.build_id)
        return referrer(subject, self.artifact_type, self.media_type, self.data, annotations)


async def inventories(
    child: Child, contents: Contents, store: Store, directory: Path, listener: Listener
) -> list[Attachment]:
    """Returns the bills of materials of an environment, written by a child."""
    job = {
        "v": 1,
        "job": "inventory",
        "name": contents.lock_hash,
        "packages_dir": str(store.packages),
        "output_dir": str(directory),
        "packages": contents.packages,
        "pip": contents.pip,
    }
    result = await child.do(job, listener)
    kinds = (("cyclonedx", CYCLONEDX), ("spdx", SPDX))
    return [
        Attachment(kind, kind, result[name], await _read(directory / result[name]))
        for name, kind in kinds
    ]


async def records_of(contents: Contents, storage: Storage) -> Sequence[Attachment]:
    """Returns the lockfile and the log of a build, as far as they are stored."""
    found = []
    for kind, media_type, title, key in (
        (LOCKFILE, "application/json", "conda-lock.json", contents.lockfile_key),
        (LOG, "text/plain", "build.log", contents.log_key),
    ):
        size = await storage.size(key) if key is not None else None
        if key is not None and size is not None:
            start = max(0, size - LOG_BYTES) if kind == LOG else 0
            data = b"".join([piece async for piece in storage.read(key, start)])
            found.append(Attachment(kind, media_type, title, data, contents.build_id))
    return found


async def _read(path: Path) -> bytes:
    return await asyncio.to_thread(path.read_bytes)
