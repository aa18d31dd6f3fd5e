from typing import Any

import pytest

from condastore import environment_yaml
from condastore.errors import InvalidSpecification
from condastore.policy import apply_settings
from condastore.settings import Settings


def applied(specification: dict[str, Any], **settings: tuple[str, ...]) -> dict[str, Any]:
    """The stored form of a specification after settings were applied."""
    in_force = Settings(
        default_uid=None,
        default_gid=None,
        conda_platforms=("linux-64", "noarch"),
        conda_solve_platforms=("linux-64",),
        **settings,  # type: ignore[arg-type]
    )
    value = environment_yaml.from_value({"name": "x", **specification})
    return apply_settings(value, in_force).as_dict()


def refusal(specification: dict[str, Any], **settings: tuple[str, ...]) -> str:
    """The message with which settings refuse a specification."""
    with pytest.raises(InvalidSpecification) as caught:
        applied(specification, **settings)
    return str(caught.value)


def test_channels_default_only_when_there_are_none() -> None:
    defaults = ("a", "b")
    assert applied({}, conda_default_channels=defaults)["channels"] == ["a", "b"]
    assert applied({"channels": ["c"]}, conda_default_channels=defaults)["channels"] == ["c"]


def test_allowed_channels_keep_their_short_names() -> None:
    specification = {"channels": ["https://conda.anaconda.org/a", "a"]}
    assert applied(specification, conda_allowed_channels=("a",))["channels"] == [
        "https://conda.anaconda.org/a",
        "a",
    ]


@pytest.mark.parametrize(
    "specification",
    [{"channels": ["a", "b"]}, {"channels": ["a"], "dependencies": ["b::numpy"]}],
)
def test_other_channels_are_refused_wherever_they_are_named(specification: dict[str, Any]) -> None:
    assert refusal(specification, conda_allowed_channels=("a",)) == (
        "Conda channels {'https://conda.anaconda.org/b'} not allowed in specification"
    )


def test_default_channels_must_be_allowed_too() -> None:
    assert "conda-forge" in refusal({}, conda_allowed_channels=("a",))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["a"], ["a", {"pip": ["flask", "--trusted-host h"]}]),
        ([{"pip": ["b"]}, "a"], [{"pip": ["b", "--trusted-host h"]}, "a"]),
        ([{"pip": []}, {"pip": []}], [{"pip": ["flask", "--trusted-host h"]}, {"pip": []}]),
        (["a", {"pip": ["--trusted-host h"]}], ["a", {"pip": ["--trusted-host h"]}]),
    ],
)
def test_pypi_defaults_and_included_packages(before: list[Any], after: list[Any]) -> None:
    result = applied(
        {"dependencies": before},
        pypi_default_packages=("flask",),
        pypi_included_packages=("--trusted-host h",),
    )
    assert result["dependencies"] == after


def test_pypi_names_are_compared_normalised() -> None:
    dependencies = [{"pip": ["Zope_Interface>=5"]}]
    result = applied(
        {"dependencies": dependencies},
        pypi_included_packages=("zope.interface",),
        pypi_required_packages=("zope-interface==1",),
    )
    assert result["dependencies"] == dependencies


def test_missing_pypi_packages_are_named() -> None:
    assert refusal({"dependencies": ["b"]}, pypi_required_packages=("b", "a>1")) == (
        "PyPi packages {'a', 'b'} required and missing from specification"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], ["python", "ipykernel>=6"]),
        (["numpy"], ["numpy", "ipykernel>=6"]),
        (["IPykernel=5"], ["IPykernel=5"]),
        ([{"pip": ["ipykernel"]}], [{"pip": ["ipykernel"]}, "ipykernel>=6"]),
    ],
)
def test_conda_defaults_and_included_packages(before: list[Any], after: list[Any]) -> None:
    result = applied(
        {"dependencies": before},
        conda_default_packages=("python",),
        conda_included_packages=("ipykernel>=6",),
    )
    assert result["dependencies"] == after


def test_conda_defaults_do_not_count_where_pypi_ones_were_added() -> None:
    result = applied({}, pypi_default_packages=("flask",), conda_default_packages=("python",))
    assert result["dependencies"] == [{"pip": ["flask"]}]


def test_missing_conda_packages_are_named() -> None:
    dependencies = ["conda-forge::numpy", {"pip": ["a"]}]
    assert refusal({"dependencies": dependencies}, conda_required_packages=("numpy", "a>1")) == (
        "Conda packages {'a'} required and missing from specification"
    )
