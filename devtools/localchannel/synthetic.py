"""An index of any size, without packages: what a solver meets on a large public channel.

Names are in order of dependency: each depends on names before it only, so that there is no
cycle. Every release depends on what was current when it was made, and bounds it to the next
major version; so the newest of everything fits together, and a request can be solved.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import zstandard

from devtools.localchannel.interpreter import SUBDIR

#: About the size of the largest public channel for one platform.
DEFAULT_RECORDS = 600_000

#: What somebody might ask of the channel; it can be solved.
TYPICAL_REQUEST = ("python 3.11.*", "numpy", "pandas", "scikit-learn", "jupyterlab")

_RECORDS_FOR_EACH_NAME = 20
_PYTHONS = ("3.10", "3.11", "3.12", "3.13")
_PATCHES = 10
_COMPILED_SHARE = 0.3
_FIRST_TIMESTAMP, _LAST_TIMESTAMP = 1_500_000_000_000, 1_760_000_000_000

# Their releases have some hundred names before them to depend on.
_FAMILIAR_FROM = 300
_FAMILIAR = (
    *("numpy", "scipy", "pandas", "matplotlib", "scikit-learn", "pyarrow", "sympy", "numba"),
    *("requests", "flask", "sqlalchemy", "ipython", "jupyterlab", "dask", "xarray", "bokeh"),
)
_SYLLABLES = (
    *("ar", "bel", "cor", "dra", "el", "fin", "gra", "hel", "il", "jor", "kan", "lum", "mor"),
    *("nex", "or", "pyr", "quil", "ren", "sol", "tor", "ul", "vex", "wyn", "xen", "yar", "zet"),
)


@dataclass(frozen=True)
class _Project:
    """A name of the channel, with all that its releases have in common."""

    name: str
    compiled: bool
    records: int
    dependencies: Sequence[_Project]

    @property
    def releases(self) -> int:
        """How many versions there are; compiled ones have a build for every Python."""
        return -(-self.records // len(_PYTHONS)) if self.compiled else self.records


def write_synthetic(channel: Path, records: int, names: int | None = None) -> None:
    """Write ``repodata.json`` and its compressed twin for both subdirs, and ``channeldata.json``.

    By default there are 20 records for each of the names.
    """
    pythons = list(_python_records())
    released = max(records - len(pythons), 0)
    projects = _projects(released, names or released // _RECORDS_FOR_EACH_NAME)
    compiled = (project for project in projects if project.compiled)
    noarch = (project for project in projects if not project.compiled)
    _write(channel / SUBDIR, itertools.chain(pythons, *map(_release_records, compiled)))
    _write(channel / "noarch", itertools.chain.from_iterable(map(_release_records, noarch)))
    _write_channeldata(channel, projects)


def _projects(records: int, names: int) -> list[_Project]:
    """Share out the records, many to the first names and few to the last."""
    generator = random.Random(records)
    count = max(names, 1)
    weights = [(index + 10) ** -0.6 for index in range(count)]
    scale = records / sum(weights)
    projects: list[_Project] = []
    shared = 0
    for index, reached in enumerate(itertools.accumulate(weights)):
        quota = round(reached * scale) - shared
        shared += quota
        compiled = quota >= len(_PYTHONS) and generator.random() < _COMPILED_SHARE
        wanted = min(generator.choice((0, 1, 1, 2, 2, 3, 3, 4, 6)), index)
        # Squared: the nearer to the beginning, the more depend on it.
        chosen = {int(index * generator.random() ** 2) for _ in range(wanted)}
        dependencies = [projects[number] for number in sorted(chosen)]
        projects.append(_Project(_name(index, count), compiled, quota, dependencies))
    return projects


def _name(index: int, count: int) -> str:
    first = min(_FAMILIAR_FROM, max(count - len(_FAMILIAR), 0))
    if first <= index < first + len(_FAMILIAR):
        return _FAMILIAR[index - first]
    syllables = []
    number = index
    for _ in range(4):
        number, digit = divmod(number, len(_SYLLABLES))
        syllables.append(_SYLLABLES[digit])
    return "".join(syllables[:2]) + "-" + "".join(syllables[2:])


def _python_records() -> Iterator[str]:
    generator = random.Random(0)
    for age, (python, patch) in enumerate(itertools.product(_PYTHONS, range(_PATCHES))):
        abi = f'["python_abi {python}.* *_cp{python.replace(".", "")}"]'
        moment = age / (len(_PYTHONS) * _PATCHES)
        version = f"{python}.{patch}"
        yield _record("python", version, "0_cpython", "[]", moment, generator, constrains=abi)
    for python in _PYTHONS:
        build = f"0_cp{python.replace('.', '')}"
        yield _record("python_abi", python, build, f'["python {python}.*"]', 1.0, generator)


def _release_records(project: _Project) -> Iterator[str]:
    generator = random.Random(project.name)
    left = project.records
    for release in reversed(range(project.releases)):
        moment = (release + 1) / project.releases
        depends = _depends(project, moment)
        version = _version(release)
        digest = f"h{generator.getrandbits(28):07x}_0"
        if not project.compiled:
            needs = f'["python >=3.8"{depends}]'
            yield _record(
                project.name, version, f"py{digest}", needs, moment, generator, noarch=True
            )
            continue
        for python in _PYTHONS[-left:] if left < len(_PYTHONS) else _PYTHONS:
            left -= 1
            minor = int(python.partition(".")[2])
            tag = python.replace(".", "")
            bounds = f'"python >={python},<3.{minor + 1}.0a0","python_abi {python}.* *_cp{tag}"'
            build = f"py{tag}{digest}"
            yield _record(project.name, version, build, f"[{bounds}{depends}]", moment, generator)


def _depends(project: _Project, moment: float) -> str:
    """Return the dependencies of a release, as the tail of a JSON list."""
    parts = []
    for dependency in project.dependencies:
        current = max(int(dependency.releases * moment) - 1, 0)
        oldest = current * 3 // 4
        parts.append(f',"{dependency.name} >={_version(oldest)},<{_major(current) + 1}"')
    return "".join(parts)


def _major(release: int) -> int:
    return release // 25


def _version(release: int) -> str:
    return f"{_major(release)}.{release // 5 % 5}.{release % 5}"


def _record(
    name: str,
    version: str,
    build: str,
    depends: str,
    moment: float,
    generator: random.Random,
    *,
    noarch: bool = False,
    constrains: str = "[]",
) -> str:
    """Return one entry of repodata; written by hand, since there are very many."""
    timestamp = int(_FIRST_TIMESTAMP + moment * (_LAST_TIMESTAMP - _FIRST_TIMESTAMP))
    hashes = f"{generator.getrandbits(384):096x}"
    place = '"noarch":"python","subdir":"noarch"' if noarch else f'"subdir":"{SUBDIR}"'
    return (
        f'"{name}-{version}-{build}.conda":{{"build":"{build}","build_number":0,'
        f'"constrains":{constrains},"depends":{depends},"license":"MIT","md5":"{hashes[:32]}",'
        f'"name":"{name}","sha256":"{hashes[32:]}","size":{20_000 + timestamp % 2_000_000},'
        f'{place},"timestamp":{timestamp},"version":"{version}"}}'
    )


def _write(directory: Path, records: Iterator[str]) -> None:
    directory.mkdir()
    path = directory / "repodata.json"
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"info":{{"subdir":"{directory.name}"}},"packages":{{}},"packages.conda":{{')
        _write_joined(file, records)
        file.write('},"removed":[],"repodata_version":1}')
    with path.open("rb") as plain, path.with_name("repodata.json.zst").open("wb") as compressed:
        zstandard.ZstdCompressor().copy_stream(plain, compressed, size=path.stat().st_size)


def _write_channeldata(channel: Path, projects: Sequence[_Project]) -> None:
    packages = {
        project.name: {"summary": f"What {project.name} is for, in a sentence of usual length"}
        for project in projects
    }
    channeldata = {"channeldata_version": 1, "packages": packages, "subdirs": [SUBDIR, "noarch"]}
    (channel / "channeldata.json").write_text(json.dumps(channeldata), encoding="utf-8")


def _write_joined(file: TextIO, records: Iterator[str]) -> None:
    file.write(next(records, ""))
    for record in records:
        file.write(",\n")
        file.write(record)
