"""How long a channel that is too busy wants to be left alone (F44)."""

from email.message import Message
from pathlib import Path

import pytest

from condastore.engine import retry_after
from condastore.engine.retry_after import asked_wait_s
from devtools.localchannel.server import Fault, serve


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("3600", 60),
        ("9" * 400, 60),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 60),
        ("Sat, 01 Jan 2000 00:00:00 GMT", 0),
        ("-5", 0),
        ("soon", 0),
        (f"Fri, 01 Jan {'9' * 40} 00:00:00 GMT", 0),
        (None, 0),
    ],
)
def test_F44_a_pause_is_as_long_as_the_server_says_within_limits(
    tmp_path: Path, value: str | None, seconds: float
) -> None:
    with serve(tmp_path, faults={"*": Fault(status=429, retry_after=value)}) as server:
        assert asked_wait_s(f"{server.url}/package", []) == seconds


def test_F44_a_date_is_by_the_servers_clock() -> None:
    headers = Message()
    headers["Date"] = "Fri, 01 Jan 2100 00:00:00 GMT"
    headers["Retry-After"] = "Fri, 01 Jan 2100 00:00:25 GMT"
    assert retry_after._seconds(headers) == 25


def test_who_is_not_busy_any_more_wants_no_pause(tmp_path: Path) -> None:
    (tmp_path / "package").touch()
    with serve(tmp_path, token="secret") as server:
        credentials = [{"url": server.root, "token": "secret"}]
        assert asked_wait_s(f"{server.root}/package", credentials) == 0  # type: ignore[arg-type]
        assert server.refused.total() == 0
    assert asked_wait_s(f"{server.root}/package", []) == 0
