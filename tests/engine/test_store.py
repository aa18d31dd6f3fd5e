"""The package store: what gets in, what stays out, and what is left when something fails."""

import hashlib
import json
import os
import shutil
import signal
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from condastore.engine.events import EngineError
from condastore.engine.validate import validate
from devtools.localchannel.package import zip_conda
from devtools.localchannel.rawpackage import RawMember, compressed_tar, path_entry
from devtools.localchannel.server import Fault, serve
from tests.engine.conftest import LIMITS, Place, Record, child, remain, run, wait_until


def packages(place: Place) -> list[str]:
    """The names of the entries of the store."""
    store = place.packages / "store"
    return sorted(path.name for path in store.iterdir() if not path.suffix)


def small_records(place: Place, channel: str | Path) -> list[Record]:
    return place.solve(channel, "python_abi", "markdown-it-py")


def test_a_package_is_stored_immutable_and_durable(place: Place, small_channel: Path) -> None:
    records = place.solve(small_channel, "python", "flask")
    place.build(records)
    assert packages(place) == sorted(record["sha256"] for record in records)
    for path in (place.packages / "store").rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and path.suffix != ".durable":
            assert stat.S_IMODE(mode) in (0o444, 0o555), path
        elif stat.S_ISDIR(mode):
            assert stat.S_IMODE(mode) == 0o755, path
    assert all((place.packages / "store" / f"{name}.durable").exists() for name in packages(place))
    assert place.litter() == []


@pytest.mark.parametrize(
    ("attack", "kind"),
    [
        ("absolute-member", "package"),
        ("absolute-paths", "package"),
        ("content-mismatch", "package"),
        ("corrupt", "hash"),
        ("dotdot-member", "package"),
        ("dotdot-paths", "package"),
        ("entry-point-escape", "package"),
        ("hardlink-escape", "package"),
        ("missing-file", "package"),
        ("name-mismatch", "package"),
        ("not-a-package", "hash"),
        ("shadow-conda-meta", "package"),
        ("symlink-dotdot", "package"),
        ("symlink-escape", "package"),
        ("symlink-passwd", "package"),
        ("truncated", "hash"),
        ("wrong-sha256", "hash"),
        ("wrong-size", "hash"),
    ],
)
@pytest.mark.parametrize("served", [False, True], ids=["file", "http"])
def test_a_hostile_package_is_refused_and_leaves_nothing(
    place: Place, hostile_channel: Path, attack: str, kind: str, served: bool
) -> None:
    with serve(hostile_channel) as server:
        channel = server.url if served else hostile_channel
        outcome = place.build([record_of(hostile_channel, channel, attack)])
    assert outcome.error["kind"] == kind, outcome.error
    assert attack in outcome.error["text"]
    assert packages(place) == []
    assert place.litter() == []
    assert not place.prefix.exists()
    assert remain(hostile_channel.parent / "outside") == ["secret"]


@pytest.mark.parametrize(
    "attack",
    [
        "device",
        "duplicate-member",
        "fifo",
        "harmless",
        "setgid",
        "setuid",
        "unlisted-file",
        "world-writable",
    ],
)
def test_a_hostile_package_is_made_harmless(
    place: Place, hostile_channel: Path, attack: str
) -> None:
    outcome = place.build([record_of(hostile_channel, hostile_channel, attack)])
    if outcome.events[-1]["t"] == "error":
        # Refusing is as good; what matters is that nothing bad came out.
        assert outcome.error["kind"] == "package", outcome.error
    assert remain(hostile_channel.parent / "outside") == ["secret"]
    for path in place.prefix.rglob("*"):
        mode = path.lstat().st_mode
        assert stat.S_ISREG(mode) or stat.S_ISDIR(mode), path
        assert stat.S_IMODE(mode) & 0o7022 == 0, path
    assert not (place.prefix / "share" / "unlisted").exists()


def test_a_bomb_is_stopped_while_it_expands(place: Place, hostile_channel: Path) -> None:
    record = record_of(hostile_channel, hostile_channel, "bomb")
    outcome = place.build([record], limits={"package_bytes": 10 << 20})
    assert outcome.error["kind"] == "package"
    assert "bomb" in outcome.error["text"] and str(10 << 20) in outcome.error["text"]
    assert packages(place) == place.litter() == []


def test_too_many_files_are_refused(place: Place, tmp_path: Path) -> None:
    record = write_package(tmp_path, [RawMember(f"share/{n}", b"") for n in range(300)])
    outcome = place.build([record], limits={"package_files": 200})
    assert outcome.error["kind"] == "package" and "200 files" in outcome.error["text"]


@pytest.mark.parametrize(
    "path", ["share/line\nbreak", "share/" + "d/" * 600 + "deep", "share/\udcff"]
)
def test_names_that_break_other_tools_are_refused(place: Place, tmp_path: Path, path: str) -> None:
    outcome = place.build([write_package(tmp_path, [RawMember(path)])])
    assert outcome.error["kind"] == "package", outcome.error
    assert packages(place) == place.litter() == []


def test_set_id_files_are_refused_by_the_check_itself(tmp_path: Path) -> None:
    # Rattler takes these bits away, so no package gets that far.
    program = tmp_path / "program"
    program.touch()
    program.chmod(0o4755)
    with pytest.raises(EngineError, match="set-user-id"):
        validate(tmp_path, {"name": "x", "version": "1", "url": "u"}, LIMITS)  # type: ignore[arg-type]


def test_an_entry_point_may_not_overwrite_a_shared_file(place: Place, tmp_path: Path) -> None:
    link = {"noarch": {"type": "python", "entry_points": ["tool = os:getcwd"]}}
    record = write_package(
        tmp_path,
        [RawMember("python-scripts/tool")],
        info={"info/link.json": json.dumps(link).encode()},
    )
    assert place.build([record]).error["kind"] == "package"


def test_a_lockfile_with_md5_only_is_checked_and_completed(
    place: Place, small_channel: Path
) -> None:
    keys = ("name", "version", "url", "subdir", "depends", "md5")
    records = [{k: r[k] for k in keys} for r in small_records(place, small_channel)]
    result = place.build(records).result
    for record in result["packages"]:
        assert len(record["sha256"]) == 64 and record["size"] and record["build"]
        assert record["channel"] == small_channel.as_uri()
    records[0]["md5"] = "0" * 32
    other = place.root / "other"
    assert place.build(records, prefix=str(other)).error["kind"] == "hash"


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"sha256": None, "md5": None}, "hash"),
        ({"sha256": "../../../../tmp/x"}, "hash"),
        ({"url": "ftp://localhost/noarch/six-1.0-0.conda", "fn": None}, "spec"),
        ({"url": "https://localhost/noarch/six%00x.conda", "fn": None}, "spec"),
        ({"fn": "../six-1.0-0.conda"}, "spec"),
        ({"url": "https://localhost/noarch/six.zip", "fn": None}, "spec"),
    ],
)
def test_records_of_a_lockfile_are_not_believed(
    place: Place, small_channel: Path, change: dict[str, Any], kind: str
) -> None:
    record = small_records(place, small_channel)[0]
    assert place.build([{**record, **change}]).error["kind"] == kind


def test_transient_failures_are_tried_again(place: Place, small_channel: Path) -> None:
    with serve(small_channel) as server:
        records = small_records(place, server.url)
        server.faults = {
            "*/python_abi*": Fault(status=503, times=2),
            "*/markdown*": Fault(truncate=1000, times=1),
        }
        place.build(records)
        assert packages(place) == sorted(record["sha256"] for record in records)
        # A server that is busy is asked once more for how long, which counts for no attempt.
        assert server.requests[path_of(records, "python_abi")] == 5


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(status=404), "network"),
        (Fault(status=403), "auth"),
        (Fault(drip=40), "network"),
        (Fault(delay=20), "network"),
        (Fault(truncate=1000), "network"),
    ],
)
def test_a_download_that_fails_says_which(
    place: Place, small_channel: Path, fault: Fault, kind: str
) -> None:
    with serve(small_channel) as server:
        records = small_records(place, server.url)
        server.faults = {"*/markdown*": fault}
        outcome = place.build(records, limits={"stall_s": 1})
    assert outcome.error["kind"] == kind
    assert "markdown-it-py" in outcome.error["text"]
    assert place.litter() == []


def test_builds_share_one_download_and_do_not_wait_for_others(
    place: Place, small_channel: Path
) -> None:
    with serve(small_channel) as server:
        records = place.solve(server.url, "six", "markdown-it-py")
        cached = [record for record in records if record["name"] != "markdown-it-py"]
        place.build(cached, prefix=str(place.root / "cached"))
        server.faults = {"*/markdown*": Fault(delay=3)}
        with child() as first, child() as second, child() as third:
            for number, running in enumerate([first, second]):
                running.send(place.build_job(records, prefix=str(place.root / f"p{number}")))
            wait_until(lambda: bool(server.requests[path_of(records, "markdown-it-py")]))
            third.send(place.build_job(cached, prefix=str(place.root / "p2")))
            assert third.finish().result
            assert first.process.poll() is None and second.process.poll() is None
            assert first.finish().result and second.finish().result
        assert server.requests[path_of(records, "markdown-it-py")] == 1
    assert place.litter() == []


def test_same_named_packages_of_two_channels_do_not_mix(place: Place, tmp_path: Path) -> None:
    for channel in ("one", "two"):
        content = channel.encode()
        record = write_package(tmp_path / channel, [RawMember("share/which", content)])
        prefix = tmp_path / f"prefix-{channel}"
        place.build([record], prefix=str(prefix))
        assert (prefix / "share" / "which").read_bytes() == content
    assert len(packages(place)) == 2


def test_F06_a_killed_build_leaves_only_what_the_next_one_removes(
    place: Place, hostile_channel: Path, small_channel: Path
) -> None:
    record = record_of(hostile_channel, hostile_channel, "bomb")
    with child() as killed:
        killed.send(place.build_job([record]))
        wait_until(lambda: any((place.packages / "work").glob("*/*/share/bomb")))
        os.killpg(killed.process.pid, signal.SIGKILL)
        killed.process.wait()
    assert packages(place) == []
    assert any(name.endswith("share/bomb") for name in place.litter())
    place.build(small_records(place, small_channel))
    assert remain(place.packages / "work") == []


def test_a_live_build_is_not_swept(place: Place, hostile_channel: Path) -> None:
    record = record_of(hostile_channel, hostile_channel, "bomb")
    with child() as running:
        running.send(place.build_job([record]))
        wait_until(lambda: any((place.packages / "work").glob("*/*/share/bomb")))
        swept = run({"v": 1, "job": "sweep", "packages_dir": str(place.packages)})
        assert swept.result["removed"] == 0
        assert running.finish().result


def test_entries_that_were_never_synced_are_swept(place: Place, small_channel: Path) -> None:
    records = small_records(place, small_channel)
    place.build(records)
    doubtful = records[0]["sha256"]
    (place.packages / "store" / f"{doubtful}.durable").unlink()
    sweep = {"v": 1, "job": "sweep", "packages_dir": str(place.packages)}
    assert run(sweep).result["removed"] > 0
    assert packages(place) == sorted(r["sha256"] for r in records if r["sha256"] != doubtful)
    assert run(sweep).result["removed"] == 0
    place.build(records, prefix=str(place.root / "again"))


def test_a_full_disk_is_said_before_anything_is_fetched(place: Place, small_channel: Path) -> None:
    records = small_records(place, small_channel)
    outcome = place.build(records, limits={"disk_free_bytes": shutil.disk_usage("/").total})
    assert outcome.error["kind"] == "disk"
    assert packages(place) == []


def record_of(directory: Path, channel: str | Path, name: str) -> Record:
    """A record as the channel gives it, read without the solver."""
    repodata = json.loads((directory / "noarch" / "repodata.json").read_bytes())
    for file_name, record in repodata["packages.conda"].items():
        if record["name"] == name:
            url = channel.as_uri() if isinstance(channel, Path) else channel
            return {**record, "fn": file_name, "url": f"{url}/noarch/{file_name}", "channel": url}
    raise LookupError(name)


def write_package(
    directory: Path,
    members: list[RawMember],
    info: dict[str, bytes] | None = None,
    *,
    name: str = "odd",
    depends: Sequence[str] = (),
) -> Record:
    """Writes a package of any members, and returns its record."""
    index = {"name": name, "version": "1.0", "build": "0", "build_number": 0}
    index |= {"subdir": "noarch", "noarch": "generic", "depends": list(depends)}
    listed = [path_entry(member) for member in members if member.kind == tarfile.REGTYPE]
    try:
        paths = json.dumps({"paths": listed, "paths_version": 1}).encode()
    except UnicodeEncodeError:
        paths = b'{"paths": [], "paths_version": 1}'
    files = {"info/index.json": json.dumps(index).encode(), "info/paths.json": paths}
    files |= info or {}
    path = directory / "noarch" / f"{name}-1.0-0.conda"
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = compressed_tar([RawMember(name, data) for name, data in files.items()])
    zip_conda(path, compressed_tar(members), metadata)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {**index, "url": path.as_uri(), "sha256": digest, "size": path.stat().st_size}


def path_of(records: list[Record], name: str) -> str:
    """The path of a package below its channel."""
    (record,) = (record for record in records if record["name"] == name)
    return f"/{record['subdir']}/{record['fn']}"
