"""Parts of an archive that other archives may have as well, so that they are packed once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from condastore.engine.pack.fragments import Fragment, Listing


@dataclass(frozen=True, slots=True)
class File:
    """What conda_pack wants to know of a file, for those who don't need the rest of it.

    `file_mode` is `text`, `binary` or nothing, and says how the prefix is in the file.
    """

    source: str
    target: str
    file_mode: str | None = None
    prefix_placeholder: str | None = None


@dataclass
class Part:
    """Files that are packed together; without a fragment they have yet to be.

    `stamp` is their modification time, if that shall be another than it is. `installed` is what
    their fragment shall tell of a package.
    """

    key: str
    listing: Listing
    files: Callable[[], Sequence[File]]
    fragment: Fragment | None
    stamp: int | None = None
    installed: dict[str, Any] | None = None
