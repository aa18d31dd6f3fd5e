"""Where artifacts are kept."""

from condastore.storage.base import Storage, Stored
from condastore.storage.local import LocalStorage

__all__ = ["LocalStorage", "Storage", "Stored"]
