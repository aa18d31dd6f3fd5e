"""What ext4 and btrfs do that no other file system does as they do (F23, F24, F28, F29)."""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from condastore.disk import RESERVE
from devtools.filesystems import break_ext4, limit_btrfs, read_only
from devtools.localchannel.server import Fault, serve
from tests.acceptance.harness import Daemon, assert_becomes_clean, eventually, running
from tests.acceptance.oracle import assert_sound
from tests.acceptance.test_disk import SmallDaemon, harmless, refused, served_from
from tests.mounts import mounted

LINKS_OF_EXT4 = 65_000
QUOTA = "40M"


@pytest.fixture(scope="module")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One with room for few files, and no journal, which makes it quick."""
    directory = tmp_path_factory.mktemp("ext4")
    made_with = ["-m", "0", "-N", "2000", "-O", "^has_journal"]
    with mounted("ext4", directory / "small", 96, made_with=made_with) as small:
        yield small


@pytest.fixture(scope="module")
def on_ext4(ext4: Path) -> Iterator[SmallDaemon]:
    """A daemon that is there alone; its tests leave it as it was."""
    options = ("--CondaStore.min_free_bytes=0", "--CondaStore.min_free_inodes=200")
    with served_from(ext4, *options) as daemon:
        yield daemon
        assert_sound(daemon)


def files(daemon: Daemon, name: str) -> list[Path]:
    """Returns the files of an environment that are its package's."""
    return [path for path in (daemon.link(name) / "share").iterdir() if path.is_file()]


@contextmanager
def crowded(directory: Path) -> Iterator[None]:
    """A file system without room for another file."""
    crowd = directory / "crowd"
    crowd.mkdir()
    try:
        with suppress(OSError):
            for number in range(os.statvfs(directory).f_favail):
                (crowd / str(number)).touch()
        yield
    finally:
        subprocess.run(["rm", "-r", str(crowd)], check=True)


def use_up(directory: Path) -> Path:
    """Writes until no more is taken; returns the file that took it."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 2**12):
            with pytest.raises(OSError, match="quota exceeded"):
                while True:
                    file.write(bytes(size))
    return filler


def test_F28_a_file_that_has_all_links_that_it_may_have_is_copied(
    on_ext4: SmallDaemon, ext4: Path, tiny: str
) -> None:
    on_ext4.completed(on_ext4.submit(harmless(tiny, "linked")))
    [linked] = files(on_ext4, "linked")
    assert linked.stat().st_nlink > 1
    links = ext4 / "links"
    links.mkdir()
    with pytest.raises(OSError, match="Too many links"):
        for number in range(LINKS_OF_EXT4):
            os.link(linked, links / str(number))

    on_ext4.completed(on_ext4.submit(harmless(tiny, "copied")))

    [copied] = files(on_ext4, "copied")
    assert copied.stat().st_nlink == 1
    assert copied.read_bytes() == linked.read_bytes()
    subprocess.run(["rm", "-r", str(links)], check=True)


def test_F23_inodes_run_out(on_ext4: SmallDaemon, ext4: Path, tiny: str) -> None:
    build_id = on_ext4.submit(harmless(tiny, "gone"))
    on_ext4.completed(build_id)
    with crowded(ext4):
        # Before the reserve is given up, what is free changes from one answer to the next.
        eventually(lambda: not (on_ext4.data / RESERVE).exists(), what=lambda: on_ext4.problem)
        on_ext4.knows("min_free_inodes")
        assert "min_free_inodes" in refused(on_ext4, tiny, build_id)
        assert on_ext4.request("DELETE", "/environment/default/gone/").status_code == 200
        eventually(lambda: not on_ext4.link("gone").is_symlink())
    on_ext4.knows()
    on_ext4.completed(on_ext4.submit(harmless(tiny, "after")))
    assert_becomes_clean(on_ext4)


def test_F29_a_store_that_becomes_read_only(on_ext4: SmallDaemon, ext4: Path, tiny: str) -> None:
    """What is there is served, nothing is begun, and what was asked for is done afterwards."""
    build_id = on_ext4.submit(harmless(tiny, "kept"))
    on_ext4.completed(build_id)
    with read_only(ext4):
        on_ext4.knows("mounted read-only")
        assert "mounted read-only" in refused(on_ext4, tiny, build_id)
        assert on_ext4.log(build_id) and files(on_ext4, "kept")
    on_ext4.knows()
    on_ext4.completed(on_ext4.submit(harmless(tiny, "after")))
    assert_becomes_clean(on_ext4)


@pytest.mark.sqlite
def test_F29_an_ext4_that_finds_an_error_below_a_daemon(tmp_path: Path, tiny: str) -> None:
    """Nothing can be written any more, whatever it is; what is there is served and used."""
    with (
        mounted("ext4", tmp_path / "small", 96, "errors=remount-ro") as small,
        served_from(small, "--CondaStore.min_free_bytes=0") as daemon,
    ):
        build_id = daemon.submit(harmless(tiny, "kept"))
        daemon.completed(build_id)
        daemon.query("PRAGMA wal_checkpoint")
        # What was written to memory that is a file is on the disk, too.
        os.sync()
        break_ext4(small)
        daemon.knows("read-only")
        assert "read-only" in refused(daemon, tiny)
        answer = daemon.request("DELETE", "/environment/default/kept/")
        assert answer.status_code in (503, 507), answer.text
        assert daemon.build(build_id)["status"] == "COMPLETED"
        assert daemon.log(build_id) and files(daemon, "kept")
        assert daemon.process is not None and daemon.process.poll() is None


def test_F24_a_quota_that_is_used_up_during_a_build(
    tmp_path: Path, tiny: str, hostile_directory: Path
) -> None:
    arrives = threading.Event()
    with (
        mounted("btrfs", tmp_path / "small", 256) as small,
        serve(hostile_directory, faults={"*harmless*": Fault(until=arrives)}) as server,
        running(
            tmp_path / "data",
            f"--CondaStore.store_directory={small / 'state'}",
            "--CondaStore.min_free_bytes=0",
        ) as daemon,
    ):
        limit_btrfs(small, QUOTA)
        build_id = daemon.submit(harmless(server.url, "env"))
        daemon.wait_for_event(build_id, "fetch")
        filler = use_up(small)
        arrives.set()
        build = daemon.ended(build_id)
        assert build["status"] == "FAILED"
        assert "Disk quota exceeded" in build["status_info"]
        eventually(lambda: "quota" in (daemon.data_of("/health/")["disk"] or ""))
        assert "quota" in refused(daemon, tiny)
        filler.unlink()
        eventually(lambda: daemon.data_of("/health/")["disk"] is None)
        daemon.completed(daemon.submit(harmless(tiny, "env")))


def test_F24_a_quota_that_is_used_up_at_the_start(tmp_path: Path, tiny: str) -> None:
    """Also the database is below it; SQLite calls that an error of input and output."""
    with (
        mounted("btrfs", tmp_path / "small", 256) as small,
        served_from(small, "--CondaStore.min_free_bytes=0") as daemon,
    ):
        daemon.completed(daemon.submit(harmless(tiny, "gone")))
        eventually((daemon.data / ".reserve").is_dir)
        daemon.kill()
        limit_btrfs(small, QUOTA)
        use_up(small)
        daemon.start()
        assert "quota" in refused(daemon, tiny)
        assert daemon.request("DELETE", "/environment/default/gone/").status_code == 200
        eventually(lambda: daemon.data_of("/environment/") == [])
        limit_btrfs(small, "none")
        daemon.knows()
        daemon.completed(daemon.submit(harmless(tiny, "after")))
        assert_sound(daemon)
