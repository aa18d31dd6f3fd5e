"""What every storage can do."""

from abc import abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path

from traitlets.config import LoggingConfigurable


class Storage(LoggingConfigurable):
    """Keeps artifacts under keys such as `logs/0e4b7b86-1795391714-2-simple.log`.

    Keys are made by condastore from build keys, never from a user's text alone.
    """

    async def open(self) -> None:
        """Prepares for use, and removes what a crash left half written."""

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
    async def size(self, key: str) -> int | None:
        """Returns the bytes under a key; None when there is nothing."""

    @abstractmethod
    def read(self, key: str, offset: int = 0) -> AsyncIterator[bytes]:
        """Yields what is under a key from a byte offset on. Raises `FileNotFoundError`."""

    @abstractmethod
    async def delete(self, key: str) -> int:
        """Removes what is under a key and returns the bytes that came free; 0 without it."""
