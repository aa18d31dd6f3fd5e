"""A base that is a file."""

from pathlib import Path
from typing import Any

from condastore.engine.jobs import BaseJob


def stored_base(job: BaseJob, directory: Path) -> dict[str, Any]:
    """Takes the layers."""
    raise NotImplementedError
