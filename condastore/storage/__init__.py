"""Where artifacts are kept."""

from typing import Any

from condastore.storage.base import Storage, Stored
from condastore.storage.local import LocalStorage

__all__ = ["LocalStorage", "S3Storage", "Storage", "Stored"]


def __getattr__(name: str) -> Any:
    """Imports the client of S3 where it is used; it is heavy."""
    if name == "S3Storage":
        from condastore.storage.s3 import S3Storage

        return S3Storage
    raise AttributeError(name)
