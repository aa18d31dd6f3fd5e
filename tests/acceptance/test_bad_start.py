"""What keeps a daemon from starting is one sentence that names the setting, and no traceback."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from condastore.errors import ConfigurationError, NotYet
from devtools.servers import PostgreSQLServer, S3Server
from tests.acceptance.harness import Daemon, DaemonDied, database_of, query, running

SECRET = "a-secret-that-nobody-sees"
S3 = "--CondaStore.storage_class=condastore.storage.S3Storage"


@dataclass(frozen=True)
class Servers:
    """What cases may get wrong credentials for."""

    postgresql: PostgreSQLServer
    s3: S3Server


@dataclass(frozen=True)
class Case:
    """What is wrong, and what the sentence must say."""

    said: str
    arguments: Callable[[Servers, Path], list[str]] = lambda *_: []
    prepare: Callable[[Path], object] = lambda _: None
    may_pass: bool = False
    """Whether it is worth while to start it again."""


def s3(servers: Servers, **changed: str) -> list[str]:
    settings = {**servers.s3.settings(), **changed}
    return [S3, *(f"--S3Storage.{name}={value}" for name, value in settings.items())]


def newer(data: Path) -> None:
    """Leaves what a later version would."""
    url = database_of(data)
    query(url, "CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
    query(url, "INSERT INTO alembic_version VALUES ('9999')")


def occupied(path: str) -> Callable[[Path], None]:
    """A file in the place of a directory: what even root can't use."""

    def prepare(data: Path) -> None:
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).touch()

    return prepare


CASES = {
    "no database URL": Case("CondaStore.database_url", lambda *_: ["--CondaStore.database_url=x"]),
    "no PostgreSQL": Case(
        "CondaStore.database_url",
        lambda *_: [f"--CondaStore.database_url=postgresql://me:{SECRET}@127.0.0.1:1/x"],
        may_pass=True,
    ),
    "wrong password of PostgreSQL": Case(
        "CondaStore.database_url",
        lambda servers, _: [
            "--CondaStore.database_url="
            + servers.postgresql.url().replace(servers.postgresql.password, SECRET)
        ],
        may_pass=True,
    ),
    "no Redis URL": Case("CondaStore.redis_url", lambda *_: ["--CondaStore.redis_url=x://y"]),
    "wrong secret of S3": Case(
        "c.S3Storage.access_key and secret_key",
        lambda servers, _: s3(servers, secret_key=SECRET),
        may_pass=True,
    ),
    "no such bucket": Case(
        "c.S3Storage.bucket_name",
        lambda servers, _: s3(servers, bucket_name="none-such"),
        may_pass=True,
    ),
    "no S3": Case(
        "c.S3Storage.internal_endpoint",
        lambda servers, _: s3(servers, internal_endpoint="127.0.0.1:1"),
        may_pass=True,
    ),
    "no directory for the storage": Case(
        "c.LocalStorage.storage_path", prepare=occupied("storage")
    ),
    "no directory for logs": Case("c.CondaStore.data_directory", prepare=occupied("logs")),
    "no directory for the store": Case("c.CondaStore.store_directory", prepare=occupied("state")),
    "no directory for packages": Case(
        "c.CondaStore.store_directory", prepare=occupied("state/.pkgs")
    ),
    "a newer state directory": Case("schema 9999 is newer than this program", prepare=newer),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_at_the_start_is_one_sentence(
    name: str, postgresql: PostgreSQLServer, s3_server: S3Server, tmp_path: Path
) -> None:
    case = CASES[name]
    data = tmp_path / "data"
    data.mkdir()
    case.prepare(data)
    daemon = Daemon(data, *case.arguments(Servers(postgresql, s3_server), data))
    with pytest.raises(DaemonDied) as died:
        daemon.start()
    assert daemon.wait() == (NotYet if case.may_pass else ConfigurationError).exit_status
    daemon.client.close()
    [sentence] = [line for line in str(died.value).splitlines() if "INFO" not in line]
    assert sentence.startswith("condastore: ") and case.said in sentence
    assert SECRET not in sentence and "Traceback" not in sentence


def test_a_second_daemon_on_a_directory_says_who_has_it(tmp_path: Path) -> None:
    with running(tmp_path / "data") as first:
        second = Daemon(tmp_path / "data")
        with pytest.raises(DaemonDied, match=f"process {first.pid}.*c.CondaStore.data_directory"):
            second.start()
        assert second.wait() == 1
        second.client.close()
