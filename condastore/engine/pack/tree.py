"""What is in a prefix, found in one walk that follows no link."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from condastore.engine.events import EngineError

# Conda's own directories in a base environment, which no archive of conda-pack has.
_LEFT_OUT = {
    *("pkgs", "envs", "conda-bld", "conda-recipes", "users", "python.app", "Launcher.app"),
    *(".conda_lock", ".index", ".nonadmin", ".unionfs"),
}
_LEFT_OUT_ENDINGS = ("~", ".DS_STORE")


@dataclass
class Tree:
    """The inodes of a prefix's files and links by their paths, and its empty directories."""

    root: str
    device: int
    inodes: dict[str, int] = field(default_factory=dict)
    links: set[str] = field(default_factory=set)
    empty: set[str] = field(default_factory=set)


def walk(prefix: Path) -> Tree:
    """Raises EngineError if the prefix is gone, or has what no archive can hold."""
    try:
        tree = Tree(os.fspath(prefix), prefix.stat().st_dev)
        _walk(tree)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise EngineError("package", f"The environment is gone: {error}") from None
    if not (prefix / "conda-meta").is_dir():
        raise EngineError("package", f"{prefix} is no environment: it has no conda-meta.")
    return tree


def _walk(tree: Tree) -> None:
    inodes = tree.inodes
    directories = [""]
    for directory in directories:
        is_empty = True
        with os.scandir(os.path.join(tree.root, directory)) as entries:
            for entry in entries:
                if not directory and _is_left_out(entry.name):
                    continue
                is_empty = False
                path = directory + entry.name
                if entry.is_file(follow_symlinks=False):
                    inodes[path] = entry.inode()
                elif entry.is_dir(follow_symlinks=False):
                    directories.append(path + "/")
                elif entry.is_symlink():
                    inodes[path] = entry.inode()
                    tree.links.add(path)
                else:
                    text = f"{entry.path} is a special file: not for an archive."
                    raise EngineError("package", text)
        if is_empty and directory:
            tree.empty.add(directory[:-1])


def _is_left_out(name: str) -> bool:
    return name in _LEFT_OUT or name.endswith(_LEFT_OUT_ENDINGS)
