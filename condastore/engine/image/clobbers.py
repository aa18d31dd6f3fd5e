"""Paths that several packages have: whose file an installed environment would show.

An image shows that of the topmost layer. Where that is another one, the environment's own layer
has the right file again.
"""

from collections.abc import Iterable, Mapping, Sequence

from condastore.engine.events import EngineError
from condastore.engine.image.entries import parents
from condastore.engine.image.packages import Member, Package
from condastore.engine.jobs import Record
from condastore.engine.records import distribution, for_rattler, label

Members = Mapping[str, Member]


def installation_order(records: Sequence[Record]) -> list[str]:
    """The distributions in the order in which one prevails over those before it."""
    from rattler import PackageRecord

    by_name = {record["name"]: distribution(record) for record in records}
    ordered = PackageRecord.sort_topologically(list(for_rattler(records)))
    return [by_name[record.name.normalized] for record in ordered]


def restored(
    layers: Sequence[Sequence[Package]], members: Mapping[str, Members], order: Sequence[str]
) -> dict[str, set[str]]:
    """The paths to restore, by the distribution whose file it is.

    `layers` are from the bottom up, and within one the later prevails; `members` are by
    distribution.
    """
    rank = {name: number for number, name in enumerate(order)}
    owners: dict[str, list[str]] = {}
    compiled = set()
    for layer in layers:
        for package in layer:
            name = distribution(package.record)
            if package.is_noarch_python:
                compiled.add(name)
            for path, member in members[name].items():
                if member.entry.kind != "directory":
                    owners.setdefault(path, []).append(name)
    result: dict[str, set[str]] = {}
    for path, names in owners.items():
        winner = max(names, key=rank.__getitem__)
        # Byte code is not checked against its source, so that of another's must be replaced too.
        is_stale = path.endswith(".py") and winner not in compiled and compiled & set(names)
        if names[-1] != winner or is_stale:
            result.setdefault(winner, set()).add(path)
    return result


def check_links(packages: Iterable[Package], members: Mapping[str, Members]) -> None:
    """Refuses an environment where one package has a link and another has files below it.

    A layer can't say that its directory is to be the link of another.
    """
    files = {
        path: package
        for package in packages
        for path, member in members[distribution(package.record)].items()
        if member.entry.kind != "directory"
    }
    for path, package in files.items():
        for parent in parents(path):
            if parent in files:
                raise EngineError(
                    "package",
                    f"{label(package.record)} has {path!r}, and {label(files[parent].record)} has "
                    f"{parent!r} as a file or link; they can't be layers of one image.",
                )
