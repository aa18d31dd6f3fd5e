"""The search in the package index, held against a plain one over the same records."""

import asyncio
import itertools
import os
import random
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rattler import Version

from condastore import package_index
from condastore.engine.events import Events
from condastore.engine.index.job import index
from condastore.errors import Unavailable
from condastore.package_index import COLUMNS, IndexedPackage, PackageIndex, PackageQuery
from tests.channels import record, write_records

NAMES = ["numpy", "numpy-tools", "NumPy.x", "percent", "a_b", "axb", "zlib", "r-base"]
# The first two are equal in conda's order, whose last word is that of their text.
VERSIONS = ["1.0", "1.0.0", "1.9", "1.10", "1.10.dev1", "1.10rc1", "1.10.post1", "2!0.1", "0.5a"]
BUILDS = ["py311h1_0", "py312h1_0", "h_1", "0"]

Row = dict[str, Any]


def write_index(root: Path) -> list[Row]:
    """Indexes three channels, and returns their packages."""
    generator = random.Random(7)
    rows: dict[tuple[str, str, str], Row] = {}
    urls = [(root / name).as_uri() for name in ("b", "a", "c")]
    for url in urls:
        kinds = [*itertools.product(NAMES, VERSIONS, BUILDS)]
        records = []
        for name, version, build in generator.sample(kinds, 90):
            records.append(record(name, version, build=build))
            row = {"channel": url, "name": name, "version": version, "builds": set()}
            rows.setdefault((url, name, version), row)["builds"].add(build)
        if url.endswith("a"):
            # Only these need the packages' own rows to be told apart.
            generator.shuffle(records)
        write_channel(root, urls, url, *records)
    return list(rows.values())


def write_channel(root: Path, urls: list[str], url: str, *records: Any) -> None:
    """Makes a channel of records, and indexes it."""
    write_records(root / url.rpartition("/")[2], *records)
    with open(os.devnull, "wb") as nowhere:
        index(job(root, urls, url), Events(nowhere.fileno()))


def job(root: Path, urls: list[str], url: str | None) -> Any:
    limits = {"download_bytes": 1 << 20, "document_bytes": 1 << 20, "records": 1000}
    return {
        "index": str(root / "index" / "packages.sqlite"),
        "channels": urls,
        "refresh": url,
        "source": url,
        "subdirs": ["noarch"],
        "limits": limits,
        "credentials": [],
        "offline": False,
    }


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PackageIndex, list[Row]]]:
    root = tmp_path_factory.mktemp("index")
    rows = write_index(root)
    found = PackageIndex(root / "index" / "packages.sqlite")
    yield found, rows
    found.close()


def plainly(rows: Sequence[Row], query: PackageQuery) -> list[tuple[str, str, str]]:
    """What the query means, without a database."""
    text = query.search.lower()
    wanted = [
        row
        for row in rows
        if (row["name"] == query.search if query.exact and text else text in row["name"].lower())
        and (not query.build or any(query.build in build for build in row["builds"]))
    ]

    def key(row: Row) -> list[Any]:
        values = {
            "channel": row["channel"],
            "name": row["name"],
            "version": (Version(row["version"]), row["version"]),
        }
        return [values[column] for column in query.order]

    wanted.sort(key=key, reverse=query.descending)
    found: dict[tuple[str, ...], Row] = {}
    for row in wanted:
        found.setdefault(tuple(row[column] for column in query.distinct or COLUMNS), row)
    return [(row["channel"], row["name"], row["version"]) for row in found.values()]


DISTINCT = [
    [*columns] for length in range(4) for columns in itertools.permutations(COLUMNS, length)
]
SORTS: list[list[str]] = [[], ["name"], ["version"], ["version", "name"], ["unknown", "channel"]]
SEARCHES: list[dict[str, Any]] = [
    {},
    {"search": "numpy"},
    {"search": "numpy", "exact": True},
    {"search": "%"},
    {"search": "A_"},
    {"search": "nothing"},
    {"search": "num" * 30_000},
    {"search": "num\0"},
    {"search": "é", "exact": True},
    {"build": "py31"},
    {"search": "num", "build": "py312"},
    {"search": "zlib", "exact": True, "build": "no such"},
]


@pytest.mark.parametrize("few", [1000, 1], ids=["few", "many"])
@pytest.mark.parametrize("distinct_on", DISTINCT, ids="-".join)
async def test_every_query_finds_what_it_means(
    scene: tuple[PackageIndex, list[Row]],
    distinct_on: list[str],
    few: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known, rows = scene
    # It remembers nothing yet.
    found = PackageIndex(known.path)
    monkeypatch.setattr(package_index, "_FEW", few)
    for sort_by, search, descending in itertools.product(SORTS, SEARCHES, (False, True)):
        query = PackageQuery(
            **search, distinct_on=distinct_on, sort_by=sort_by, descending=descending
        )
        expected = plainly(rows, query)
        page, count = await found.find(query, 0, 1000)
        assert [(row.channel, row.name, row.version) for row in page] == expected, query
        assert count == len(expected), query
        page, count = await found.find(query, 3, 5)
        assert [(row.channel, row.name, row.version) for row in page] == expected[3:8], query
        assert count == len(expected)
    found.close()


async def test_ids_are_unique_and_numbers_that_every_reader_takes(
    scene: tuple[PackageIndex, list[Row]],
) -> None:
    found, rows = scene
    page, _ = await found.find(PackageQuery(), 0, 1000)
    assert len({row.id for row in page}) == len(rows)
    assert all(0 < row.id < 2**53 for row in page)
    assert IndexedPackage("c", "n", "1", None, None).id == 7140676356773017


async def test_without_a_file_nothing_is_found_until_there_is_one(tmp_path: Path) -> None:
    found = PackageIndex(tmp_path / "index" / "packages.sqlite")
    assert await found.find(PackageQuery("x", distinct_on=["name"]), 0, 10) == ([], 0)
    assert await found.find(PackageQuery(), 0, 10) == ([], 0)
    assert await found.find(PackageQuery("num"), 0, 10) == ([], 0)
    assert await found.channels() == {}
    rows = write_index(tmp_path)
    assert (await found.find(PackageQuery("num"), 0, 10))[1]
    assert (await found.find(PackageQuery(), 0, 10))[1] == len(rows)
    assert len(await found.channels()) == 3
    found.path.unlink()
    assert await found.find(PackageQuery(), 0, 10) == ([], 0)
    assert await found.find(PackageQuery("num"), 0, 10) == ([], 0)
    found.close()


@pytest.mark.parametrize("content", [b"", b"no database " * 1000])
async def test_a_file_that_is_none_has_nothing_in_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "packages.sqlite").write_bytes(content)
    found = PackageIndex(tmp_path / "packages.sqlite")
    assert await found.find(PackageQuery(), 0, 10) == ([], 0)
    found.close()


async def test_a_file_of_another_form_has_nothing_in_it(tmp_path: Path) -> None:
    write_index(tmp_path)
    path = tmp_path / "index" / "packages.sqlite"
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version = 99")
    file.close()
    found = PackageIndex(path)
    assert await found.find(PackageQuery(), 0, 10) == ([], 0)
    found.close()


async def test_a_search_that_takes_too_long_is_given_up(
    scene: tuple[PackageIndex, list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = scene
    monkeypatch.setattr(package_index, "QUERY_S", 0.0)
    monkeypatch.setattr(package_index, "_STEPS", 1)
    with pytest.raises(Unavailable, match="takes too long"):
        await found.find(PackageQuery(), 0, 10)
    monkeypatch.undo()
    assert (await found.find(PackageQuery(), 0, 10))[1]


async def test_threads_are_few(scene: tuple[PackageIndex, list[Row]]) -> None:
    found, _ = scene
    await asyncio.gather(*(found.find(PackageQuery("num"), 0, 10) for _ in range(20)))
    names = [thread.name for thread in threading.enumerate()]
    assert sum(name.startswith("package index") for name in names) <= package_index.READERS


async def test_names_that_no_channel_has(scene: tuple[PackageIndex, list[Row]]) -> None:
    found, rows = scene
    channels = sorted({row["channel"] for row in rows})
    assert await found.unknown(channels, NAMES) == {}
    names = ["numpy", "nupmy", "zlib2", "nothing-like-it", "x" * 255, "%", "'"]
    assert await found.unknown(channels, names) == {
        "nupmy": ["numpy"],
        "zlib2": ["zlib"],
        "nothing-like-it": [],
        "x" * 255: [],
        "%": [],
        "'": [],
    }
    # What the index does not have could have any name.
    assert await found.unknown([*channels, "https://example.org/other"], names) == {}
    assert await found.unknown([], names) == {}


async def test_a_name_of_another_channel_is_unknown(tmp_path: Path) -> None:
    urls = [(tmp_path / name).as_uri() for name in ("one", "two")]
    for url, name in zip(urls, ("alpha", "beta"), strict=True):
        write_channel(tmp_path, urls, url, record(name, "1"))
    found = PackageIndex(tmp_path / "index" / "packages.sqlite")
    assert await found.unknown(urls[:1], ["alpha", "beta", "betta"]) == {"beta": [], "betta": []}
    assert await found.unknown(urls, ["alpha", "betta"]) == {"betta": ["beta"]}
    (tmp_path / "index" / "packages.sqlite").unlink()
    assert await found.unknown(urls, ["gamma"]) == {}
    found.close()
