"""The texts that are made of every build: its lockfile and its exported YAML."""

from dataclasses import dataclass

from condastore.builders.jobs import Solution
from condastore.builders.plan import Plan
from condastore.builds import ArtifactType
from condastore.configuration import server_platform
from condastore.export import export_yaml
from condastore.lockfiles.conda_lock import to_json_text
from condastore.lockfiles.records import Record, completed, from_records
from condastore.specification import CondaSpecification, LockfileSpecification


@dataclass(frozen=True)
class Installed:
    """What the engine made."""

    packages: list[Record]
    pip: dict[str, list[Record]]
    size_bytes: int


def lockfile_text(plan: Plan, solution: Solution, installed: Installed) -> str:
    """Returns the lockfile; of a posted one of conda-lock, the same text that it was made from."""
    specification = plan.specification
    if not isinstance(specification, LockfileSpecification):
        solved = from_records(solution.packages, installed.pip, solution.channels, plan.sha256)
    elif specification.is_partial:
        solved = specification.lockfile
    else:
        return to_json_text(specification.lockfile)
    # Not every channel and not every form of a lockfile has all checksums.
    return to_json_text(completed(solved, installed.packages))


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
