"""Lockfiles as solves make them, of any packages."""

import hashlib

from hypothesis import Phase, settings
from hypothesis import strategies as st

from condastore.lockfiles.conda_lock import Lockfile
from condastore.lockfiles.records import Record, from_records
from tests.lockfiles.samples import CHANNEL

# To shrink a lockfile takes minutes.
FEW = settings(max_examples=40, deadline=None, phases=[Phase.generate])

_names = st.from_regex(r"\A[a-z_][a-z0-9_.]{0,5}(-[a-z0-9]{1,3})?\Z")
_versions = st.from_regex(r"\A([0-9]!)?[0-9]{1,3}(\.[0-9a-z]{1,4}){0,3}\Z")
_builds = st.from_regex(r"\A[a-z0-9_.]{1,9}\Z")
_sha256 = st.from_regex(r"\A[0-9a-f]{64}\Z")
_wheel_versions = st.from_regex(r"\A[0-9]{1,3}(\.[0-9]{1,4}){0,3}\Z")


@st.composite
def _conda(draw: st.DrawFn, platform: str) -> Record:
    name, version, build = draw(_names), draw(_versions), draw(_builds)
    subdir = draw(st.sampled_from([platform, "noarch"]))
    suffix = draw(st.sampled_from([".conda", ".tar.bz2"]))
    channel = draw(st.sampled_from([CHANNEL, "file:///srv/channel"]))
    url = f"{channel}/{subdir}/{name}-{version}-{build}{suffix}"
    needed = draw(st.lists(st.builds("{} >={}".format, _names, _versions), max_size=2))
    return {
        "name": name,
        "version": version,
        "build": build,
        "subdir": subdir,
        "url": url,
        # The same package may be drawn for two platforms.
        "depends": [] if subdir == "noarch" else needed,
        "md5": hashlib.md5(url.encode()).hexdigest(),
        "sha256": hashlib.sha256(url.encode()).hexdigest(),
    }


@st.composite
def _wheel(draw: st.DrawFn) -> Record:
    name, version = draw(st.from_regex(r"\A[a-z]{1,8}\Z")), draw(_wheel_versions)
    return {
        "name": name,
        "version": version,
        "url": f"https://files.example.org/{name}-{version}-py3-none-any.whl",
        "hash": {"sha256": draw(_sha256)},
        "requires": draw(st.lists(st.sampled_from(["click>=8,<9", "jinja2", "a[b]==1"]))),
    }


def _once(records: list[Record]) -> list[Record]:
    return list({record["name"]: record for record in records}.values())


@st.composite
def lockfiles(draw: st.DrawFn) -> Lockfile:
    """A lockfile for two platforms."""
    packages = {
        platform: _once(draw(st.lists(_conda(platform), max_size=4)))
        for platform in ("linux-64", "osx-arm64")
    }
    pip = {"linux-64": _once(draw(st.lists(_wheel(), max_size=2)))}
    return from_records(packages, pip, [CHANNEL], "abc")
