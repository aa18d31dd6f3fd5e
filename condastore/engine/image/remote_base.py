"""A base that is in a registry."""

from pathlib import Path
from typing import Any

from condastore.engine.jobs import BaseJob


def remote_base(job: BaseJob, directory: Path) -> dict[str, Any]:
    """Takes the layers."""
    raise NotImplementedError
