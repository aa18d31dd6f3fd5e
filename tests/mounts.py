"""Small file systems for tests, which are skipped where there can't be any."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from devtools import filesystems
from devtools.filesystems import CannotMount


@contextmanager
def mounted(
    kind: str, directory: Path, size_mb: int, *options: str, made_with: Sequence[str] = ()
) -> Iterator[Path]:
    """See `devtools.filesystems.mounted`."""
    try:
        with filesystems.mounted(kind, directory, size_mb, *options, made_with=made_with) as made:
            yield made
    except CannotMount as error:
        pytest.skip(str(error))
