"""Which layers an image has: the same for the same packages, and mostly those of others."""

from typing import Any

import pytest

from condastore.layers import (
    FURTHER_LAYERS,
    MOST_LAYERS,
    Weight,
    Writing,
    arranged,
    layer_key,
    package_layers,
    public_url,
    python_key,
)

WRITING = Writing("/opt/env", "gzip", 2)


def record(name: str, *depends: str, subdir: str = "linux-64", **fields: Any) -> dict[str, Any]:
    url = f"https://channel.example/{subdir}/{name}-1-0.conda"
    return {
        "name": name,
        "version": "1",
        "build": "h1_0",
        "subdir": subdir,
        "url": url,
        "depends": list(depends),
        "sha256": name.encode().hex().ljust(64, "0"),
        **fields,
    }


def names(records: list[dict[str, Any]], layers: list[list[int]]) -> list[list[str]]:
    return [[records[index]["name"] for index in layer] for layer in layers]


ENVIRONMENT = [
    record("zlib"),
    record("python", "zlib"),
    record("numpy", "python", "blas"),
    record("blas"),
    record("pandas", "numpy"),
]


def test_what_needs_python_comes_after_what_does_not() -> None:
    layers = names(ENVIRONMENT, arranged(ENVIRONMENT, {}, 80))
    assert layers == [["blas"], ["zlib"], ["numpy"], ["pandas"], ["python"]]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"zlib": Weight(2, 0), "python": Weight(9, 0)}, "zlib blas python numpy pandas"),
        ({"blas": Weight(2, 1), "zlib": Weight(2, 2)}, "zlib blas numpy pandas python"),
        ({"pandas": Weight(0, 5), "numpy": Weight(1, 0)}, "blas zlib numpy pandas python"),
    ],
)
def test_the_order_is_by_popularity_size_and_name(
    weights: dict[str, Weight], expected: str
) -> None:
    layers = names(ENVIRONMENT, arranged(ENVIRONMENT, weights, 80))
    assert [name for [name] in layers] == expected.split()


def test_the_order_of_two_packages_does_not_depend_on_the_others() -> None:
    weights = {r["name"]: Weight(index % 3, index) for index, r in enumerate(ENVIRONMENT)}
    whole = [name for [name] in names(ENVIRONMENT, arranged(ENVIRONMENT, weights, 80))]
    for left_out in ("blas", "pandas", "zlib"):
        some = [r for r in ENVIRONMENT if r["name"] != left_out][::-1]
        layers = names(some, arranged(some, weights, 80))
        assert [name for [name] in layers] == [name for name in whole if name != left_out]


@pytest.mark.parametrize("budget", [2, 3, 4, 5, 80])
def test_packages_beyond_the_budget_share_the_last_layer(budget: int) -> None:
    weights = {r["name"]: Weight(1, size) for size, r in enumerate(ENVIRONMENT)}
    layers = arranged(ENVIRONMENT, weights, budget)
    assert len(layers) == min(budget, len(ENVIRONMENT))
    assert sorted(index for layer in layers for index in layer) == list(range(len(ENVIRONMENT)))
    alone = {index for layer in layers[:-1] for index in layer}
    if len(layers[-1]) > 1:
        assert min(alone) > max(layers[-1])


@pytest.mark.parametrize("base", [0, 1, 30, 101, 130])
@pytest.mark.parametrize("budget", [2, 80, 110])
def test_there_is_room_for_a_dockerfile(budget: int, base: int) -> None:
    most = package_layers(budget, base)
    assert 2 <= most <= budget
    # The libraries' and the environment's come on top.
    in_all = base + most + 2 + FURTHER_LAYERS
    assert in_all <= MOST_LAYERS or most == 2
    assert most == budget or in_all >= MOST_LAYERS


def test_no_packages_are_no_layers() -> None:
    assert arranged([], {}, 80) == []


PYTHON = ["3.11", "cpython", True]


@pytest.mark.parametrize(
    ("packages", "python", "writing"),
    [
        ([record("a", subdir="noarch", sha256="1" * 64)], PYTHON, WRITING),
        ([record("a", subdir="noarch", url="https://b.example/noarch/a.conda")], PYTHON, WRITING),
        ([record("a", subdir="noarch")], ["3.12", "cpython", True], WRITING),
        ([record("a", subdir="noarch")], ["3.11", "cpython", False], WRITING),
        ([record("a", subdir="noarch")], PYTHON, Writing("/opt/other", "gzip", 2)),
        ([record("a", subdir="noarch")], PYTHON, Writing("/opt/env", "zstd", 2)),
        ([record("a", subdir="noarch")], PYTHON, Writing("/opt/env", "gzip", 1)),
        ([record("a", subdir="noarch"), record("b")], PYTHON, WRITING),
    ],
)
def test_a_layer_is_another_if_anything_differs_that_it_depends_on(
    packages: list[dict[str, Any]], python: list[Any], writing: Writing
) -> None:
    assert layer_key(packages, python, writing) != layer_key(
        [record("a", subdir="noarch")], PYTHON, WRITING
    )


def test_a_package_for_a_platform_does_not_depend_on_the_python() -> None:
    package = [record("a")]
    assert layer_key(package, PYTHON, WRITING) == layer_key(package, None, WRITING)


def test_the_same_channel_in_another_directory_is_the_same() -> None:
    urls = (f"file://{folder}/channel/noarch/a-1-0.conda" for folder in ("/home/me", "/srv/x"))
    keys = {layer_key([record("a", url=url)], PYTHON, WRITING) for url in urls}
    assert len(keys) == 1


def test_a_url_shows_no_credentials() -> None:
    assert public_url({"url": "https://me:secret@c.example/noarch/a.conda"}) == (
        "https://c.example/noarch/a.conda"
    )


def test_the_python_of_modules() -> None:
    python = record("python", version="3.13.2", build="h9_2_cp313t")
    assert python_key([python], bytecode=True) == ["3.13", "cp313t", True]
    assert python_key([record("zlib")], bytecode=True) is None
