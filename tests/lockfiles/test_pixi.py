import copy
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rattler import LockFile

from condastore.documents import Limits, load
from condastore.errors import InvalidSpecification
from condastore.lockfiles.conda_lock import Lockfile, Package
from condastore.lockfiles.pixi import from_value, is_pixi, render
from condastore.lockfiles.records import from_records
from tests.lockfiles.samples import CHANNEL, MD5, RECORD, SHA256, TZDATA, WHEEL
from tests.lockfiles.strategies import FEW, lockfiles

LIMITS = Limits(2**20, 100_000)
PIXI: dict[str, Any] = {
    "version": 6,
    "environments": {
        "default": {
            "channels": [{"url": f"{CHANNEL}/"}],
            "indexes": ["https://pypi.org/simple"],
            "packages": {
                "linux-64": [{"conda": RECORD["url"]}, {"pypi": WHEEL["url"]}],
                "osx-arm64": [{"conda": TZDATA["url"]}],
            },
        },
        "docs": {"channels": [], "packages": {"linux-64": [{"conda": "nowhere"}]}},
    },
    "packages": [
        {
            "conda": RECORD["url"],
            "sha256": SHA256,
            "md5": MD5,
            "depends": ["python >=3.11,<3.12.0a0", "libblas"],
            "license": "BSD-3-Clause",
            "size": 1234,
            "timestamp": 1700000000000,
        },
        {"conda": TZDATA["url"], "sha256": SHA256},
        {
            "pypi": WHEEL["url"],
            "name": "Flask",
            "version": "3.0.0",
            "sha256": SHA256,
            "requires_dist": ["jinja2>=3.1.2", "pytest ; extra == 'test'", "what is this"],
            "requires_python": ">=3.8",
        },
    ],
}


def changed(*path: Any, value: object) -> dict[str, Any]:
    """The document with another value at one place."""
    document = copy.deepcopy(PIXI)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


def test_the_default_environment_is_taken() -> None:
    assert is_pixi(PIXI)
    lockfile = from_value(PIXI)
    numpy, tzdata, flask = lockfile.package
    assert lockfile.platforms == lockfile.metadata.platforms == ["linux-64", "osx-arm64"]
    assert [channel.url for channel in lockfile.metadata.channels] == [CHANNEL]
    assert (numpy.name, numpy.version, numpy.platform) == ("numpy", "1.26.4", "linux-64")
    assert numpy.dependencies == {"libblas": "", "python": ">=3.11,<3.12.0a0"}
    assert (tzdata.name, tzdata.platform, tzdata.hash.md5) == ("tzdata", "osx-arm64", None)
    assert (flask.name, flask.manager, flask.hash.sha256) == ("flask", "pip", SHA256)
    assert flask.dependencies == {"jinja2": ">=3.1.2"}


def rattler_reads(text: str, directory: Path) -> LockFile:
    path = directory / "pixi.lock"
    path.write_text(text)
    return LockFile.from_path(path)


def what_is_installed(lockfile: Lockfile) -> set[tuple[Any, ...]]:
    """What must survive each conversion, dependencies in one spelling."""
    return {
        (p.platform, p.manager, p.name, p.version, p.url, p.hash, needs(p))
        for p in lockfile.package
    }


def needs(package: Package) -> str:
    found = package.dependencies or {}
    return str(sorted((name, "" if text == "*" else text) for name, text in found.items()))


@given(lockfiles())
@FEW
def test_what_is_written_is_read_again(lockfile: Lockfile) -> None:
    again = from_value(load(render(lockfile), LIMITS))
    assert what_is_installed(again) == what_is_installed(lockfile)
    assert again.platforms == lockfile.platforms
    assert again.metadata.channels == lockfile.metadata.channels


@given(lockfile=lockfiles())
@FEW
def test_rattler_reads_what_is_written_and_we_what_rattler_writes(
    lockfile: Lockfile, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("pixi")
    found = rattler_reads(render(lockfile), directory)
    environment = found.default_environment()
    assert environment is not None
    records = environment.conda_repodata_records()
    for platform in ("linux-64", "osx-arm64"):
        expected = [
            (p.name, p.version, p.url, p.hash.md5, p.hash.sha256)
            for p in lockfile.package
            if p.platform == platform and p.manager == "conda"
        ]
        assert sorted(expected) == sorted(
            (
                r.name.normalized,
                str(r.version),
                r.url,
                r.md5.hex() if r.md5 else None,
                r.sha256.hex() if r.sha256 else None,
            )
            for r in records.get(platform, [])
        )
    # Version 7, in which channels of this machine are paths.
    found.to_path(directory / "again.lock")
    text = (directory / "again.lock").read_text()
    assert "version: 7" in text
    if lockfile.package:
        again = from_value(load(text, LIMITS))
        assert {(p.platform, unquote(p.url), p.hash) for p in again.package} == {
            (p.platform, p.url, p.hash) for p in lockfile.package
        }


def test_channels_that_are_but_names_become_urls() -> None:
    lockfile = from_records({"linux-64": [RECORD]}, {}, ["conda-forge"], "abc")
    environment = yaml.safe_load(render(lockfile))["environments"]["default"]
    assert environment["channels"] == [{"url": f"{CHANNEL}/"}]


def test_a_platform_of_version_7_may_have_a_name_of_its_own() -> None:
    document = changed("platforms", value=[{"name": "cluster", "subdir": "linux-64"}])
    packages = document["environments"]["default"]["packages"]
    packages["cluster"] = packages.pop("linux-64")
    assert from_value({**document, "version": 7}).platforms == ["linux-64", "osx-arm64"]
    packages["linux-64"] = []
    with pytest.raises(InvalidSpecification, match="each platform once"):
        from_value(document)


FIRST = ("environments", "default", "packages", "linux-64", 0)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (changed("version", value=5), "6 or 7, not 5"),
        (changed("version", value=[]), r"6 or 7, not \[\]"),
        (changed("environments", value={"docs": {"packages": {}}}), "'default'; it has docs"),
        (changed("environments", value={}), "it has none"),
        (changed("environments", value=[]), "environments"),
        (changed("packages", value={}), "packages"),
        (changed(*FIRST, value={"conda": "https://x/y"}), r"linux-64\[0\]: packages has no"),
        (changed(*FIRST, value={"conda_source": "x"}), r"linux-64\[0\] is neither"),
        (changed("packages", 0, value={"source": "."}), r"packages\[0\] is neither"),
        (changed("packages", 0, "md5", value="x"), r"packages\[0\]: .*`\$\.md5`"),
        (changed("packages", 0, "depends", value=[1]), r"packages\[0\]: .*`\$\.depends"),
        (changed("packages", 1, "sha256", value=None), r"packages\[1\]: .*sha256 or an md5"),
        (changed("packages", 2, "sha256", value=None), r"packages\[2\]: .*PyPI.*sha256"),
        (changed("packages", 2, "version", value=None), r"packages\[2\]: .*version"),
        (
            changed("environments", "default", "packages", value={"amiga": []}),
            "amiga.*should be one of",
        ),
    ],
)
def test_what_can_not_be_installed_is_refused(document: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidSpecification, match=why):
        from_value(document)


@pytest.mark.parametrize(
    ("kind", "location", "why"),
    [
        ("conda", "./x-1-0.conda", r"packages\[0\]: .*absolute path"),
        ("conda", "git+https://example.org/x", r"packages\[0\]: .*schemes"),
        ("conda", f"{CHANNEL}/win-64/x-1-0.conda", r"packages\[0\]: .*win-64"),
        ("conda", "/srv/linux-64/../x-1-0.conda", r"packages\[0\]: "),
        ("pypi", "../project", r"packages\[0\]: .*absolute path"),
        ("pypi", "https://user:hunter2@example.org/x.whl", "credentials"),
        ("conda", "https://example.org/t/hunter2/noarch/x-1-0.conda", "credentials"),
    ],
)
def test_locations_are_checked(kind: str, location: str, why: str) -> None:
    document = changed(*FIRST, value={kind: location})
    package = {kind: location, "sha256": SHA256, "name": "x", "version": "1"}
    document["packages"].insert(0, package)
    with pytest.raises(InvalidSpecification, match=why) as caught:
        from_value(document)
    assert "hunter2" not in str(caught.value)


_json = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from([RECORD["url"], "default"]),
    lambda members: (
        st.lists(members, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["default", "packages", "conda", "pypi", "linux-64", "url", "channels"]
            ),
            members,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@given(st.sampled_from([("environments",), FIRST, ("packages", 0), ("packages",)]), _json)
def test_any_value_is_read_or_refused(path: tuple[Any, ...], value: object) -> None:
    try:
        lockfile = from_value(changed(*path, value=value))
    except InvalidSpecification:
        return
    assert render(lockfile)
