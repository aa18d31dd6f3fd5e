"""Real packages for all tests, made once a machine."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from condastore.database import Database
from devtools.localchannel import make_channel
from devtools.servers import PostgreSQLServer, S3Server, running
from tests.databases import URLS, fresh, opened, postgresql_server

CACHE = Path(os.environ.get("CONDASTORE_TEST_CACHE") or Path.home() / ".cache" / "condastore-tests")


# Unlike a failed test, it is not tried again.
UNEXPECTED_SKIP = 10
_skips: set[str] = set()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds which database the daemons of the acceptance tests have (other tests try both), and how
    many random histories they live through instead of the two that CI has time for."""
    parser.addoption("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.addoption("--histories", type=int)


@pytest.fixture(scope="session")
def small_channel() -> Path:
    """A local channel with a real Python and a handful of packages."""
    return make_channel("small", CACHE / "channels" / "small", CACHE / "wheels")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server for the tests that leave it as it was."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    with running(server):
        yield server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQLServer]:
    """A PostgreSQL server for the tests that leave it running."""
    with postgresql_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind, without a schema."""
    if request.param == "sqlite":
        return URLS["sqlite"](tmp_path)
    return await fresh(request.getfixturevalue("postgresql"))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An empty database of each kind."""
    async with opened(database_url) as found:
        yield found


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collects the reasons of skips, for CI to hold against those that it expects."""
    if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
        _skips.add(report.longrepr[2].removeprefix("Skipped: "))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails the run on a skip that CI did not expect."""
    listed = os.environ.get("CONDASTORE_EXPECTED_SKIPS")
    # A process that runs a part of the tests reports to the one that began, which knows them all.
    if listed is None or hasattr(session.config, "workerinput"):
        return
    expected = set(Path(listed).read_text().splitlines())
    for reason in sorted(_skips - expected):
        print(f"\nunexpected skip: {reason}")
        session.exitstatus = UNEXPECTED_SKIP
