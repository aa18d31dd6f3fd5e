"""Solving without building (rest-api §4.4)."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

from condastore import environment_yaml
from condastore.access import Caller
from condastore.errors import Unauthorized
from condastore.policy import apply_settings
from condastore.service.parts import Parts
from condastore.setting_rows import load_settings
from condastore.tables import CondaPackageBuild

NAME = "conda-store-solve"
NAMESPACE = "solve"


@dataclass(frozen=True)
class SolveRequest:
    """What somebody would like to install."""

    channels: Sequence[str]
    conda: Sequence[str]
    pip: Sequence[str]


async def solve(parts: Parts, caller: Caller, wanted: SolveRequest) -> list[CondaPackageBuild]:
    """Returns what would be installed on this platform; pip packages are left out.

    Raises `InvalidInput` with the solver's explanation, and `Unauthorized` for whoever may solve
    nowhere.
    """
    if not caller.allows_somewhere("environment::solve"):
        raise Unauthorized
    text = json.dumps(
        {
            "name": NAME,
            "channels": list(wanted.channels),
            "dependencies": [*wanted.conda, *([{"pip": list(wanted.pip)}] if wanted.pip else [])],
        }
    )
    limits = environment_yaml.Limits(size_bytes=parts.config.max_specification_bytes)
    specification = await asyncio.to_thread(environment_yaml.parse, text, limits)
    async with parts.database.read() as session:
        settings = await load_settings(session, parts.defaults, NAMESPACE, NAME)
    return await parts.solves.solve(apply_settings(specification, settings), settings)
