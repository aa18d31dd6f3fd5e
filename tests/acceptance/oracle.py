"""What must be so after whatever happened to a daemon: `condastore check` finds nothing (I15)."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from condastore import cli
from condastore.server_configuration import CondaStoreServer
from tests.acceptance.harness import Daemon, assert_becomes_clean


def assert_sound(daemon: Daemon) -> None:
    """Waits until a daemon has put everything away, stops it, and inspects what it leaves."""
    assert_becomes_clean(daemon)
    assert daemon.stop() == 0, daemon.output.read_text()
    found = findings(daemon)
    assert not found, found
    assert not daemon.litter(), daemon.litter()


def findings(daemon: Daemon, *options: str) -> list[dict[str, Any]]:
    """Returns what `condastore check` finds where a daemon has stopped.

    In this process, where all of it is imported already: a second of CPU less each time.
    """
    said, complaints = io.StringIO(), io.StringIO()
    CondaStoreServer.clear_instance()
    try:
        with redirect_stdout(said), redirect_stderr(complaints):
            arguments = ["check", f"--data={daemon.data}", "--json", *options]
            status = cli.main([*arguments, *daemon.arguments, *daemon.defaults()])
    finally:
        CondaStoreServer.clear_instance()
    assert status != 2, complaints.getvalue()
    found: list[dict[str, Any]] = json.loads(said.getvalue())["findings"]
    assert bool(found) == (status == 1) or "--repair" in options
    return found
