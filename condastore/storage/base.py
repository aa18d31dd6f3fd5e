"""What every storage can do."""

from abc import abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from traitlets.config import LoggingConfigurable

from condastore.files import fitting


@dataclass(frozen=True)
class Stored:
    """What is known of what is under a key."""

    size: int
    """In bytes."""
    version: str
    """Another one when the bytes are others."""


class Storage(LoggingConfigurable):
    """Keeps artifacts under keys such as `logs/0e4b7b86-1795391714-2-simple.log`.

    Keys are made by condastore from build keys, never from a user's text alone.
    """

    is_remote = False
    """Whether it may be away while this machine is well."""

    @property
    def waiting(self) -> int:
        """How many files wait on this machine's disk until the storage takes them."""
        return 0

    def waits(self, key: str) -> bool:
        """Whether what is stored under a key waits on this machine's disk."""
        del key
        return False

    async def open(self) -> None:
        """Prepares for use, and removes what a crash left half written.

        Raises `ConfigurationError`.
        """

    async def run(self) -> None:
        """Does what is to be done beside the requests, until it is cancelled."""

    async def close(self) -> None:
        """Ends connections."""

    @abstractmethod
    async def put_file(self, key: str, path: Path) -> None:
        """Stores a copy of a file, durably; replaces what was there."""

    @abstractmethod
    async def move_file(self, key: str, path: Path) -> None:
        """Stores a file, durably, and takes it away from where it was."""

    @abstractmethod
    async def put_bytes(self, key: str, data: bytes) -> None:
        """Stores bytes, durably; replaces what was there."""

    @abstractmethod
    async def stat(self, key: str) -> Stored | None:
        """Returns what is known of what is under a key; None when there is nothing."""

    async def size(self, key: str) -> int | None:
        """Returns the bytes under a key; None when there is nothing."""
        found = await self.stat(key)
        return None if found is None else found.size

    @abstractmethod
    def read(self, key: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yields what is under a key from a byte offset on, at most `length` bytes of it.

        What it has begun to read it reads to the end, also when the key is deleted meanwhile.
        Raises `FileNotFoundError`.
        """

    async def url(self, key: str, *, media_type: str, filename: str | None) -> str | None:
        """Returns where a client can get what is under a key itself, for some minutes, without
        credentials; None when it can only be read through us."""
        del key, media_type, filename
        return None

    @abstractmethod
    def ages(self, folder: str) -> AsyncIterator[tuple[str, float]]:
        """Yields each key below a folder such as `blobs`, with its age in seconds."""

    @abstractmethod
    async def delete_older(self, key: str, age_s: float) -> int:
        """Removes what is under a key, unless it was written less than `age_s` seconds ago.

        Returns the bytes that came free. What is written at the same moment stays.
        """

    @abstractmethod
    async def delete(self, key: str) -> int:
        """Removes what is under a key and returns the bytes that came free; 0 without it."""


def key_parts(key: str) -> list[str]:
    """Returns the names in a key, each such that a file system takes it. Raises `ValueError`."""
    parts = key.split("/")
    if not all(parts) or any(part in (".", "..") for part in parts):
        raise ValueError(f"not a storage key: {key!r}")
    return [fitting(part) for part in parts]
