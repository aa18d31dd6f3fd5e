"""conda, mamba and micromamba as engines: every tool is asked for the same few things.

A dry run of `create` solves. For a build, `create --download-only` fetches, and when all packages
are checked, `create --offline` links them; both read an explicit list. So their texts need not be
parsed, and nothing is linked that is not in the lock.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from rattler import Subdir

from condastore.engine.events import EngineError, Events, Phase
from condastore.engine.external.cache import PackageCache
from condastore.engine.external.plan import explicit_file, read_plan
from condastore.engine.external.tool import Tool, find_tool
from condastore.engine.jobs import BuildJob, Record
from condastore.engine.metadata import complete_metadata
from condastore.engine.records import checked, completed, distribution, label
from condastore.engine.solve import parse_specs
from condastore.engine.virtual import virtual_packages
from condastore.engine.workspace import workspace

_SOLVE_STEP = "action_solve_lockfile"
_FETCH_STEP = "action_fetch_and_extract_conda_packages"
_LINK_STEP = "action_install_lockfile"


def solve(job: dict[str, Any], events: Events) -> dict[str, list[Record]]:
    """Finds the packages of an environment for each platform."""
    # Only for its errors: a tool would also take the path of a file, or the URL of any package.
    parse_specs(job["specs"], job["channels"])
    if job.get("exclude_newer") is not None:
        raise EngineError("spec", "only the engine rattler can solve as of a day in the past")
    root = Path(job["repodata_cache"]) / "external"
    platforms = job["platforms"]
    packages = {}
    # In the process's own temporary directory, which goes with it, also when it is killed.
    with tempfile.TemporaryDirectory(prefix="condastore-solve-") as directory:
        tool = find_tool(job, Path(directory), lambda text: events.log(text, _SOLVE_STEP))
        for done, platform in enumerate(platforms):
            events.progress("solve", done, len(platforms))
            packages[platform] = _solve_platform(job, platform, tool, root)
            events.log(f"{platform}: {len(packages[platform])} packages", _SOLVE_STEP)
    events.progress("solve", len(platforms), len(platforms))
    return packages


def link(job: dict[str, Any], events: Events) -> None:
    """Makes the prefix of a build."""
    packages_dir = Path(job["packages_dir"])
    with workspace(packages_dir / "work") as directory:
        build = _Build(job, directory, packages_dir / "external", events)
        build.fetch()
        build.check()
        build.link()


def _solve_platform(job: Mapping[str, Any], platform: str, tool: Tool, root: Path) -> list[Record]:
    channels = [argument for channel in job["channels"] for argument in ("--channel", channel)]
    answer = tool.create(
        tool.directory / f"prefix-{platform}",
        *("--dry-run", "--override-channels", *channels, *job["flags"], *job["specs"]),
        package_dirs=[_repodata_directory(job, tool, root)],
        variables={
            "CONDA_SUBDIR": platform,
            "CONDA_LOCAL_REPODATA_TTL": str(int(job["repodata_ttl_s"])),
            "MAMBA_LOCAL_REPODATA_TTL": str(int(job["repodata_ttl_s"])),
            **_overrides(job, platform),
        },
        timeout_s=job["timeout_s"],
        must_answer=True,
    )
    return read_plan(tool.name, answer)


def _repodata_directory(job: Mapping[str, Any], tool: Tool, root: Path) -> Path:
    """A package directory that never has packages: so the plan tells of each one in full.

    It keeps repodata. What one user's credentials opened must not answer another's solve.
    """
    key = json.dumps([tool.executable, job["credentials"]], sort_keys=True)
    return root / hashlib.sha256(key.encode()).hexdigest()[:16]


def _overrides(job: Mapping[str, Any], platform: str) -> dict[str, str]:
    """The virtual packages as variables; a tool finds those of its own machine by itself."""
    given = job["virtual_packages"].get(platform)
    cuda = job["cuda"]
    if given is None and platform == str(Subdir.current()):
        return {"CONDA_OVERRIDE_CUDA": cuda} if cuda else {}
    overrides = {}
    for package in virtual_packages(platform, given, cuda):
        name = package.name.normalized.removeprefix("__")
        value = package.build_string if name == "archspec" else package.version
        overrides[f"CONDA_OVERRIDE_{name.upper()}"] = str(value)
    return overrides


class _Build:
    """One prefix in the making."""

    def __init__(self, job: dict[str, Any], directory: Path, shared: Path, events: Events) -> None:
        self._job = job
        self._events = events
        self._step = _FETCH_STEP
        self._records = [checked(record) for record in job["records"]]
        self._cache = PackageCache(directory / "packages", shared, self._records)
        self._tool = find_tool(job, directory, lambda text: events.log(text, self._step))
        self._list = directory / "explicit.txt"
        self._list.write_text(explicit_file(self._records))

    def fetch(self) -> None:
        """Gets the packages that are not shared yet."""
        self._events.phase("fetch")
        self._log_plan()
        total = self._cache.count_missing()
        report = self._reporter("fetch", self._cache.count_fetched, total)
        self._create(self._tool.directory / "unused", "--download-only", report)
        report()

    def check(self) -> None:
        """Refuses packages that are not what the lock says, or run code that was not allowed."""
        self._cache.publish(self._job["limits"])
        for record, script in self._cache.scripts():
            if not self._job["link_scripts"]:
                raise EngineError(
                    "package",
                    f"Package {label(record)} has a {script} script. {self._tool.name} would run "
                    "it, but scripts are not allowed here; the bundled engine can leave it out.",
                )
            self._events.log(f"warning: {label(record)} runs a {script} script", self._step)

    def link(self) -> None:
        """Puts the packages together."""
        self._events.phase("link")
        self._step = _LINK_STEP
        self._events.log("Preparing transaction: done", self._step)
        prefix = Path(self._job["prefix"])
        # A script may write to any file of its prefix, so none of them may be shared then.
        copy = str(self._job["link_scripts"]).lower()
        variables = {"CONDA_ALWAYS_COPY": copy, "MAMBA_ALWAYS_COPY": copy}
        report = self._reporter(
            "link", lambda: len(list(prefix.glob("conda-meta/*.json"))), len(self._records)
        )
        self._create(prefix, "--offline", report, variables)
        self._check_prefix(prefix)
        complete = [completed(record, {}) for record in self._records]
        complete_metadata(prefix, cast(BuildJob, self._job), complete)
        report()
        self._events.log("Executing transaction: done", self._step)

    def _reporter(self, phase: Phase, count: Callable[[], int], total: int) -> Callable[[], None]:
        """What reports progress, whenever a count has changed."""
        reported = -1

        def report() -> None:
            nonlocal reported
            done = count()
            if done != reported:
                reported = done
                self._events.progress(phase, done, total)

        return report

    def _create(
        self,
        prefix: Path,
        option: str,
        tick: Callable[[], None],
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._tool.create(
            prefix,
            *(option, "--file", str(self._list)),
            package_dirs=self._cache.directories,
            variables=variables,
            tick=tick,
        )

    def _check_prefix(self, prefix: Path) -> None:
        for record in self._records:
            if not (prefix / "conda-meta" / f"{distribution(record)}.json").exists():
                text = f"{self._tool.name} did not install {label(record)}, but reported success."
                raise EngineError("engine", text)

    def _log_plan(self) -> None:
        lines = [f"{distribution(record):<60}  {record['url']}" for record in self._records]
        self._events.log("\n".join(sorted(lines)), self._step)
