"""The package index through a real daemon: what is indexed, found, and told when it fails."""

import bz2
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devtools.localchannel.server import ChannelServer, Fault, serve
from tests.acceptance.harness import FOREVER_S, Daemon, eventually, get, running
from tests.channels import write_channel

# The jobs are niced, and machines that test are busy.

VERSIONS = ["1.0rc1", "1.0.dev0", "1.0", "1.0.post1", "1.9", "1.10", "1!0.1"]
IN_ORDER = ["1!0.1", "1.10", "1.9", "1.0.post1", "1.0", "1.0.dev0", "1.0rc1"]


@pytest.fixture
def first(tmp_path: Path) -> Iterator[ChannelServer]:
    write_channel(tmp_path / "first", numpy=VERSIONS, numpy_tools=["0.1"], flask=["3.0"])
    with serve(tmp_path / "first") as server:
        yield server


@pytest.fixture
def second(tmp_path: Path) -> Path:
    write_channel(tmp_path / "second", numpy=["1.10", "2.0"])
    return tmp_path / "second"


def options(tmp_path: Path, interval_s: float, *channels: str) -> list[str]:
    config = tmp_path / "config.py"
    config.write_text(f"c.CondaStore.conda_indexed_channels = {list(channels)!r}\n")
    return [f"--config={config}", f"--CondaStoreWorker.index_interval={interval_s}"]


def index(daemon: Daemon, channels: list[str]) -> None:
    answer = daemon.request("PUT", "/setting/", json={"conda_indexed_channels": channels})
    assert answer.status_code == 200, answer.text


def page(daemon: Daemon, query: str = "") -> dict[str, Any]:
    # Nobody needs to sign in for it.
    response = get(f"{daemon.url}/api/v1/package/?{query}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def count(daemon: Daemon, query: str = "") -> int:
    found: int = page(daemon, query)["count"]
    return found


def of(daemon: Daemon, query: str, *fields: str) -> list[Any]:
    rows = [tuple(row[field] for field in fields) for row in page(daemon, query)["data"]]
    return [row[0] for row in rows] if len(fields) == 1 else rows


def metric(daemon: Daemon, name: str, channel: str) -> float | None:
    text = daemon.client.get(f"{daemon.url}/metrics").text
    found = re.search(rf'^{name}{{channel="{re.escape(channel)}"}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else None


def test_packages_are_found_as_clients_ask_for_them(
    tmp_path: Path, first: ChannelServer, second: Path
) -> None:
    local = second.as_uri()
    with running(tmp_path / "data", *options(tmp_path, 900, first.url, local)) as daemon:
        eventually(lambda: count(daemon) == 11)

        whole = page(daemon, "search=flask")
        channels = {row["name"]: row for row in daemon.data_of("/channel/")}
        assert whole == {
            "status": "ok",
            "data": [
                {
                    "id": whole["data"][0]["id"],
                    "channel": {
                        "id": channels[first.url]["id"],
                        "name": first.url,
                        "last_update": None,
                    },
                    "license": "MIT",
                    "name": "flask",
                    "version": "3.0",
                    "summary": "about flask",
                }
            ],
            "message": None,
            "page": 1,
            "size": 100,
            "count": 1,
        }
        assert set(channels) == {first.url, local}
        eventually(lambda: all(row["last_update"] for row in daemon.data_of("/channel/")))

        # The web interface's two calls.
        names = "search=num&page=1&size=100&distinct_on=name"
        assert of(daemon, names, "name") == ["numpy", "numpy-tools"]
        assert count(daemon, names) == 2
        picker = "search=numpy&exact=true&distinct_on=version&page=1&order=desc&sort_by=version"
        assert of(daemon, picker, "version") == [IN_ORDER[0], "2.0", *IN_ORDER[1:]]
        assert count(daemon, picker) == 8

        everything = page(daemon)["data"]
        assert len({row["id"] for row in everything}) == len(everything) == 11
        keys = [(row["channel"]["name"], row["name"]) for row in everything]
        assert keys == sorted(keys)
        assert [row for n in range(1, 5) for row in page(daemon, f"size=3&page={n}")["data"]] == (
            everything
        )
        assert count(daemon, "build=h123") == 11
        assert count(daemon, "build=nothing") == 0
        wrong = daemon.request("GET", "/package/?size=0")
        assert wrong.status_code == 422
        assert metric(daemon, "condastore_index_records", local) == 2


def test_an_unchanged_channel_costs_one_request_a_file(
    tmp_path: Path, first: ChannelServer
) -> None:
    with running(tmp_path / "data", *options(tmp_path, 0.2, first.url)) as daemon:
        eventually(lambda: count(daemon) == 9)
        before = page(daemon)["data"]
        paths = ["/noarch/repodata.json.zst", "/channeldata.json", "/linux-64/repodata.json"]
        first.requests.clear()
        file = (daemon.data / "index" / "packages.sqlite").stat()
        eventually(lambda: min(first.requests[path] for path in paths) >= 3)
        assert set(first.requests) == set(paths)
        assert max(first.requests.values()) - min(first.requests.values()) <= 1
        assert (daemon.data / "index" / "packages.sqlite").stat().st_ino == file.st_ino

        write_channel(first.directory, numpy=[*VERSIONS, "3.0"], flask=["3.0"])
        eventually(lambda: count(daemon, "search=numpy") == 8)
        # Ids are as they were.
        after = {row["id"]: row for row in page(daemon)["data"]}
        assert [row for row in before if row["name"] != "numpy-tools"] == [
            after[row["id"]] for row in before if row["name"] != "numpy-tools"
        ]


def test_a_channel_that_fails_is_told_of_once_and_stays_searchable(
    tmp_path: Path, first: ChannelServer, second: Path
) -> None:
    local, nowhere = second.as_uri(), "http://127.0.0.1:9/nowhere"
    with running(tmp_path / "data", *options(tmp_path, 0.2, first.url, nowhere, local)) as daemon:
        eventually(lambda: count(daemon) == 11)
        first.faults["*"] = Fault(status=503)
        eventually(lambda: (metric(daemon, "condastore_index_failures", first.url) or 0) >= 2)
        assert count(daemon) == 11
        # The others go on.
        write_channel(second, numpy=["1.10", "2.0", "3.0"])
        eventually(lambda: count(daemon) == 12)
        first.faults.clear()
        eventually(lambda: metric(daemon, "condastore_index_failures", first.url) == 0)
        printed = daemon.output.read_text()
    for url, reason in ((first.url, "HTTP status 503"), (nowhere, "refused")):
        told = [line for line in printed.splitlines() if "WARNING" in line and url in line]
        assert len(told) == 1, printed
        assert reason in told[0]


def test_the_setting_is_followed_while_the_daemon_runs(
    tmp_path: Path, first: ChannelServer, second: Path
) -> None:
    local = second.as_uri()
    with running(tmp_path / "data", *options(tmp_path, 900)) as daemon:
        assert count(daemon) == 0
        index(daemon, [first.url])
        eventually(lambda: count(daemon) == 9)
        index(daemon, [first.url, local])
        eventually(lambda: count(daemon) == 11)
        # Also in the middle of a job.
        first.faults["*"] = Fault(delay=FOREVER_S)
        index(daemon, [first.root + "/silent", local])
        first.requests.clear()
        eventually(lambda: first.requests)
        index(daemon, [local])
        eventually(lambda: count(daemon) == 2)
        index(daemon, [])
        eventually(lambda: count(daemon) == 0)
        # What builds use is another thing, and the channels stay known.
        assert len(daemon.data_of("/channel/")) == 3


def test_an_index_outlives_its_daemon_and_a_kill(tmp_path: Path, first: ChannelServer) -> None:
    data = tmp_path / "data"
    daemon = Daemon(data, *options(tmp_path, 900, first.url)).start()
    eventually(lambda: count(daemon) == 9)
    daemon.kill()
    write_channel(first.directory, flask=["4.0"])
    first.faults["*repodata.json.zst"] = Fault(drip=10)
    daemon.start()
    requests = first.requests["/noarch/repodata.json.zst"]
    eventually(lambda: first.requests["/noarch/repodata.json.zst"] > requests - 1)
    assert count(daemon) == 9
    daemon.kill()
    first.faults.clear()
    with running(data, *options(tmp_path, 900, first.url)) as again:
        eventually(lambda: count(again) == 1)
        assert [path.name for path in (data / "index").iterdir()] == ["packages.sqlite"]
    daemon.client.close()


def test_a_private_channel_is_indexed_with_its_credentials(tmp_path: Path) -> None:
    write_channel(tmp_path / "private", secret=["1.0"])
    (tmp_path / "private" / "noarch" / "repodata.json.zst").unlink()
    plain = tmp_path / "private" / "noarch" / "repodata.json"
    plain.with_name("repodata.json.bz2").write_bytes(bz2.compress(plain.read_bytes()))
    plain.unlink()
    with (
        serve(tmp_path / "private", token="tk-1") as by_token,
        serve(tmp_path / "private", basic=("ada", "pass word")) as by_password,
    ):
        arguments = options(tmp_path, 900, by_token.root, by_password.root)
        config = tmp_path / "config.py"
        credentials = [
            {"url": by_token.root, "token": "tk-1"},
            {"url": by_password.root, "username": "ada", "password": "pass word"},
        ]
        config.write_text(
            f"{config.read_text()}c.CondaStore.channel_credentials = {credentials!r}\n"
        )
        with running(tmp_path / "data", *arguments) as daemon:
            eventually(lambda: count(daemon) == 2)
            names = {row["channel"]["name"] for row in page(daemon)["data"]}
            assert names == {by_token.root, by_password.root}
        assert b"tk-1" not in (tmp_path / "data" / "index" / "packages.sqlite").read_bytes()
