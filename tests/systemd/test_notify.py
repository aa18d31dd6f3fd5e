"""What systemd hears."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from condastore.systemd.notify import Notifier
from tests.patience import PATIENCE_S


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address as `NOTIFY_SOCKET` has it."""
    return f"@{tmp_path}" if request.param == "abstract" else str(tmp_path / "notify")


def listen(address: str) -> socket.socket:
    ears = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ears.bind("\0" + address[1:] if address.startswith("@") else address)
    ears.settimeout(PATIENCE_S)
    return ears


def test_a_message_is_lines_in_one_datagram(address: str) -> None:
    with listen(address) as ears:
        notifier = Notifier({"NOTIFY_SOCKET": address})
        assert notifier.is_heard
        assert notifier.tell(READY=1, STATUS="3 building, 12 queued")
        assert ears.recv(1000) == b"READY=1\nSTATUS=3 building, 12 queued"
        notifier.reloading()
        reloading, since = ears.recv(1000).split(b"\n")
        assert reloading == b"RELOADING=1"
        assert since.startswith(b"MONOTONIC_USEC=") and since[15:].isdigit()
        notifier.close()
    assert not notifier.tell(READY=1)


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "nothing"])
def test_without_a_listener_nothing_is_said(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address} if address else {})
    assert not notifier.is_heard
    assert not notifier.tell(READY=1)


def test_a_listener_that_is_gone_or_does_not_listen_holds_nobody_up(tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    assert not notifier.tell(READY=1)
    with listen(str(tmp_path / "gone")):
        told = sum(notifier.tell(STATUS="x" * 10_000) for _ in range(5000))
        assert 0 < told < 5000
    notifier.close()


async def test_a_status_is_told_when_it_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condastore.systemd.notify.STATUS_S", 0.01)
    statuses = iter(["a", "a", "", "a", "b", "b", "a"])
    done = asyncio.Event()

    async def status() -> str:
        text = next(statuses, None)
        if text is None:
            done.set()
            return "a"
        # A database that is damaged fails as no `CondaStoreError`.
        if not text:
            raise LookupError
        return text

    with listen(str(tmp_path / "notify")) as ears:
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        task = asyncio.create_task(notifier.tell_status(status))
        async with asyncio.timeout(PATIENCE_S):
            await done.wait()
        task.cancel()
        ears.setblocking(False)
        assert [ears.recv(100) for _ in range(3)] == [b"STATUS=a", b"STATUS=b", b"STATUS=a"]
        with pytest.raises(BlockingIOError):
            ears.recv(100)
        notifier.close()


async def test_the_watchdog_is_fed_until_a_watched_task_ends(tmp_path: Path) -> None:
    with listen(str(tmp_path / "notify")) as ears:
        ears.setblocking(False)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000"}
        notifier = Notifier(environment)
        assert notifier.watchdog_s == 0.06
        ended = asyncio.Event()

        async def work() -> None:
            await ended.wait()

        watched = [asyncio.create_task(work()) for _ in range(2)]
        feeding = asyncio.create_task(notifier.feed_watchdog(watched))
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(3):
                assert await loop.sock_recv(ears, 100) == b"WATCHDOG=1"
            assert not feeding.done()
            ended.set()
            await feeding
        notifier.close()


async def test_a_patient_watchdog_keeps_nobody_from_ending() -> None:
    notifier = Notifier({"WATCHDOG_USEC": "3600000000"})
    ended = asyncio.create_task(asyncio.sleep(0.01))
    async with asyncio.timeout(PATIENCE_S):
        await notifier.feed_watchdog([ended])
    assert ended.done()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_whether_a_watchdog_waits(environment: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environment).watchdog_s == seconds
