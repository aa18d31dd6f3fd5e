"""Where prefixes are, and how they come and go."""

import os
from pathlib import Path

import pytest

from condastore.configuration import CondaStore
from condastore.errors import BuildError
from condastore.prefixes import Store, trees_of
from tests.mounts import mounted


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store.of(CondaStore(data_directory=str(tmp_path)))
    found.make()
    return found


def test_the_places_are_those_of_the_contract(tmp_path: Path, store: Store) -> None:
    root = tmp_path / "state"
    assert store.prefix("ns", 2, "key") == root / "ns" / "key"
    assert store.prefix("ns", 3, "key") == root / "key"
    assert store.environment_link("ns", "env") == root / "ns" / "envs" / "env"


def test_templates_may_put_them_elsewhere(tmp_path: Path) -> None:
    config = CondaStore(
        store_directory=str(tmp_path),
        build_directory="{store_directory}/builds/{namespace}",
        environment_directory="/links/{namespace}-{name}",
    )
    store = Store.of(config)
    assert store.prefix("ns", 1, "key") == tmp_path / "builds" / "ns" / "key"
    assert store.prefix("ns", 3, "key") == tmp_path / "builds" / "key"
    assert store.environment_link("ns", "env") == Path("/links/ns-env")


def test_a_prefix_that_packages_could_not_hold_is_refused(tmp_path: Path, store: Store) -> None:
    room = 255 - len(str(tmp_path / "state" / "ns")) - 1
    assert len(str(store.prefix("ns", 2, "x" * room))) == 255
    with pytest.raises(BuildError, match="build_path too long: must be <= 255 characters"):
        store.prefix("ns", 2, "x" * (room + 1))


def test_a_link_is_switched_and_removed(tmp_path: Path, store: Store) -> None:
    link = store.environment_link("ns", "env")
    for name in ("one", "two"):
        store.publish(link, tmp_path / name)
        assert os.readlink(link) == str(tmp_path / name)
    store.unpublish(link)
    assert not link.is_symlink()
    store.unpublish(link)


def test_a_link_that_is_right_is_not_touched(tmp_path: Path, store: Store) -> None:
    link = store.environment_link("ns", "env")
    store.publish(link, tmp_path)
    before = link.lstat()
    store.publish(link, tmp_path)
    assert (link.lstat().st_ino, link.lstat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_is_no_link_is_not_removed(store: Store) -> None:
    link = store.environment_link("ns", "env")
    link.mkdir(parents=True)
    store.unpublish(link)
    assert link.is_dir()


def test_a_discarded_prefix_is_gone_at_once_and_whole_in_the_trash(store: Store) -> None:
    prefix = store.prefix("ns", 2, "key")
    prefix.mkdir(parents=True)
    (prefix / "file").write_text("text")
    [discarded] = store.discard(prefix)
    assert discarded.parent == store.trash
    assert (discarded / "file").read_text() == "text"
    assert not prefix.exists()


def test_what_the_trash_still_has_of_a_prefix_is_found_again(store: Store) -> None:
    """A removal that a crash cut off is done again, and counts all that comes free."""
    prefix, other = store.prefix("ns", 2, "key"), store.prefix("ns", 2, "other")
    for path in (prefix, other, prefix):
        path.mkdir(parents=True)
        store.discard(path)
    assert len(store.discard(prefix)) == 2
    assert len(store.discard(other)) == 1
    assert store.discard(store.prefix("ns", 2, "never")) == []


def test_the_longest_name_can_be_discarded(store: Store) -> None:
    prefix = store.root / ("x" * 255)
    prefix.mkdir()
    assert len(store.discard(prefix)) == 1


def test_what_the_trash_has_of_another_file_system_is_a_link_to_it(tmp_path: Path) -> None:
    """F26"""
    with mounted("tmpfs", tmp_path / "other", 8) as other:
        store = Store.of(
            CondaStore(data_directory=str(tmp_path), build_directory=f"{other}/{{namespace}}")
        )
        store.make()
        prefix = store.prefix("ns", 2, "key")
        prefix.mkdir(parents=True)
        [discarded] = store.discard(prefix)
        assert not prefix.exists() and discarded.is_dir()
        tree, link = trees_of(discarded)
        assert (link, tree.parent, tree.is_symlink()) == (discarded, prefix.parent, False)
        # A link that says anything else is not followed.
        foreign = store.trash / "foreign"
        foreign.symlink_to(prefix.parent)
        assert trees_of(foreign) == [foreign]


def test_a_link_in_the_place_of_a_prefix_is_left_alone(tmp_path: Path, store: Store) -> None:
    (tmp_path / "elsewhere").mkdir()
    prefix = store.root / "key"
    os.symlink(tmp_path / "elsewhere", prefix)
    assert store.discard(prefix) == []
    assert (tmp_path / "elsewhere").is_dir()


def test_the_free_space_is_that_of_the_store(store: Store) -> None:
    assert store.free_bytes() > 0
