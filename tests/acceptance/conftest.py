"""Daemons and channels for the acceptance tests."""

import http.server
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.localchannel.hostile import write_hostile
from devtools.localchannel.server import ChannelServer, serve
from tests.acceptance.harness import DATABASE_SERVER, Daemon, forked_daemons, running
from tests.wheels import add_wheel, served, write_index


@pytest.fixture(scope="session", autouse=True)
def database_server(request: pytest.FixtureRequest) -> None:
    """With `--database postgresql`, what all daemons of these tests keep their rows on."""
    if request.config.getoption("database") == "postgresql":
        os.environ[DATABASE_SERVER] = request.getfixturevalue("postgresql").url()


@pytest.fixture(scope="session", autouse=True)
def quick_starts() -> Iterator[None]:
    """Each of some hundred daemons would import the same for seconds."""
    with forked_daemons():
        yield


@pytest.fixture(autouse=True)
def the_right_database(request: pytest.FixtureRequest) -> None:
    """Skips what only daemons on SQLite do."""
    if request.node.get_closest_marker("sqlite") and DATABASE_SERVER in os.environ:
        pytest.skip("only a daemon on SQLite does this")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon of its own for a test that breaks things."""
    with running(tmp_path / "data") as found:
        yield found


@pytest.fixture(scope="session")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for the tests that leave it as it was."""
    with running(tmp_path_factory.mktemp("shared") / "data") as found:
        yield found


@pytest.fixture(scope="session")
def channel(small_channel: Path) -> str:
    """The URL of the small channel."""
    return small_channel.as_uri()


@pytest.fixture(scope="session")
def hostile_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A channel of attacks; what they would write is in `outside` beside it."""
    directory = tmp_path_factory.mktemp("hostile")
    write_hostile(directory / "channel", directory / "outside", bomb_megabytes=64)
    return directory / "channel"


@pytest.fixture(scope="session")
def tiny(hostile_directory: Path) -> str:
    """The URL of a channel whose package `harmless` needs nothing: a build in a moment."""
    return hostile_directory.as_uri()


@pytest.fixture
def server(small_channel: Path) -> Iterator[ChannelServer]:
    """The small channel over HTTP, for faults on demand."""
    with serve(small_channel) as found:
        yield found


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder that, served over HTTP, is a package index below `simple/`."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    add_wheel(folder, "alpha", "1.0", ["beta>=1"])
    add_wheel(folder, "beta", "1.0")
    add_wheel(folder, "beta", "2.0")
    write_index(folder)
    return folder


@pytest.fixture
def index(wheels: Path) -> Iterator[str]:
    """The URL of the index."""
    with served(wheels, http.server.SimpleHTTPRequestHandler) as url:
        yield f"{url}/simple"
