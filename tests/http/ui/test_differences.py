"""What differs between two builds, and why a package is there."""

from dataclasses import dataclass, field

import pytest

from condastore.http.ui.differences import (
    Change,
    asked_for,
    asked_of_pip,
    compare,
    dependency_name,
    needed_by,
    pip_requirements,
    ways,
)


@dataclass(frozen=True)
class Package:
    name: str
    version: str = "1"
    build: str = "0"
    depends: list[str] = field(default_factory=list)


NOTHING: frozenset[str] = frozenset()


def test_what_came_went_and_changed() -> None:
    old = [Package("a"), Package("b"), Package("c"), Package("d", "1", "py_0")]
    new = [Package("b", "2"), Package("c"), Package("d", "1", "py_1"), Package("e")]
    found = compare(old, new, frozenset("ab"), frozenset("be"))
    assert found.added == [Change("e", None, "1", True)]
    assert found.removed == [Change("a", "1", None, True)]
    assert found.changed == [
        Change("b", "1", "2", True),
        Change("d", "1 py_0", "1 py_1", False),
    ]
    assert found.same == 1
    assert not found.is_empty


def test_the_same_is_no_difference() -> None:
    found = compare([Package("a")], [Package("a")], NOTHING, NOTHING)
    assert found.is_empty
    assert found.same == 1


def test_what_a_specification_asks_for() -> None:
    specification = {
        "dependencies": [
            "python=3.11",
            "conda-forge::NumPy >=1,<2",
            "scipy[version='>1']",
            {"pip": ["flask>=2", "rich"]},
            "not a match spec at all",
        ]
    }
    assert asked_for(specification) == {"python", "numpy", "scipy"}
    assert pip_requirements(specification) == ["flask>=2", "rich"]
    assert asked_of_pip(specification) == {"flask", "rich"}
    odd = {"dependencies": [{"pip": ["Odd_Name[x]==1", "--index-url https://host/simple", "a b"]}]}
    assert "odd-name" in asked_of_pip(odd)
    assert asked_for({"lockfile": {}}) == NOTHING


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("numpy >=1.2,<2.0a0", "numpy"),
        ("numpy>=1", "numpy"),
        ("conda-forge::Python 3.11.*", "python"),
        ("libc[version='>1']", "libc"),
        ("", ""),
    ],
)
def test_the_name_in_a_dependency(text: str, name: str) -> None:
    assert dependency_name(text) == name


def test_the_shortest_way_from_what_was_asked_for() -> None:
    packages = [
        Package("app", depends=["web >=1", "json"]),
        Package("web", depends=["markup", "app"]),
        Package("markup", depends=[]),
        Package("json", depends=["markup", "json"]),
        Package("lonely"),
    ]
    users = needed_by(packages)
    assert users["markup"] == ["json", "web"]
    assert "json" not in users["json"]
    assert ways(packages, frozenset({"app", "nowhere"})) == {
        "web": ["app"],
        "json": ["app"],
        "markup": ["app", "web"],
    }
