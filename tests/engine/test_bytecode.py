"""Compiled files: made once for all prefixes, valid, and never wrong."""

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from tests.engine.conftest import Place, Record, child

FLASK = Path("lib/python3.11/site-packages/flask")


@pytest.fixture
def records(place: Place, small_channel: Path) -> list[Record]:
    return place.solve(small_channel, "python 3.11.*", "flask")


def compiled(prefix: Path) -> dict[str, Path]:
    caches = (prefix / "lib/python3.11/site-packages").rglob("*.pyc")
    return {str(path.relative_to(prefix)): path for path in caches}


def test_python_uses_the_compiled_files(place: Place, records: list[Record]) -> None:
    place.build(records)
    said = subprocess.run(
        [place.prefix / "bin" / "python", "-v", "-c", "import flask"],
        capture_output=True,
        text=True,
        check=True,
        env={},
    ).stderr
    cached = place.prefix / FLASK / "__pycache__" / "app.cpython-311.pyc"
    assert f"{cached} matches {place.prefix / FLASK / 'app.py'}" in said
    assert "wrote" not in said


def test_every_module_is_compiled_once_for_all_prefixes(
    place: Place, records: list[Record]
) -> None:
    for name in "ab":
        place.build(records, prefix=str(place.root / name))
    first, second = compiled(place.root / "a"), compiled(place.root / "b")
    assert first.keys() == second.keys()
    for source in (place.root / "a" / FLASK).rglob("*.py"):
        name = importlib.util.cache_from_source(str(source.relative_to(place.root / "a")))
        assert os.path.samefile(first[name], second[name])
        assert first[name].stat().st_mode & 0o777 == 0o444


def test_bytecode_can_be_left_out(place: Place, records: list[Record]) -> None:
    outcome = place.build(records, bytecode=False)
    assert "bytecode" not in outcome.phases
    assert not (place.prefix / FLASK / "__pycache__").exists()


def test_copied_sources_get_no_foreign_bytecode(place: Place, records: list[Record]) -> None:
    # With link scripts the prefix has copies, whose modification times may differ.
    place.build(records, link_scripts=True)
    assert not (place.prefix / FLASK / "__pycache__").exists()


def test_an_environment_without_python_has_nothing_to_compile(
    place: Place, small_channel: Path
) -> None:
    outcome = place.build(place.solve(small_channel, "python_abi"))
    assert outcome.phases == ["fetch", "link", "permissions"]
    assert outcome.result["python"] is None


def test_two_builds_at_once_give_equal_prefixes(place: Place, records: list[Record]) -> None:
    with child() as one, child() as two:
        one.send(place.build_job(records, prefix=str(place.root / "a")))
        two.send(place.build_job(records, prefix=str(place.root / "b")))
        assert one.finish().result["size"] == two.finish().result["size"]
    first, second = compiled(place.root / "a"), compiled(place.root / "b")
    assert first.keys() == second.keys()
    assert all(os.path.samefile(first[name], second[name]) for name in first)
    assert place.litter() == []
