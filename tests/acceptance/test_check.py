"""`condastore check`: whatever is lost or left over is found, and mended (I15)."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from condastore.tables import Base
from devtools.servers import PostgreSQLServer
from tests.acceptance.harness import (
    DATABASE_URL,
    Daemon,
    database_of,
    eventually,
    is_clean,
    kept_database,
    query,
    running,
)
from tests.acceptance.images import assert_every_blob_is_stored, image, wait_for_image
from tests.acceptance.oracle import assert_sound, findings

# Each check costs a second of CPU, so several faults are made, found and mended at once.

SOUND = "database, disk and storage agree, and nothing is left over\n"


@pytest.fixture(scope="module")
def sound(
    tmp_path_factory: pytest.TempPathFactory, tiny: str
) -> tuple[Path, Path, Callable[[], object]]:
    """The data directory of a daemon that has stopped, all being well, a copy of it, and what
    brings its database back."""
    data = tmp_path_factory.mktemp("check") / "data"
    wanted = {"name": "kept", "channels": [tiny], "dependencies": ["harmless"]}
    with running(data) as daemon:
        for _ in range(2):
            build_id = daemon.submit(wanted)
            daemon.completed(build_id)
        daemon.request("POST", f"/build/{build_id}/artifacts/CONDA_PACK/")
        daemon.made(build_id, "CONDA_PACK")
        eventually(lambda: is_clean(daemon), what=daemon.litter)
    copy = data.with_name("copy")
    shutil.copytree(data, copy, symlinks=True)
    return data, copy, kept_database(data)


@pytest.fixture
def data(sound: tuple[Path, Path, Callable[[], object]]) -> Path:
    """That directory as it was; it can't be used elsewhere, since prefixes have their paths."""
    data, copy, restore_database = sound
    shutil.rmtree(data)
    shutil.copytree(copy, data, symlinks=True)
    restore_database()
    return data


def check(data: Path, *options: str) -> tuple[int, Any]:
    """Returns the exit status, and what was said."""
    places = [f"--data={data}", f"{DATABASE_URL}={database_of(data)}"]
    command = [sys.executable, "-m", "condastore", "check", *places, *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in run.stderr, run.stderr
    return run.returncode, json.loads(run.stdout) if "--json" in options else run


def kinds(data: Path, *options: str) -> set[str]:
    """Returns the kinds of what a check finds, which must be something."""
    status, said = check(data, "--json", *options)
    assert said["not_repaired"] == []
    assert status == (0 if options else 1)
    return {row["kind"] for row in said["findings"]}


def assert_is_sound(data: Path) -> None:
    status, said = check(data)
    assert status == 0, said.stdout
    assert said.stdout == SOUND


def rows(data: Path, sql: str) -> list[tuple[Any, ...]]:
    return query(database_of(data), sql)


def test_what_a_stopped_daemon_leaves_is_sound(data: Path) -> None:
    assert_is_sound(data)


def test_lost_files_of_a_build_are_found_and_its_environment_goes_to_another(data: Path) -> None:
    first, second = sorted(
        rows(data, "SELECT build_id, key FROM build_artifact WHERE artifact_type = 'DIRECTORY'")
    )
    shutil.rmtree(second[1])
    assert "build without its files" in kinds(data)

    assert "build without its files" in kinds(data, "--repair")

    assert_is_sound(data)
    assert os.readlink(data / "state/default/envs/kept") == first[1]
    assert rows(data, "SELECT current_build_id FROM environment") == [(first[0],)]
    (build,) = rows(data, f"SELECT status, status_info FROM build WHERE id = {second[0]}")
    assert build == ("FAILED", "its files were lost from the disk; rebuild it")
    daemon = Daemon(data).start()
    try:
        # What the archive was made of is gone, but it is still the build's.
        assert daemon.request("GET", f"/build/{second[0]}/archive/").status_code == 200
        answer = daemon.request("PUT", f"/build/{second[0]}/")
        assert answer.status_code == 200
        daemon.completed(answer.json()["data"]["build_id"])
    finally:
        assert daemon.stop() == 0
        daemon.client.close()
    assert_is_sound(data)


def test_lost_and_stray_files_are_found_and_put_away(data: Path) -> None:
    state, link = data / "state", data / "state/default/envs/kept"
    target = os.readlink(link)
    (state / "default/12345678-1-99-stray/conda-meta").mkdir(parents=True)
    (state / "gone/12345678-1-98-stray/conda-meta").mkdir(parents=True)
    link.unlink()
    link.with_name("nobody").symlink_to(target)
    (archive,) = (data / "storage/archive").iterdir()
    archive.unlink()
    (data / "storage/yaml/12345678-1-99-stray.yml").write_text("kept")
    (data / "logs/12345678-1-99-stray.log").write_text("a log")
    for litter in (".trash", ".scratch", ".pkgs/work", ".pkgs/store"):
        (state / litter / "x").mkdir()
    (state / ".pkgs/claims/x").touch()
    (data / "storage/.unfinished/x").touch()
    (data / "storage/.unfinished/dead").mkdir()
    (data / "storage/.unfinished/dead/lock").touch()
    (data / "index").mkdir(exist_ok=True)
    (data / "index/packages.sqlite").write_text("no database" * 999)
    expected = {
        "files without a build",
        "environment link that names the wrong build",
        "link of no environment",
        "artifact without its bytes",
        "stored file without a row",
        "log without a build",
        "file on its way out",
        "directory of a dead child",
        "half-made package",
        "package that was never synced",
        "claim to a package of a dead build",
        "half-written file",
        "damaged package index",
    }
    assert kinds(data) == expected
    assert kinds(data, "--repair") == expected
    assert_is_sound(data)
    assert os.readlink(link) == target
    # Nothing is thrown away of which nobody knows whether it is wanted.
    assert sorted(path.name for path in (state / ".lost").iterdir()) == [
        "default-12345678-1-99-stray",
        "gone-12345678-1-98-stray",
    ]
    assert (data / "lost/yaml-12345678-1-99-stray.yml").read_text() == "kept"
    assert (data / "lost/12345678-1-99-stray.log").read_text() == "a log"
    assert rows(data, "SELECT state FROM task WHERE kind = 'archive' ORDER BY id DESC LIMIT 1") == [
        ("QUEUED",)
    ]


# What is lost with a row of these is recorded again from what others say, or given up and told.
MENDED = {
    "blob": "manifest of which not all is recorded",
    "manifest_blob": "manifest of which not all is recorded",
    "image": "build whose image is not recorded",
    "build_artifact": "completed build without a record of its files",
}
# Others refer to a row of these, and it can't be made up.
TOLD = (
    *("namespace", "specification", "environment", "build", "manifest"),
    *("conda_channel", "conda_package", "conda_package_build"),
)
# Nothing speaks of a row of these, or nothing needs it.
SILENT = (
    *("audit_entry", "keyvaluestore", "namespace_role_mapping", "namespace_role_mapping_v2"),
    *("person", "token", "usage_sample", "layer", "task"),
)
# Tests of rows alone lose these; an image for one platform has none of the first.
ELSEWHERE = ("manifest_child", "build_conda_package_build")


def lose_row(data: Path, table: str, which: str = "") -> None:
    """Deletes a row as nothing in condastore would."""
    [(row,)] = rows(data, f"SELECT min(rowid) FROM {table} {which}")
    with closing(sqlite3.connect(data / "condastore.sqlite")) as connection, connection:
        connection.execute(f"DELETE FROM {table} WHERE rowid = ?", [row])


@pytest.mark.sqlite
def test_I15_a_lost_row_of_any_table_is_found_and_mended_or_told(data: Path, tiny: str) -> None:
    assert {*MENDED, *TOLD, *SILENT, *ELSEWHERE} == Base.metadata.tables.keys()
    with running(data) as daemon:
        digest = image(daemon, 2)
        eventually(lambda: is_clean(daemon), what=daemon.litter)
    for table in SILENT:
        lose_row(data, table)
    assert findings(daemon) == []

    lose_row(data, "build_artifact", "WHERE artifact_type = 'DIRECTORY'")
    lose_row(data, "image")
    lose_row(data, "manifest_blob")
    lose_row(data, "blob", "WHERE digest = (SELECT max(blob_digest) FROM manifest_blob)")
    mended = findings(daemon, "--repair")
    assert {row["kind"] for row in mended} >= set(MENDED.values())
    assert findings(daemon) == []
    with running(data) as daemon:
        assert wait_for_image(daemon, 2) == digest
        assert_every_blob_is_stored(daemon)
        eventually(lambda: is_clean(daemon), what=daemon.litter)

    lose_row(data, "build_conda_package_build", "WHERE build_id = 2")
    [found] = findings(daemon)
    assert found["kind"] == "build of whose packages some are not recorded"
    restore = kept_database(data)
    for table in TOLD:
        lose_row(data, table)
        subjects = [row["subject"] for row in findings(daemon)]
        assert any(subject.endswith(f"refers to no row of {table}") for subject in subjects), table
        restore()
    for table in TOLD:
        lose_row(data, table)
    assert check(data, "--repair")[0] == 1
    with running(data) as daemon:
        for page in ("/ui/build/2/", "/api/v1/build/2/", "/ui/environment/default/kept/"):
            assert daemon.client.get(f"{daemon.url}{page}").status_code == 404, page
        wanted = {"name": "new", "channels": [tiny], "dependencies": ["harmless"]}
        daemon.completed(daemon.submit(wanted))
        assert (daemon.link("new") / "share/harmless").read_text() == "attacked"


def test_a_flipped_bit_is_found_and_its_package_fetched_anew(data: Path, tiny: str) -> None:
    """F31"""
    [package] = [path for path in (data / "state/.pkgs/store").iterdir() if path.is_dir()]
    file = package / "share/harmless"
    # As the build made them; the fixture's copy has lost that.
    for prefix in rows(data, "SELECT key FROM build_artifact WHERE artifact_type = 'DIRECTORY'"):
        shared = Path(prefix[0]) / "share/harmless"
        shared.unlink()
        shared.hardlink_to(file)
    file.chmod(0o644)
    file.write_text("attackee")
    assert check(data)[0] == 0
    status, said = check(data, "--hashes", "--json")
    assert status == 1
    damaged, *environments = said["findings"]
    assert damaged["kind"] == "damaged package"
    assert "share/harmless has another content" in damaged["subject"]
    assert [found["kind"] for found in environments] == ["environment with a damaged file"] * 2
    assert "default/kept: build 1 shares share/harmless" in environments[0]["subject"]

    status, said = check(data, "--hashes", "--repair")
    # Only its owner can say when an environment is built again.
    assert status == 1
    assert "1 problems are mended; these are left" in said.stdout
    assert "environment with a damaged file" in said.stdout
    assert "1 of 1 packages, 0 MB read" in said.stderr
    assert not package.exists()
    assert (data / f"state/.lost/store-{package.name}/share/harmless").is_file()

    status, said = check(data, "--hashes", "--json")
    [gone] = said["findings"]
    assert status == 0
    assert (gone["kind"], gone["is_problem"]) == ("package that is gone from the store", False)
    assert "build 1 (default/kept), build 2 (default/kept)" in gone["subject"]
    assert_is_sound(data)
    daemon = Daemon(data).start()
    try:
        build_id = daemon.submit({"name": "new", "channels": [tiny], "dependencies": ["harmless"]})
        daemon.completed(build_id)
        assert (daemon.link("new") / "share/harmless").read_text() == "attacked"
        assert daemon.stop() == 0
    finally:
        daemon.client.close()
    status, said = check(data, "--hashes")
    assert (status, said.stdout) == (0, SOUND)


def test_a_database_of_yesterday_destroys_nothing_that_was_made_since(
    data: Path, tiny: str
) -> None:
    """F40"""
    link = data / "state/default/envs/kept"
    restore_yesterday, before = kept_database(data), os.readlink(link)
    with running(data) as daemon:
        build_id = daemon.submit({"name": "kept", "channels": [tiny], "dependencies": ["harmless"]})
        daemon.completed(build_id)
        image(daemon, build_id)
        eventually(lambda: is_clean(daemon), what=daemon.litter)
    made = os.readlink(link)
    assert made != before
    blobs = {path for path in (data / "storage/blobs").rglob("*") if path.is_file()}
    stored = set((data / "storage").rglob(f"*{Path(made).name}*"))
    assert blobs and stored

    restore_yesterday()
    expected = {
        "files without a build",
        "environment link that names the wrong build",
        "stored file without a row",
    }
    assert kinds(data) == expected
    assert kinds(data, "--repair") == expected

    assert_is_sound(data)
    assert os.readlink(link) == before
    assert (data / f"state/.lost/default-{Path(made).name}/share/harmless").is_file()
    lost = {path.name for path in (data / "lost").iterdir()}
    assert lost >= {f"{path.parent.name}-{path.name}" for path in stored}
    # A daemon leaves them as well, also when it collects, and takes numbers anew.
    with running(data) as daemon:
        assert daemon.request("DELETE", "/build/1/").status_code == 200
        daemon.completed(
            daemon.submit({"name": "kept", "channels": [tiny], "dependencies": ["harmless"]})
        )
        eventually(lambda: is_clean(daemon), what=daemon.litter)
    assert all(path.is_file() for path in blobs)
    assert_is_sound(data)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_F100_a_backup_that_is_made_while_builds_run_can_be_restored(
    kind: str, tmp_path: Path, tiny: str, request: pytest.FixtureRequest
) -> None:
    data, backup = tmp_path / "data", tmp_path / "backup"
    wanted = {"name": "kept", "channels": [tiny], "dependencies": ["harmless"]}
    url, back_up = f"sqlite:///{data / 'condastore.sqlite'}", partial(copy_sqlite, data, backup)
    if kind == "postgresql":
        server = request.getfixturevalue("postgresql")
        name = f"backup_{uuid.uuid4().hex[:12]}"
        url, back_up = empty_database(server, name), partial(dump_postgresql, server, name)
    backup.mkdir()
    with running(data, f"{DATABASE_URL}={url}") as daemon, ThreadPoolExecutor(2) as threads:
        daemon.completed(daemon.submit(wanted))
        over = threading.Event()
        built: list[int] = []
        made: list[str] = []
        building = threads.submit(keep_building, daemon, wanted, built, over)
        writing = threads.submit(make_namespaces, daemon, made, over)
        eventually(lambda: built and len(made) > 5)
        acknowledged = set(built), set(made)
        restore = back_up()
        so_far = len(built), len(made)
        for name in ("logs", "secret", "state", "storage"):
            # It complains of what vanishes meanwhile.
            subprocess.run(["cp", "-a", data / name, backup / name], capture_output=True)
        # One of two that end from now on was begun after the backup.
        eventually(lambda: len(built) > so_far[0] + 1 and len(made) > so_far[1] + 1)
        over.set()
        building.result()
        writing.result()
        daemon.kill()
        data.rename(tmp_path / "lost")
        backup.rename(data)
        restore()

        findings(daemon, "--repair")
        assert findings(daemon) == []
        daemon.start()
        assert (daemon.link("kept") / "share/harmless").read_text() == "attacked"
        builds = {build_id for (build_id,) in daemon.query("SELECT id FROM build")}
        names = {name for (name,) in daemon.query("SELECT name FROM namespace")}
        assert acknowledged[0] <= builds and not set(built) <= builds
        assert acknowledged[1] <= names and not set(made) <= names
        for build_id in builds:
            daemon.completed(build_id)
        daemon.completed(daemon.submit(wanted))
        assert_sound(daemon)


def keep_building(
    daemon: Daemon, wanted: dict[str, Any], built: list[int], over: threading.Event
) -> None:
    """Builds the same again and again, and notes what is completed."""
    while not over.is_set():
        built.append(daemon.completed(daemon.submit(wanted))["id"])


def make_namespaces(daemon: Daemon, made: list[str], over: threading.Event) -> None:
    """Makes one after the other, and notes those that were acknowledged."""
    while not over.is_set():
        name = f"space{len(made)}"
        answer = daemon.request("POST", f"/namespace/{name}/")
        assert answer.status_code == 200, answer.text
        made.append(name)


def copy_sqlite(data: Path, backup: Path) -> Callable[[], object]:
    """Copies the database; returns what there is to do when the copy is where it belongs."""
    with (
        closing(sqlite3.connect(data / "condastore.sqlite")) as source,
        closing(sqlite3.connect(backup / "condastore.sqlite")) as target,
    ):
        source.backup(target)
    return lambda: None


def empty_database(server: PostgreSQLServer, name: str) -> str:
    """Makes a database and returns its URL."""
    query(server.url(), f"CREATE DATABASE {name}")
    return f"{server.url().rpartition('/')[0]}/{name}"


def dump_postgresql(server: PostgreSQLServer, name: str) -> Callable[[], object]:
    """Dumps the database; returns what puts the dump into a new one, when the old one is lost."""
    url = f"{server.url().rpartition('/')[0]}/{name}"
    dump = server.dump(url)

    def restore() -> None:
        query(server.url(), f"DROP DATABASE {name} WITH (FORCE)")
        server.restore(empty_database(server, name), dump)

    return restore


def test_what_claims_to_run_is_queued_again(data: Path) -> None:
    rows(data, "UPDATE task SET state = 'RUNNING', lease_owner = 'x' WHERE id = 1")
    rows(data, "UPDATE build SET status = 'QUEUED' WHERE id = 1")
    assert kinds(data) == {"task that claims to run"}
    assert kinds(data, "--repair") == {"task that claims to run"}
    assert_is_sound(data)


def test_a_daemon_that_runs_is_not_disturbed(data: Path, tiny: str) -> None:
    with running(data) as daemon:
        status, said = check(data, "--repair")
        assert status == 2
        (sentence,) = said.stderr.splitlines()
        assert f"another condastore (process {daemon.pid}) uses {data}" in sentence
        wanted = {"name": "kept", "channels": [tiny], "dependencies": ["harmless"]}
        daemon.completed(daemon.submit(wanted))


def test_what_can_not_be_checked_ends_with_two(tmp_path: Path) -> None:
    assert check(tmp_path / "nothing")[0] == 2
    assert not (tmp_path / "nothing").exists()
    assert check(tmp_path, "--dance")[0] == 2
