"""Many builds at once: they share packages, take turns and don't wait for each other in vain."""

import time
from pathlib import Path
from typing import Any

from devtools.localchannel.server import ChannelServer, Fault
from tests.acceptance.harness import (
    FOREVER_S,
    Daemon,
    assert_becomes_clean,
    eventually,
    running,
)


def specification(channel: str, *packages: str, name: str = "pooled") -> dict[str, Any]:
    return {"name": name, "channels": [channel], "dependencies": packages}


def test_four_builds_at_once_fetch_every_package_once(
    tmp_path: Path, server: ChannelServer
) -> None:
    server.faults["*.conda"] = Fault(drip=30_000_000)
    with running(tmp_path / "data", "--CondaStoreWorker.concurrency=4") as daemon:
        build_ids = [
            daemon.submit(specification(server.url, "python", *packages, name=f"e{number}"))
            for number, packages in enumerate([["flask"], ["rich"], ["flask", "rich"], ["click"]])
        ]
        for build_id in build_ids:
            daemon.completed(build_id)
        fetched = {path: n for path, n in server.requests.items() if path.endswith(".conda")}
        assert len(fetched) > 10
        assert set(fetched.values()) == {1}, fetched
        for number in range(4):
            python = daemon.link(f"e{number}") / "bin" / "python3.11"
            # One file for all, not four copies.
            assert python.stat().st_ino == (daemon.link("e0") / "bin" / "python3.11").stat().st_ino
        assert_becomes_clean(daemon)


def test_a_cached_build_does_not_wait_for_anothers_download(
    tmp_path: Path, server: ChannelServer
) -> None:
    with running(tmp_path / "data", "--CondaStoreWorker.concurrency=2") as daemon:
        daemon.completed(daemon.submit(specification(server.url, "python", "click")))

        def warm(name: str) -> float:
            began = time.monotonic()
            build_id = daemon.submit(specification(server.url, "python", "click", name=name))
            daemon.completed(build_id)
            return time.monotonic() - began

        alone = min(warm(f"alone-{number}") for number in range(3))
        server.faults["*flask*"] = Fault(drip=200)
        slow = daemon.submit(specification(server.url, "python", "flask", name="slow"))
        daemon.wait_for_event(slow, "fetch")
        beside = min(warm(f"beside-{number}") for number in range(3))
        assert daemon.build(slow)["status"] == "BUILDING"
        print(f"a cached build took {alone:.2f} s alone, {beside:.2f} s beside a slow download")
        # The download would last for minutes.
        assert beside - alone < 15
        daemon.cancel(slow)
        assert daemon.ended(slow)["status"] == "CANCELED"


def test_namespaces_take_turns(tmp_path: Path, tiny: str, server: ChannelServer) -> None:
    server.faults["*repodata*"] = Fault(delay=FOREVER_S)
    with running(tmp_path / "data", "--CondaStoreWorker.concurrency=1") as daemon:
        blocker = daemon.submit(specification(server.url, "python"), namespace="zero")
        eventually(lambda: server.requests)
        many = [daemon.submit(specification(tiny, "harmless"), namespace="many") for _ in range(5)]
        few = [daemon.submit(specification(tiny, "harmless"), namespace="few") for _ in range(2)]
        daemon.cancel(blocker)
        builds = [daemon.completed(build_id) for build_id in [*many, *few]]
        order = [build["id"] for build in sorted(builds, key=lambda b: str(b["started_on"]))]
        # Whoever queued five has not made the others wait for all of them.
        assert {many[0], few[0]} == set(order[:2])
        assert {many[1], few[1]} == set(order[2:4])
        assert order[4:] == many[2:]


def test_what_was_queued_is_built_after_a_restart(
    tmp_path: Path, tiny: str, server: ChannelServer
) -> None:
    server.faults["*repodata*"] = Fault(delay=FOREVER_S)
    with running(tmp_path / "data", "--CondaStoreWorker.concurrency=1") as daemon:
        blocker = daemon.submit(specification(server.url, "python", name="blocker"))
        waiting = [daemon.submit(specification(tiny, "harmless")) for _ in range(3)]
        eventually(lambda: server.requests)
        assert [daemon.build(build_id)["status"] for build_id in waiting] == ["QUEUED"] * 3
        daemon.kill()
        server.faults.clear()
        daemon.start()
        builds = [daemon.completed(build_id) for build_id in [blocker, *waiting]]
        assert [build["id"] for build in sorted(builds, key=lambda b: str(b["ended_on"]))] == [
            blocker,
            *waiting,
        ]
        assert daemon.data_of("/environment/default/pooled/")["current_build_id"] == waiting[-1]
        assert daemon.link("pooled").resolve().name.split("-")[2] == str(waiting[-1])


def test_the_link_follows_the_last_build_when_two_end_at_once(tmp_path: Path, tiny: str) -> None:
    with running(tmp_path / "data", "--CondaStoreWorker.concurrency=4") as daemon:
        for _ in range(4):
            build_ids = [daemon.submit(specification(tiny, "harmless")) for _ in range(4)]
            for build_id in build_ids:
                daemon.completed(build_id)
            current = daemon.data_of("/environment/default/pooled/")["current_build_id"]
            assert daemon.link("pooled").resolve().name.split("-")[2] == str(current)


def test_a_deletion_does_not_wait_for_builds(
    tmp_path: Path, tiny: str, server: ChannelServer
) -> None:
    server.faults["*repodata*"] = Fault(delay=FOREVER_S)
    with running(tmp_path / "data", "--CondaStoreWorker.concurrency=1") as daemon:
        build_id = daemon.submit(specification(tiny, "harmless"))
        daemon.completed(build_id)
        daemon.submit(specification(server.url, "python", name="blocker"))
        eventually(lambda: server.requests)
        daemon.request("DELETE", f"/build/{build_id}/")
        eventually(lambda: daemon.build(build_id)["size"] == 0)


def test_an_idle_daemon_does_nothing(daemon: Daemon, tiny: str) -> None:
    daemon.completed(daemon.submit(specification(tiny, "harmless")))

    def cpu_ticks() -> int:
        fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def is_idle() -> bool:
        before = cpu_ticks()
        time.sleep(2)
        # A tick is 10 ms.
        return cpu_ticks() - before <= 2

    # At first it tidies up.
    eventually(is_idle)
