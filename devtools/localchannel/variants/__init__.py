"""What is in each channel: one file of pinned requirements for each variant.

A line is ``name==version``; a project may have several lines, so that a solver has a choice.
The pins have wheels for every Python that condastore supports, 3.11 and later. To renew those
of a large variant, resolve its roots for the oldest of these (``uv pip compile --python-version
3.11 --only-binary :all:``) and check that the result resolves unchanged for the newest.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

from packaging.utils import canonicalize_name
from packaging.version import Version

from devtools.localchannel.downloads import Release

#: The channels that hold packages, from quick to large.
PACKAGED = ("small", "demo", "large")

#: All channels that can be made.
NAMES = (*PACKAGED, "synthetic")

#: Written in the older format, so that whoever reads channels meets both.
OLD_FORMAT: frozenset[Release] = frozenset({("six", Version("1.16.0"))})


def definition(variant: str) -> str:
    """Return the text that defines a variant."""
    return files(__name__).joinpath(f"{variant}.txt").read_text(encoding="utf-8")


def releases(variant: str) -> Iterator[Release]:
    """Yield the releases that a variant pins."""
    for line in definition(variant).splitlines():
        pin = line.partition("#")[0].strip()
        if pin:
            name, _, version = pin.partition("==")
            yield canonicalize_name(name.strip()), Version(version.strip())
