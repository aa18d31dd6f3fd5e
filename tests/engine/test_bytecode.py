"""Compiled files: made once for all prefixes, valid, and never wrong."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from devtools import refusing
from tests.engine.conftest import Place, Record, child, remain

FLASK = Path("lib/python3.11/site-packages/flask")


@pytest.fixture
def records(place: Place, small_channel: Path) -> list[Record]:
    return place.solve(small_channel, "python 3.11.*", "flask")


def compiled(prefix: Path) -> dict[str, Path]:
    caches = (prefix / "lib/python3.11/site-packages").rglob("*.pyc")
    return {str(path.relative_to(prefix)): path for path in caches}


def assert_is_used(prefix: Path, *modules: str) -> None:
    """Python takes these modules of Flask from their compiled files, and so all else."""
    said = subprocess.run(
        [prefix / "bin" / "python", "-v", "-c", "import flask"],
        capture_output=True,
        text=True,
        check=True,
        env={},
    ).stderr
    for module in modules:
        cached = prefix / FLASK / "__pycache__" / f"{module}.cpython-311.pyc"
        assert f"{cached} matches {prefix / FLASK / module}.py" in said
    assert "wrote" not in said


def test_python_uses_the_compiled_files(place: Place, records: list[Record]) -> None:
    place.build(records)
    assert_is_used(place.prefix, "app", "cli")


@pytest.mark.parametrize("refusal", ["EPERM", "EXDEV", "EMLINK"])
def test_F26_F27_F28_without_hard_links_a_prefix_has_copies(
    place: Place, records: list[Record], refusal: str
) -> None:
    with child(before=[sys.executable, refusing.__file__, refusal]) as started:
        started.send(place.build_job(records))
        size = started.finish().result["size"]
    files = [path for path in place.prefix.rglob("*") if path.is_file() and not path.is_symlink()]
    assert all(path.stat().st_nlink == 1 for path in files)
    assert size["own_bytes"] == size["bytes"]
    assert place.litter() == []
    linked = place.root / "linked"
    place.build(records, prefix=str(linked))
    assert remain(place.prefix) == remain(linked)
    assert_is_used(place.prefix, "app", "cli")
    cached = FLASK / "__pycache__" / "app.cpython-311.pyc"
    copy, link = place.prefix / cached, linked / cached
    assert link.stat().st_nlink > 1 and copy.read_bytes() == link.read_bytes()


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


def test_copied_sources_get_bytecode_of_their_own(place: Place, records: list[Record]) -> None:
    # With link scripts the prefix has copies, and so nothing that a script could spoil for others.
    place.build(records, link_scripts=True)
    assert_is_used(place.prefix, "app")
    assert all(path.stat().st_nlink == 1 for path in compiled(place.prefix).values())


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
