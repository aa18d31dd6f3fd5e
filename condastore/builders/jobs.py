"""The jobs for engine processes (docs/architecture.md, "The child protocol")."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from condastore.builders.plan import Plan
from condastore.channels import channel_urls, resolve_match_spec
from condastore.configuration import CondaStore, server_platform
from condastore.lockfiles.records import Record, locked_for
from condastore.prefixes import Store, trees_of
from condastore.settings import Settings
from condastore.specification import CondaSpecification, LockfileSpecification

FETCHES_AT_ONCE = 8


@dataclass(frozen=True)
class Solution:
    """The packages of every platform; pip packages only where a lockfile named them."""

    channels: list[str]
    packages: dict[str, list[Record]]
    pip: list[Record]


def solve_job(
    config: CondaStore, store: Store, settings: Settings, specification: CondaSpecification
) -> Record:
    """Returns the job that turns a specification into packages."""
    alias = settings.conda_channel_alias
    specs = specification.match_specs
    cuda = (specification.variables or {}).get("CONDA_OVERRIDE_CUDA")
    return {
        **_engine(config, settings),
        "job": "solve",
        "channels": channel_urls(specification.channels, specs, alias),
        "specs": [resolve_match_spec(spec, alias) for spec in specs],
        # The server's own comes first, since that is what is installed.
        "platforms": list(dict.fromkeys([server_platform(), *settings.conda_solve_platforms])),
        "virtual_packages": {},
        "cuda": None if cuda is None else str(cuda),
        "exclude_newer": specification.exclude_newer,
        "timeout_s": settings.conda_max_solve_time,
        "repodata_cache": str(store.repodata),
        "repodata_ttl_s": config.repodata_ttl,
        "flags": config.conda_flags.split(),
        "limits": {"memory_bytes": config.max_build_memory},
    }


def locked_solution(specification: LockfileSpecification) -> Solution:
    """Returns what a posted lockfile says, without a solve."""
    locked = locked_for(specification.lockfile, server_platform())
    channels = [channel.url for channel in specification.lockfile.metadata.channels]
    return Solution(channels, {server_platform(): locked.records}, locked.pip)


def build_job(config: CondaStore, store: Store, plan: Plan, solution: Solution) -> Record:
    """Returns the job that makes a prefix."""
    settings, specification = plan.settings, plan.specification
    variables, specs = {}, []
    if isinstance(specification, CondaSpecification):
        variables = {key: str(value) for key, value in (specification.variables or {}).items()}
        specs = specification.match_specs
    return {
        **_engine(config, settings),
        "job": "build",
        "name": specification.name,
        "prefix": str(plan.prefix),
        "packages_dir": str(store.packages),
        "records": solution.packages.get(server_platform(), []),
        "specs": specs,
        "channels": solution.channels,
        "variables": variables,
        "pip": _pip(specification, solution),
        "pip_locked": solution.pip or None,
        "pip_only_binary": not config.pip_allow_sdists,
        "pip_index_url": config.pip_index_url,
        "permissions": settings.default_permissions,
        "uid": settings.default_uid,
        "gid": settings.default_gid,
        "link_scripts": config.run_link_scripts,
        "bytecode": config.compile_bytecode,
        "fetch_concurrency": FETCHES_AT_ONCE,
        "limits": {
            "package_bytes": config.max_package_bytes,
            "package_files": config.max_package_files,
            "memory_bytes": config.max_build_memory,
            "disk_free_bytes": config.min_free_bytes,
        },
    }


def archive_job(config: CondaStore, store: Store, prefix: Path, output: Path) -> Record:
    """Returns the job that packs a prefix into a conda-pack archive."""
    return {
        "v": 1,
        "job": "archive",
        "prefix": str(prefix),
        "packages_dir": str(store.packages),
        "output": str(output),
        "format": config.archive_format,
        "fragments": True,
        "limits": {
            "memory_bytes": config.max_build_memory,
            "fragments_bytes": config.max_fragments_bytes,
        },
    }


def installer_job(
    config: CondaStore, store: Store, prefix: Path, output: Path, name: str, key: str
) -> Record:
    """Returns the job that packs a prefix into an installer."""
    archive = archive_job(config, store, prefix, output)
    return {**archive, "job": "installer", "name": name, "version": key}


def remove_job(path: Path, files_per_s: float) -> Record:
    """Returns the job that removes what is in the trash at a pace and counts what comes free."""
    paths = [str(tree) for tree in trees_of(path)]
    return {"v": 1, "job": "remove", "paths": paths, "files_per_s": files_per_s}


def sweep_job(store: Store) -> Record:
    """Returns the job that removes what can't be trusted from the package store."""
    return {"v": 1, "job": "sweep", "packages_dir": str(store.packages)}


def verify_job(store: Store, packages: list[str]) -> Record:
    """Returns the job that hashes the files of packages, of all of them if none are named."""
    return {"v": 1, "job": "verify", "packages_dir": str(store.packages), "packages": packages}


def connections(config: CondaStore) -> Record:
    """Returns what every job says that fetches anything."""
    return {"credentials": config.channel_credentials, "offline": config.offline}


def _engine(config: CondaStore, settings: Settings) -> Record:
    command = settings.conda_command
    bundled = command == "rattler"
    return {
        "v": 1,
        "engine": "rattler" if bundled else "conda",
        # A child's PATH is the system's, the operator's may know more.
        "command": None if bundled else shutil.which(command) or command,
        **connections(config),
    }


def _pip(
    specification: CondaSpecification | LockfileSpecification, solution: Solution
) -> Record | None:
    if isinstance(specification, LockfileSpecification) or not specification.requirements:
        return None
    pythons = {
        platform: record["version"]
        for platform, records in solution.packages.items()
        if platform != server_platform()
        for record in records
        if record["name"] == "python"
    }
    return {"requirements": specification.requirements, "python_platforms": pythons}
