"""Files that appear whole or not at all."""

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condastore.files import (
    copy_file,
    fitting,
    make_directory,
    move_file,
    replace_symlink,
    sync_directory,
    write_file,
)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that were made durable, in order."""
    found: list[str] = []
    fsync = os.fsync

    def spy(fd: int) -> None:
        found.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr("os.fsync", spy)
    return found


def test_a_file_is_durable_before_its_name_is(tmp_path: Path, synced: list[str]) -> None:
    write_file(tmp_path / "a", b"data", mode=0o600)
    assert (tmp_path / "a").read_bytes() == b"data"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert [os.path.dirname(synced[0]), *synced[1:]] == [str(tmp_path), str(tmp_path)]


def test_new_directories_are_durable_from_the_top_down(tmp_path: Path, synced: list[str]) -> None:
    make_directory(tmp_path / "a" / "b")
    assert synced == [str(tmp_path), str(tmp_path / "a")]
    make_directory(tmp_path / "a" / "b")
    assert len(synced) == 2


def test_a_file_where_a_directory_must_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(OSError, match="a"):
        write_file(tmp_path / "a" / "b", b"")


def test_writing_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    for data in (b"long enough", b"short", b""):
        write_file(tmp_path / "a", data)
        assert (tmp_path / "a").read_bytes() == data
    assert os.listdir(tmp_path) == ["a"]


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    write_file(tmp_path / "a", b"old")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr("os.fsync", full)
        write_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_copy_has_the_bytes(tmp_path: Path) -> None:
    data = os.urandom(2_500_000)
    (tmp_path / "a").write_bytes(data)
    copy_file(tmp_path / "a", tmp_path / "sub" / "b")
    assert (tmp_path / "sub" / "b").read_bytes() == data
    with pytest.raises(FileNotFoundError):
        copy_file(tmp_path / "none", tmp_path / "c")


@pytest.mark.parametrize("other_file_system", [False, True])
def test_a_moved_file_is_durable_and_gone_from_where_it_was(
    tmp_path: Path,
    synced: list[str],
    monkeypatch: pytest.MonkeyPatch,
    other_file_system: bool,
) -> None:
    rename = os.rename

    def refuse(source: str | Path, target: str | Path) -> None:
        if other_file_system and Path(source).name == "a":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target)

    monkeypatch.setattr("os.rename", refuse)
    (tmp_path / "a").write_bytes(b"data")
    (tmp_path / "a").chmod(0o600)
    move_file(tmp_path / "a", tmp_path / "sub" / "b", made_in=tmp_path / "sub")
    assert (tmp_path / "sub" / "b").read_bytes() == b"data"
    assert (tmp_path / "sub" / "b").stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["sub"]
    assert os.listdir(tmp_path / "sub") == ["b"]
    assert str(tmp_path / "a") in synced
    assert synced[-2:] == [str(tmp_path / "sub"), str(tmp_path)]


def test_there_is_no_instant_without_a_link(tmp_path: Path) -> None:
    link = tmp_path / "envs" / "env"
    targets = [tmp_path / "one", tmp_path / "two"]
    replace_symlink(link, targets[0])
    done = threading.Event()
    seen = set()

    def watch() -> None:
        while not done.is_set():
            seen.add(os.readlink(link))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for number in range(100):
            replace_symlink(link, targets[number % 2])
    finally:
        done.set()
        watcher.join()
    assert seen <= {str(target) for target in targets}
    assert os.listdir(link.parent) == ["env"]


def test_what_a_crash_left_beside_a_link_is_no_hindrance(tmp_path: Path) -> None:
    os.symlink("dead", tmp_path / ".env.new")
    replace_symlink(tmp_path / "env", tmp_path / "target")
    assert os.listdir(tmp_path) == ["env"]


def test_a_directory_can_be_synced(tmp_path: Path, synced: list[str]) -> None:
    sync_directory(tmp_path)
    assert synced == [str(tmp_path)]
    with pytest.raises(NotADirectoryError):
        sync_directory(Path(__file__))


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=400))
def test_every_name_fits_and_different_names_stay_different(name: str) -> None:
    fitted = fitting(name)
    assert len(fitted.encode()) <= 255
    assert (fitted == name) == (len(name.encode()) <= 255)
    if fitted != name:
        assert fitting(name + "x") != fitted


def test_a_name_that_is_cut_keeps_its_suffix() -> None:
    assert fitting("x" * 300 + ".log").endswith(".log")
