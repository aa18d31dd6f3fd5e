import copy
import json
from typing import Any

from condastore.lockfiles.conda_lock import (
    Hash,
    Package,
    conda_package,
    of_packages,
    parse,
    to_json_text,
)
from condastore.lockfiles.records import completed, from_records, locked_for
from tests.lockfiles.samples import CHANNEL, MD5, POSTED, RECORD, SHA256, TZDATA, WHEEL, changed


def test_a_solve_becomes_a_lockfile_in_the_order_of_conda_lock() -> None:
    solved = from_records(
        {"osx-arm64": [TZDATA], "linux-64": [TZDATA, RECORD]},
        {"linux-64": [WHEEL]},
        [CHANNEL],
        "abc",
    ).as_dict()
    assert solved["metadata"] == {
        "content_hash": {"osx-arm64": "abc", "linux-64": "abc"},
        "channels": [{"url": CHANNEL, "used_env_vars": []}],
        "platforms": ["linux-64", "osx-arm64"],
        "sources": [],
    }
    assert [(entry["name"], entry["platform"]) for entry in solved["package"]] == [
        ("numpy", "linux-64"),
        ("tzdata", "linux-64"),
        ("tzdata", "osx-arm64"),
        ("flask", "linux-64"),
    ]
    assert solved["package"][0] == {
        "name": "numpy",
        "version": "1.26.4",
        "manager": "conda",
        "platform": "linux-64",
        "dependencies": {
            "libblas": "",
            "python": ">=3.11,<3.12.0a0",
            "python_abi": "3.11.* *_cp311",
        },
        "url": RECORD["url"],
        "hash": {"md5": MD5, "sha256": SHA256},
        "category": "main",
        "optional": False,
    }


def test_two_constraints_on_one_package_are_joined() -> None:
    record = {**RECORD, "depends": ["a >=1", "a <3", "b 1.* x_0", "b >1", "c >=1", "c"]}
    solved = from_records({"linux-64": [record]}, {}, [], "abc")
    assert solved.package[0].dependencies == {"a": "<3,>=1", "b": ">1,1.* x_0", "c": ">=1"}


def test_a_build_gets_back_what_a_solve_found() -> None:
    solved = from_records({"linux-64": [RECORD, TZDATA]}, {"linux-64": [WHEEL]}, [CHANNEL], "abc")
    locked = locked_for(parse(to_json_text(solved)), "linux-64")
    numpy, tzdata = locked.records
    assert {key: numpy[key] for key in numpy if key != "depends"} == {
        key: RECORD[key] for key in numpy if key != "depends"
    }
    assert sorted(numpy["depends"]) == sorted(RECORD["depends"])
    assert (tzdata["subdir"], tzdata["channel"]) == ("noarch", CHANNEL)
    assert locked.pip == [{key: WHEEL[key] for key in ("name", "version", "url", "hash")}]


def test_a_build_gets_the_packages_of_its_platform_and_of_the_usual_categories() -> None:
    posted = copy.deepcopy(POSTED)
    first = posted["package"][0]
    posted["package"] += [
        {**first, "category": "dev", "optional": True},
        {**first, "name": "extra", "category": "docs", "optional": True},
        {**first, "name": "other", "platform": "osx-arm64"},
    ]
    records, pip = locked_for(parse(json.dumps(posted)), "linux-64")
    assert [record["name"] for record in records] == ["_libgcc_mutex"]
    assert [entry["name"] for entry in pip] == ["flask"]


def test_a_url_may_escape_what_its_file_name_holds() -> None:
    url = f"{CHANNEL}/linux-64/x-1%212.0-0.tar.bz2"
    locked = locked_for(parse(changed(["package", 0, "url"], url)), "linux-64")
    assert locked.records[0]["fn"] == "x-1!2.0-0.tar.bz2"
    assert locked.records[0]["url"] == url


def test_a_pip_package_says_what_it_requires_without_an_extra() -> None:
    requires = ["Click>=8.1", "colorama", 'tomli; python_version < "3"', 'pytest; extra == "test"']
    wheel = {**WHEEL, "requires": [*requires, "what is this"]}

    (package,) = from_records({}, {"linux-64": [wheel]}, [CHANNEL], "abc").package

    assert package.dependencies == {"click": ">=8.1", "colorama": "*"}


def test_what_a_lockfile_lacks_comes_from_what_was_installed() -> None:
    partial = conda_package(RECORD["url"], "linux-64", Hash(sha256=SHA256))
    other = conda_package(TZDATA["url"], "osx-arm64", Hash(sha256=SHA256))
    lockfile = of_packages([partial, other], ["linux-64", "osx-arm64"], [CHANNEL])

    numpy, tzdata = completed(lockfile, [RECORD]).package

    assert numpy.hash == Hash(md5=MD5, sha256=SHA256)
    assert numpy.dependencies == parse_one(RECORD).dependencies
    assert tzdata == other


def test_what_a_lockfile_says_is_not_changed_by_what_was_installed() -> None:
    given = parse_one(RECORD)
    installed = {**RECORD, "md5": "0" * 32, "sha256": "0" * 64, "depends": []}
    lockfile = of_packages([given], ["linux-64"], [CHANNEL])
    assert completed(lockfile, [installed]) == lockfile


def parse_one(record: dict[str, Any]) -> Package:
    (package,) = from_records({"linux-64": [record]}, {}, [CHANNEL], "abc").package
    return package


def test_a_package_whose_dependencies_are_not_known_says_nothing_of_them() -> None:
    package = conda_package(RECORD["url"], "linux-64", Hash(sha256=SHA256))
    lockfile = of_packages([package], ["linux-64"], [CHANNEL])
    (record,) = locked_for(lockfile, "linux-64").records
    assert "depends" not in record
    assert (record["name"], record["version"], record["build"]) == ("numpy", "1.26.4", "py311_0")
