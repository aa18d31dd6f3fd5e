"""Threads that each have a connection to a SQLite file, and no engine of SQLAlchemy's."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SqliteThreads:
    """Do one piece of work after another, with whichever connection is free."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._is_open = False
        # Held where a job is put into the queue, which nobody would do behind its end.
        self._queueing = threading.Lock()

    def start(self, connections: Iterable[sqlite3.Connection]) -> None:
        """Starts a thread for each connection, which it closes in the end."""
        for number, connection in enumerate(connections):
            thread = threading.Thread(
                target=self._serve, args=(connection,), name=f"{self._name} {number}", daemon=True
            )
            thread.start()
            self._threads.append(thread)
        self._is_open = True

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Returns what `work` returns; what nobody waits for any more when its turn comes is
        left out. Raises `sqlite3.ProgrammingError` after `close`."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[T] = loop.create_future()
        with self._queueing:
            if not self._is_open:
                raise sqlite3.ProgrammingError("the database is closed")
            self._jobs.put(_Job(work, loop, found))
        return await found

    def close(self) -> None:
        """Waits until all is done that was asked for, and the threads have ended."""
        with self._queueing:
            self._is_open = False
            for _ in self._threads:
                self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _serve(self, connection: sqlite3.Connection) -> None:
        with closing(connection):
            while (job := self._jobs.get()) is not None:
                job.do(connection)


@dataclass(frozen=True)
class _Job(Generic[T]):
    """A piece of work, and who waits for what comes of it."""

    work: Callable[[sqlite3.Connection], T]
    loop: asyncio.AbstractEventLoop
    found: "asyncio.Future[T]"

    def do(self, connection: sqlite3.Connection) -> None:
        """Does the work."""
        if self.found.cancelled():
            return
        try:
            value = self.work(connection)
        except Exception as error:
            self.loop.call_soon_threadsafe(self._fail, error)
        else:
            self.loop.call_soon_threadsafe(self._settle, value)

    def _settle(self, value: T) -> None:
        if not self.found.done():
            self.found.set_result(value)

    def _fail(self, error: Exception) -> None:
        if not self.found.done():
            self.found.set_exception(error)
