"""The job `index`: what it takes of a channel, what it refuses, what it leaves as it was."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from condastore.package_index import PackageIndex, PackageQuery
from devtools.localchannel.server import Fault, serve
from tests.channels import record, write_channel, write_records, write_repodata
from tests.engine.conftest import Job, Outcome, child, run

LIMITS = {
    "memory_bytes": 4 << 30,
    "download_bytes": 1 << 20,
    "document_bytes": 4 << 20,
    "records": 1000,
    "stall_s": 0.5,
}


class Scene:
    """A channel, and an index that it gets into."""

    def __init__(self, root: Path) -> None:
        self.channel = root / "channel"
        self.path = root / "index" / "packages.sqlite"

    def job(self, url: str | None = None, **changes: Any) -> Job:
        url = url or self.channel.as_uri()
        return {
            "v": 1,
            "job": "index",
            "index": str(self.path),
            "channels": [url],
            "refresh": url,
            "source": url,
            "subdirs": ["linux-64", "noarch"],
            "credentials": [],
            "offline": False,
            **changes,
            "limits": LIMITS | changes.get("limits", {}),
        }

    def index(self, url: str | None = None, **changes: Any) -> Outcome:
        return run(self.job(url, **changes))

    def found(self, **query: Any) -> list[tuple[str, str]]:
        """The names and versions that are in the index."""
        reader = PackageIndex(self.path)
        rows, count = asyncio.run(reader.find(PackageQuery(**query), 0, 10_000))
        reader.close()
        assert len(rows) == count
        return [(row.name, row.version) for row in rows]

    def files(self) -> list[str]:
        return sorted(path.name for path in self.path.parent.iterdir())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_records_of_all_subdirs_are_packages(scene: Scene) -> None:
    write_records(scene.channel, record("tool"), record("both", build="py_0"))
    write_records(
        scene.channel,
        record("both", build="h1_0", subdir="linux-64", license="BSD"),
        record("both", build="h1_1", subdir="linux-64"),
        record("both", "1.10", subdir="linux-64"),
        record("both", "1.9", subdir="linux-64"),
        subdir="linux-64",
    )
    result = scene.index().result
    assert (result["changed"], result["records"], result["left_out"]) == (True, 6, 0)
    assert scene.found() == [("both", "1.0"), ("both", "1.9"), ("both", "1.10"), ("tool", "1.0")]
    assert scene.found(build="py_") == scene.found(build="h1_1") == [("both", "1.0")]
    assert scene.files() == ["packages.sqlite"]


def test_an_unchanged_channel_changes_nothing(scene: Scene) -> None:
    write_channel(scene.channel, tool=["1.0"])
    assert scene.index().result["changed"]
    before = scene.path.stat()
    assert not scene.index().result["changed"]
    assert scene.path.stat().st_ino == before.st_ino
    # Another platform is another question.
    assert scene.index(subdirs=["noarch"]).result["changed"]


def test_a_second_channel_leaves_the_first_as_it_was(scene: Scene, tmp_path: Path) -> None:
    write_channel(scene.channel, tool=["1.0", "1.10"], zoo=["1"])
    scene.index()
    other = tmp_path / "a-channel-before-it"
    write_channel(other, tool=["1.9", "1.10"], ant=["0.5"])
    both = [scene.channel.as_uri(), other.as_uri()]
    assert scene.index(other.as_uri(), channels=both).result["records"] == 3
    assert scene.found(sort_by=["name"]) == [
        *[("ant", "0.5"), ("tool", "1.9"), ("tool", "1.10"), ("tool", "1.0"), ("tool", "1.10")],
        ("zoo", "1"),
    ]
    assert scene.found(distinct_on=["version"], search="tool", exact=True) == [
        *[("tool", "1.0"), ("tool", "1.9"), ("tool", "1.10")],
    ]
    # What is not kept goes.
    scene.index(None, refresh=None, source=None, channels=[other.as_uri()])
    assert scene.found() == [("ant", "0.5"), ("tool", "1.9"), ("tool", "1.10")]
    scene.index(None, refresh=None, source=None, channels=[])
    assert scene.found() == []


GOOD = record("good")
LEFT_OUT: dict[str, Any] = {
    "no object": 7,
    "null": None,
    "a list": [],
    "no name": {"version": "1.0", "build": "0"},
    "no version": {"name": "x", "build": "0"},
    "no build": {"name": "x", "version": "1.0"},
    "a name that is none": record("../x y"),
    "an empty name": record(""),
    "a huge name": record("x" * 100_000),
    "a name that is a number": record("x") | {"name": 7},
    "a name that is a list": record("x") | {"name": ["x"]},
    "a version that is none": record("x", "one two"),
    "a huge version": record("x", "1" + ".1" * 50_000),
    "a version that is a number": record("x") | {"version": 1.0},
    "a build that is none": record("x", build="a b"),
    "a build that is a number": record("x", build=1),
    "half a character": record("\ud800"),
    "half a character in its version": record("x", "1.0\ud800"),
    "another platform": record("x", subdir="win-64"),
    "a platform that is none": record("x", subdir=["noarch"]),
}


def test_what_is_no_record_is_left_out_and_counted(scene: Scene) -> None:
    write_records(scene.channel, *LEFT_OUT.values(), GOOD)
    result = scene.index().result
    assert (result["records"], result["left_out"]) == (1, len(LEFT_OUT))
    assert result["example"].startswith("0.conda: ")
    assert scene.found() == [("good", "1.0")]


@pytest.mark.parametrize("wrong", LEFT_OUT)
def test_a_channel_without_any_good_record_is_refused(scene: Scene, wrong: str) -> None:
    write_records(scene.channel, LEFT_OUT[wrong])
    error = scene.index().error
    assert error["kind"] == "package"
    assert "none of its 1 records can be used; 0.conda: " in error["text"]
    assert len(error["text"]) < 1000


def test_what_is_odd_in_a_good_record_does_not_matter(scene: Scene) -> None:
    odd: list[dict[str, Any]] = [
        {"license": None},
        {"license": 7},
        {"license": "x" * 10_000},
        {"license": "\ud800"},
        {"build_number": "many"},
        {"depends": None},
        {"unknown": {"a": [[[]]]}},
    ]
    for number, changes in enumerate(odd):
        odd[number] = record(f"odd-{number}", **changes)
    write_records(scene.channel, *odd)
    assert scene.index().result["left_out"] == 0
    assert len(scene.found()) == len(odd)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>", "noarch/repodata.json is not a JSON object"),
        (b"{}", "has no packages"),
        (b'{"packages": {"a": {"name": "a"', "not valid JSON, or ends too early"),
        (b'{"packages": {"a": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"packages": {"' + b"x" * (5 << 20) + b'": {}}}', "limit of 1048576 bytes"),
    ],
)
def test_a_broken_document_refuses_the_channel_and_leaves_its_index(
    scene: Scene, content: bytes, reason: str
) -> None:
    write_channel(scene.channel, tool=["1.0"])
    scene.index()
    write_repodata(scene.channel, content)
    error = scene.index().error
    assert error["kind"] == "package"
    assert reason in error["text"]
    assert scene.found() == [("tool", "1.0")]
    assert scene.files() == ["packages.sqlite"]


def test_limits_are_kept(scene: Scene) -> None:
    write_records(scene.channel, *(record(f"p{number}") for number in range(11)))
    assert "more than 10 records" in scene.index(limits={"records": 10}).error["text"]
    (scene.channel / "noarch" / "repodata.json").unlink()
    limited = scene.index(limits={"document_bytes": 1000}).error
    assert "noarch/repodata.json is larger than the limit of 1000 bytes" in limited["text"]
    limited = scene.index(limits={"download_bytes": 100}).error
    assert "larger than the limit of 100 bytes" in limited["text"]
    with serve(scene.channel) as server:
        limited = scene.index(server.url, limits={"download_bytes": 100}).error
        assert "larger than the limit of 100 bytes" in limited["text"]
    assert not scene.path.exists()


@pytest.mark.parametrize("content", [b"{", b'{"packages": {"tool": 7}}', b"[]", b"\xff"])
def test_bad_channeldata_costs_only_the_summaries(scene: Scene, content: bytes) -> None:
    write_channel(scene.channel, tool=["1.0"])
    (scene.channel / "channeldata.json").write_bytes(content)
    assert scene.index().result["records"] == 1
    assert scene.found() == [("tool", "1.0")]


def test_summaries_stay_when_only_the_repodata_changes(scene: Scene) -> None:
    write_channel(scene.channel, tool=["1.0"], other=["1.0"])
    scene.index()
    write_records(scene.channel, record("tool", "2.0"))
    scene.index()
    reader = PackageIndex(scene.path)
    rows, _ = asyncio.run(reader.find(PackageQuery(), 0, 10))
    reader.close()
    assert [(row.version, row.summary) for row in rows] == [("2.0", "about tool")]


def test_a_damaged_index_is_made_anew(scene: Scene) -> None:
    write_channel(scene.channel, tool=["1.0"])
    scene.path.parent.mkdir()
    scene.path.write_bytes(b"this is no database" * 1000)
    scene.path.with_name(".packages.sqlite.new").write_bytes(b"of a job that was killed")
    assert scene.found() == []
    scene.index()
    assert scene.found() == [("tool", "1.0")]
    assert scene.files() == ["packages.sqlite"]


def test_an_index_with_damage_inside_is_given_up(scene: Scene, tmp_path: Path) -> None:
    write_channel(scene.channel, tool=["1.0"], zoo=["1"])
    scene.index()
    content = bytearray(scene.path.read_bytes())
    # The first page has the schema, the second the channels.
    content[2 * 4096 :] = b"\xff" * (len(content) - 2 * 4096)
    scene.path.write_bytes(content)
    other = tmp_path / "other"
    write_channel(other, ant=["1.0"])
    both = [scene.channel.as_uri(), other.as_uri()]
    assert scene.index(other.as_uri(), channels=both).error["kind"] == "disk"
    scene.index(other.as_uri(), channels=both)
    assert scene.found() == [("ant", "1.0")]


def test_what_a_killed_job_left_goes_also_when_nothing_has_changed(scene: Scene) -> None:
    write_channel(scene.channel, tool=["1.0"])
    scene.index()
    scene.path.with_name(".packages.sqlite.new").write_bytes(b"half")
    assert not scene.index().result["changed"]
    assert scene.files() == ["packages.sqlite"]


# Over HTTP


def test_every_form_of_a_document_will_do_and_the_smallest_is_asked_for(scene: Scene) -> None:
    write_channel(scene.channel, tool=["1.0"])
    with serve(scene.channel) as server:
        scene.index(server.url)
        asked = dict(server.requests)
        assert asked["/noarch/repodata.json.zst"] == 1
        assert "/noarch/repodata.json" not in asked
        (scene.channel / "noarch" / "repodata.json.zst").unlink()
        server.requests.clear()
        scene.index(server.url)
        assert server.requests["/noarch/repodata.json"] == 1
        server.requests.clear()
        assert not scene.index(server.url).result["changed"]
        assert dict(server.requests) == {
            "/noarch/repodata.json": 1,
            "/linux-64/repodata.json": 1,
            "/channeldata.json": 1,
        }


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        (Fault(status=500), "network", "HTTP status 500"),
        (Fault(status=401), "auth", "HTTP status 401"),
        (Fault(status=403), "auth", "HTTP status 403"),
        (Fault(status=404), "network", "has none of linux-64/repodata.json, noarch/"),
        (Fault(truncate=50), "network", "ended after 50 of"),
        (Fault(drip=10), "network", "no data for 0.5 s"),
        (Fault(delay=5), "network", "timed out"),
        (Fault(redirect="ftp://127.0.0.1/x"), "network", "HTTP status 302|unknown url type"),
        (Fault(redirect="file:///etc/passwd"), "network", "HTTP status 302|unknown url type"),
        (Fault(redirect="/noarch/repodata.json.zst"), "network", "HTTP status 302|infinite"),
    ],
)
def test_a_channel_that_can_not_be_fetched_says_why(
    scene: Scene, fault: Fault, kind: str, reason: str
) -> None:
    write_records(scene.channel, *(record(f"p{number}") for number in range(300)))
    with serve(scene.channel, faults={"*": fault}) as server:
        error = scene.index(server.url).error
    assert error["kind"] == kind
    assert any(part in error["text"] for part in reason.split("|")), error["text"]
    assert not scene.path.exists()


def test_credentials_are_not_sent_on_to_where_a_redirect_leads(scene: Scene) -> None:
    write_channel(scene.channel, tool=["1.0"])
    with (
        serve(scene.channel, bearer="secret") as other,
        serve(scene.channel, bearer="secret") as server,
    ):
        server.faults["*"] = Fault(redirect=f"{other.url}/noarch/repodata.json.zst")
        credentials = [{"url": server.url, "bearer": "secret"}]
        assert scene.index(server.url, credentials=credentials).error["kind"] == "auth"
        assert other.requests == other.refused
        server.faults.clear()
        assert scene.index(server.url, credentials=credentials).result["records"] == 1


def test_a_kind_of_channel_that_can_not_be_indexed_is_said_to_be_one(scene: Scene) -> None:
    error = scene.index("s3://bucket/channel").error
    assert (error["kind"], "no such kind of URL" in error["text"]) == ("spec", True)


def test_a_job_that_is_killed_leaves_the_index_as_it_was(scene: Scene) -> None:
    write_channel(scene.channel, tool=["1.0"])
    with serve(scene.channel) as server:
        scene.index(server.url)
        write_channel(scene.channel, tool=["2.0"])
        server.faults["*.zst"] = Fault(delay=30)
        with child() as killed:
            killed.send(scene.job(server.url, limits={"stall_s": 60}))
            while server.requests["/noarch/repodata.json.zst"] < 2:
                assert killed.process.poll() is None
    assert scene.found() == [("tool", "1.0")]


def test_the_index_names_no_credentials(scene: Scene) -> None:
    write_channel(scene.channel, tool=["1.0"])
    with serve(scene.channel, token="tk-secret") as server:
        credentials = [{"url": server.root, "token": "tk-secret"}]
        scene.index(server.root, credentials=credentials)
        assert scene.found() == [("tool", "1.0")]
        server.faults["*"] = Fault(status=500)
        error = scene.index(server.root, credentials=credentials).error
    assert "tk-secret" not in json.dumps(error)
    assert b"tk-secret" not in scene.path.read_bytes()
