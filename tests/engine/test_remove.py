"""Removing trees: all of them, and with a true account."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from condastore.engine.trees import remove_tree
from tests.engine.conftest import Place, run


def test_only_what_nobody_else_links_is_freed(tmp_path: Path) -> None:
    tree, kept = tmp_path / "tree", tmp_path / "kept"
    (tree / "deep" / "er").mkdir(parents=True)
    kept.write_bytes(b"x" * 1000)
    (tree / "shared").hardlink_to(kept)
    (tree / "own").write_bytes(b"x" * 100)
    (tree / "twice").write_bytes(b"x" * 10)
    (tree / "deep" / "er" / "twice").hardlink_to(tree / "twice")
    (tree / "outward").symlink_to(tmp_path)
    target_length = len(os.readlink(tree / "outward"))
    result = run({"v": 1, "job": "remove", "paths": [str(tree)]}).result
    assert result["freed_bytes"] == 100 + 10 + target_length
    assert result["files"] == 5
    assert os.listdir(tmp_path) == ["kept"]
    assert kept.stat().st_size == 1000


def test_what_is_gone_already_is_no_error(tmp_path: Path) -> None:
    single = tmp_path / "single"
    single.write_bytes(b"x" * 5)
    paths = [str(tmp_path / "absent"), str(single)]
    result = run({"v": 1, "job": "remove", "paths": paths}).result
    assert (result["freed_bytes"], result["files"]) == (5, 1)


def test_a_pace_is_kept(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(39):
        (tree / str(number)).touch()
    began = time.monotonic()
    run({"v": 1, "job": "remove", "paths": [str(tree)], "files_per_s": 40})
    assert time.monotonic() - began >= 0.9
    assert not tree.exists()


def test_a_link_is_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "file").touch()
    (tmp_path / "link").symlink_to("target")
    remove_tree(tmp_path / "link")
    assert (tmp_path / "target" / "file").exists()
    assert not (tmp_path / "link").is_symlink()


def test_deep_trees_are_removed(tmp_path: Path) -> None:
    path = str(tmp_path / "tree")
    while len(path) < 3900:
        os.mkdir(path)
        path += "/d"
    remove_tree(tmp_path / "tree")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("mode", [0o000, 0o555])
def test_read_only_directories_are_removed(mode: int) -> None:
    # Root may do anything, so it must be someone else, who can't enter pytest's own directory.
    script = (
        "import os, pathlib, sys\n"
        "from condastore.engine.trees import remove_tree\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "remove_tree(pathlib.Path(sys.argv[1]))\n"
    )
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        inner = root / "tree" / "inner"
        inner.mkdir(parents=True)
        (inner / "file").touch()
        inner.chmod(mode)
        if os.getuid() == 0:
            for path in (root, root / "tree", inner):
                os.chown(path, 65534, 65534)
        subprocess.run([sys.executable, "-c", script, str(root / "tree")], check=True)
        assert os.listdir(root) == []


def test_removing_a_prefix_leaves_the_store_as_it_was(place: Place, small_channel: Path) -> None:
    records = place.solve(small_channel, "python_abi", "six")
    size = place.build(records).result["size"]
    before = sorted(place.packages.rglob("*"))
    job = {"v": 1, "job": "remove", "paths": [str(place.prefix)]}
    assert run(job).result["freed_bytes"] == size["own_bytes"]
    assert sorted(place.packages.rglob("*")) == before
