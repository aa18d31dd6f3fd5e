"""A daemon that must not connect to anything (F46)."""

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from devtools.localchannel.server import ChannelServer
from tests.acceptance.harness import ENDED, running
from tests.acceptance.unix_sockets import on_socket, serves_on
from tests.patience import pauses

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can take the network away"),
    # The network that is away is also that of PostgreSQL.
    pytest.mark.sqlite,
]

NO_NETWORK = ("unshare", "--net")


def ended(client: httpx.Client, specification: dict[str, Any]) -> tuple[str, str]:
    """Builds; returns how it ended, and the reason if there is one."""
    answer = client.post(
        "/api/v1/specification/", json={"specification": json.dumps(specification)}
    )
    build = f"/api/v1/build/{answer.json()['data']['build_id']}/"
    for _ in pauses():
        found = client.get(build).json()["data"]
        if found["status"] in ENDED:
            return found["status"], found["status_info"] or ""
    raise AssertionError(found)


def test_F46_offline_environments_are_made_of_what_is_here(
    tmp_path: Path, server: ChannelServer, index: str, tiny: str
) -> None:
    pip = {"pip": ["alpha", f"--index-url {index}"]}
    fetched = {"channels": [server.url], "dependencies": ["python", pip]}
    with running(tmp_path / "data") as daemon:
        daemon.completed(daemon.submit({"name": "online", **fetched}))
    asked = server.requests.total()

    path = tmp_path / "http.sock"
    offline = "--CondaStore.offline=True"
    with (
        on_socket(tmp_path / "data", path, offline, within=NO_NETWORK) as daemon,
        serves_on(path, daemon) as client,
    ):
        assert ended(client, {"name": "again", **fetched}) == ("COMPLETED", "")
        here = {"name": "here", "channels": [tiny], "dependencies": ["harmless"]}
        assert ended(client, here) == ("COMPLETED", "")

        more = {"channels": [server.url], "dependencies": ["certifi"]}
        status, reason = ended(client, {"name": "more", **more})
        assert status == "FAILED"
        assert "Not on this machine: the packages certifi" in reason
        assert "c.CondaStore.offline is set" in reason
        other = {"channels": ["http://127.0.0.1:9/other"], "dependencies": ["python"]}
        status, reason = ended(client, {"name": "other", **other})
        assert "the package list of channel http://127.0.0.1:9/other" in reason
    assert server.requests.total() == asked
