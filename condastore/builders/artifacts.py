"""The texts that are made of every build: its lockfile and its exported YAML."""

from dataclasses import dataclass

from condastore import lockfile
from condastore.builders.jobs import Record, Solution
from condastore.builders.plan import Plan
from condastore.builds import ArtifactType
from condastore.configuration import server_platform
from condastore.export import export_yaml
from condastore.specification import CondaSpecification, LockfileSpecification


@dataclass(frozen=True)
class Installed:
    """What the engine made."""

    packages: list[Record]
    pip: dict[str, list[Record]]
    size_bytes: int


def lockfile_text(plan: Plan, solution: Solution, installed: Installed) -> str:
    """Returns the lockfile; of a posted one, the same text that it was made from."""
    if isinstance(plan.specification, LockfileSpecification):
        return lockfile.to_json_text(plan.specification.lockfile)
    return lockfile.to_json_text(
        lockfile.from_records(solution.packages, installed.pip, solution.channels, plan.sha256)
    )


def yaml_text(plan: Plan, solution: Solution, installed: Installed) -> str:
    """Returns the environment.yaml of what was installed, all pinned."""
    specification = plan.specification
    variables = specification.variables if isinstance(specification, CondaSpecification) else None
    return export_yaml(
        specification.name,
        solution.channels,
        installed.packages,
        installed.pip.get(server_platform(), []),
        prefix=str(plan.prefix),
        variables=variables,
    )


MAKERS = {ArtifactType.LOCKFILE: lockfile_text, ArtifactType.YAML: yaml_text}
