"""Parts of an archive that other archives may have as well, so that they are packed once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from conda_pack.core import File

from condastore.engine.pack.fragments import Fragment, Listing


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
