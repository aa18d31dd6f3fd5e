"""Where a benchmark runs: its options, its directories, and what it builds."""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measure import Table
from devtools import localchannel
from devtools.localchannel import make_channel

CACHE = Path(os.environ.get("CONDASTORE_TEST_CACHE") or Path.home() / ".cache" / "condastore-tests")
LARGE = Path(localchannel.__file__).with_name("large.yaml")

# What the most hungry benchmark puts on the disk in three rounds, and what all do together.
BYTES_OF_ONE = 12 * 10**9
BYTES_OF_ALL = 30 * 10**9

Specification = dict[str, Any]

# Four environments each that have little in common but Python.
LARGE_PARTS = {
    "science": ("numpy", "scipy", "pandas", "statsmodels", "scikit-learn"),
    "plots": ("matplotlib", "seaborn", "bokeh", "plotly", "scikit-image"),
    "notebooks": ("jupyterlab", "ipywidgets", "ipython", "pytest"),
    "services": ("fastapi", "uvicorn", "sqlalchemy", "boto3", "aiohttp", "distributed"),
}
SMALL_PARTS = {
    "science": ("flask",),
    "plots": ("rich",),
    "notebooks": ("pip", "pyyaml"),
    "services": ("jinja2", "six"),
}


@dataclass(frozen=True)
class Scene:
    """One run of a benchmark."""

    quick: bool
    rounds: int
    root: Path

    @cached_property
    def channel(self) -> Path:
        """The channel with the packages of the reference environment."""
        return self.channel_of("small" if self.quick else "large")

    def channel_of(self, variant: str, *size: int) -> Path:
        """Returns a channel, which is made once a machine; its size is in records, and names."""
        name = "-".join([variant, *map(str, size)])
        options = dict(zip(("records", "names"), size, strict=False))
        return make_channel(variant, CACHE / "channels" / name, CACHE / "wheels", **options)

    def fresh(self, name: str) -> Path:
        """Returns a new directory."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.root))

    def table(self, title: str, baseline: str) -> Table:
        """Returns an empty table; the targets are not for the small environment."""
        return Table(title, baseline, judge=not self.quick)

    @property
    def reference(self) -> Specification:
        """The reference environment, about 170 packages and 35,000 files if it is not quick."""
        if self.quick:
            return self._specification("reference", ("flask", "rich", "pyyaml"))
        dependencies = yaml.safe_load(LARGE.read_text())["dependencies"]
        return self._specification("reference", dependencies)

    def part(self, name: str, channel: str | None = None) -> Specification:
        """Returns one of four different environments."""
        packages = (SMALL_PARTS if self.quick else LARGE_PARTS)[name]
        return self._specification(name, ("python", *packages), channel)

    @property
    def parts(self) -> list[Specification]:
        """Four different environments."""
        return [self.part(name) for name in LARGE_PARTS]

    def _specification(
        self, name: str, dependencies: Sequence[str], channel: str | None = None
    ) -> Specification:
        return {
            "name": name,
            "channels": [channel or self.channel.as_uri()],
            "dependencies": list(dependencies),
        }


def parser(description: str | None) -> argparse.ArgumentParser:
    """Returns the options that every benchmark has."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help="use a small environment")
    made.add_argument("--rounds", type=int, metavar="N", help="how often (default: 3; quick: 2)")
    made.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        help="work in a new directory below this one, and leave it there (default: work below "
        "the cache directory, and remove everything at the end)",
    )
    return made


@contextmanager
def workplace(arguments: argparse.Namespace, bytes_needed: int) -> Iterator[Path]:
    """Makes the directory of a run and removes it at the end, unless it shall stay."""
    base = arguments.directory or CACHE
    base.mkdir(parents=True, exist_ok=True)
    if not arguments.quick and shutil.disk_usage(base).free < bytes_needed:
        sys.exit(f"{base} lacks space: {bytes_needed / 1e9:.0f} GB must be free; see --directory")
    root = Path(tempfile.mkdtemp(prefix="benchmark-", dir=base.resolve()))
    try:
        yield root
    finally:
        if arguments.directory is None:
            shutil.rmtree(root, ignore_errors=True)


def run(measure: Callable[[Scene], Table]) -> None:
    """Runs one benchmark from its command line; the exit status is 1 if it missed a target."""
    arguments = parser(sys.modules[measure.__module__].__doc__).parse_args()
    with workplace(arguments, BYTES_OF_ONE) as root:
        rounds = arguments.rounds or (2 if arguments.quick else 3)
        load = os.getloadavg()[0]
        table = measure(Scene(arguments.quick, rounds, root))
        print(f"{table}\nload of the machine: {load:.1f} before, {os.getloadavg()[0]:.1f} after\n")
    sys.exit(1 if table.missed else 0)
