"""Real servers for the tests and benchmarks, from wheels: S3, PostgreSQL, Redis."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

START_S = 30.0


def free_port() -> int:
    """Returns a port that nothing listens to now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Server:
    """A server process on a port of this machine; it may be stopped, killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Returns what starts it."""
        raise NotImplementedError

    def start(self) -> None:
        """Starts it and waits until it takes connections."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "server.out").open("ab") as output:
            self._process = subprocess.Popen(
                self.command(), stdout=output, stderr=subprocess.STDOUT, cwd=self.directory
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


@contextmanager
def running(server: Server) -> Iterator[None]:
    """A server that is stopped at the end."""
    try:
        server.start()
        yield
    finally:
        server.stop()


def _program(name: str) -> str:
    """Returns the path of a program that came with a wheel."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is missing: install condastore[test]")
    return found
