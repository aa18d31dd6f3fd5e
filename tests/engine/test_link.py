"""What a finished prefix is like: for its users, for conda, and beside its siblings."""

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.engine.conftest import Place, Record
from tests.engine.test_store import record_of

SPECS = ["python 3.11.*", "flask"]


@pytest.fixture
def records(place: Place, small_channel: Path) -> list[Record]:
    return place.solve(small_channel, *SPECS)


def output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, env={}).stdout


def test_a_build_tells_its_story_and_its_result(
    place: Place, small_channel: Path, records: list[Record]
) -> None:
    outcome = place.build(records, specs=SPECS, channels=[small_channel.as_uri()])
    assert outcome.status == 0
    assert outcome.phases == ["fetch", "link", "bytecode", "permissions"]
    assert "Preparing transaction:" in outcome.log
    assert "Executing transaction:" in outcome.log
    assert outcome.result["python"] == "3.11.7"
    assert {r["name"] for r in outcome.result["packages"]} == {r["name"] for r in records}
    fetched = [e for e in outcome.events if e["t"] == "progress" and e["phase"] == "fetch"][-1]
    assert fetched["done"] == fetched["total"] == len(records)
    assert fetched["bytes"] == fetched["bytes_total"] == sum(r["size"] for r in records)
    assert [event["seq"] for event in outcome.events] == list(range(1, len(outcome.events) + 1))


def test_the_environment_works(place: Place, records: list[Record]) -> None:
    place.build(records)
    python = place.prefix / "bin" / "python"
    assert output(python, "-c", "import flask, sys; print(sys.prefix)").strip() == str(place.prefix)
    assert "Flask" in output(place.prefix / "bin" / "flask", "--version")


def test_conda_can_read_what_was_asked_for(
    place: Place, small_channel: Path, records: list[Record]
) -> None:
    variables = {"GREETING": "hello"}
    place.build(records, specs=SPECS, channels=[small_channel.as_uri()], variables=variables)
    meta = place.prefix / "conda-meta"
    history = (meta / "history").read_text()
    assert history.startswith("==> ")
    assert f"# update specs: {SPECS!r}" in history
    assert f"+{small_channel.as_uri()}/noarch::flask-3.1.0-" in history
    assert json.loads((meta / "state").read_text())["env_vars"] == variables
    assert not (place.prefix / "CACHEDIR.TAG").exists()
    flask = json.loads(next(meta.glob("flask-3*.json")).read_text())
    assert flask["requested_specs"] == ["flask"]
    assert flask["channel"].rstrip("/") == small_channel.as_uri()
    assert Path(flask["extracted_package_dir"]).is_dir()


def test_others_may_read_and_only_the_owner_may_write(place: Place, records: list[Record]) -> None:
    before = os.umask(0o077)
    try:
        place.build(records)
    finally:
        os.umask(before)
    for path in [place.prefix, *place.prefix.rglob("*")]:
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode):
            assert stat.S_IMODE(mode) in (0o755, 0o644, 0o555, 0o444), path


def test_permissions_and_owner_never_reach_the_shared_files(
    place: Place, records: list[Record]
) -> None:
    owner = {"uid": 1234, "gid": 2345} if os.getuid() == 0 else {"uid": None, "gid": None}
    place.build(records, permissions="775", **owner)
    for path in [place.prefix, *place.prefix.rglob("*")]:
        status = path.lstat()
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISLNK(status.st_mode):
            continue
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            assert mode in (0o444, 0o555) and status.st_uid == os.getuid(), path
        else:
            assert mode in (0o775, 0o664), path
            assert owner["uid"] in (None, status.st_uid), path


def test_prefixes_share_their_files_and_say_how_much_is_their_own(
    place: Place, records: list[Record]
) -> None:
    sizes = [place.build(records, prefix=str(place.root / name)).result["size"] for name in "ab"]
    assert sizes[0] == sizes[1]
    assert sizes[0]["own_bytes"] < sizes[0]["bytes"] / 20
    shared = Path("lib/python3.11/site-packages/flask/__init__.py")
    assert os.path.samefile(place.root / "a" / shared, place.root / "b" / shared)


def test_the_same_packages_give_the_same_tree(place: Place, records: list[Record]) -> None:
    def tree() -> dict[str, bytes]:
        place.build(records)
        found = {
            str(path.relative_to(place.prefix)): path.read_bytes()
            for path in place.prefix.rglob("*")
            if path.is_file() and path.name != "history"
        }
        shutil.rmtree(place.prefix)
        return found

    assert tree() == tree()


def test_the_installer_gets_the_channel_of_a_lockfile_record(
    place: Place, small_channel: Path, records: list[Record]
) -> None:
    keys = ("name", "version", "url", "subdir", "depends", "sha256")
    place.build([{key: record[key] for key in keys} for record in records])
    meta = json.loads(next((place.prefix / "conda-meta").glob("flask-3*.json")).read_text())
    assert meta["channel"] == small_channel.as_uri()
    assert meta["noarch"] == "python"


def test_F53_clobbered_files_are_reported(place: Place, hostile_channel: Path) -> None:
    records = [
        record_of(hostile_channel, hostile_channel, f"clobber-{which}") for which in ("one", "two")
    ]
    outcome = place.build(records)
    assert "clobber-two has files that other packages bring: share/clobbered" in outcome.log


def test_an_existing_prefix_is_left_alone(place: Place, records: list[Record]) -> None:
    place.prefix.mkdir()
    (place.prefix / "precious").touch()
    assert place.build(records).error["kind"] == "internal"
    assert (place.prefix / "precious").exists()
