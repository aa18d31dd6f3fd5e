"""The logs of the builds that wait or run in this process, by build id."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from condastore.files import fitting
from condastore.storage import Storage
from condastore.streams.log import BuildLog

logger = logging.getLogger(__name__)

# Log writes are short; two threads keep one slow disk write from holding every log.
_THREADS = 2
# A reader looks up a build and then its log; that many builds don't end in between.
_ENDED_KEPT = 4096


class LogHub:
    """Opens, finds and ends live logs; what has ended is in the storage."""

    def __init__(
        self,
        directory: Path,
        storage: Storage,
        max_bytes: int,
        opened: Callable[[str, BuildLog], None] | None = None,
    ) -> None:
        """`opened` is called with each log, and its key, that begins to be written here."""
        self._directory = directory
        self._storage = storage
        self._max_bytes = max_bytes
        self._opened = opened
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="log")
        self._live: dict[int, BuildLog] = {}
        self._ended: dict[str, None] = {}

    def open(self, build_id: int, key: str) -> BuildLog:
        """Opens the log of a build for appending; what an earlier attempt wrote stays.

        `key` is the log's storage key.
        """
        log = self._live.get(build_id)
        if log is None:
            log = BuildLog(self._path(key), self._max_bytes, self._executor)
            self._live[build_id] = log
            if self._opened is not None:
                self._opened(key, log)
        return log

    def live(self, build_id: int) -> BuildLog | None:
        """Returns the log of a build that waits or runs here, if anyone has opened it."""
        return self._live.get(build_id)

    def watch(self, build_id: int, key: str) -> BuildLog | None:
        """Opens the log of a build that had not ended when last looked at; None if it has now."""
        return None if key in self._ended else self.open(build_id, key)

    def file(self, key: str) -> Path | None:
        """Returns the file of a log that is not in the storage yet."""
        path = self._path(key)
        return path if path.exists() else None

    async def end(self, build_id: int, key: str, status: str) -> None:
        """Closes a build's log and stores it; readers get all of it, before, during and after."""
        log = self._live.get(build_id)
        if log is not None:
            await log.end(status)
        path = self._path(key)
        try:
            await self._storage.put_file(key, path)
        except FileNotFoundError:
            stored = False
        except OSError as error:
            # It stays where it is, can be read there, and is stored at the next start.
            logger.error("the log %s could not be stored: %s", key, error)
            stored = False
        else:
            stored = True
        self._ended[key] = None
        while len(self._ended) > _ENDED_KEPT:
            del self._ended[next(iter(self._ended))]
        self._live.pop(build_id, None)
        if stored:
            path.unlink(missing_ok=True)

    async def release(self, build_id: int) -> None:
        """Gives up the log of a build that has not ended here, and may go on elsewhere.

        Its file stays, for this daemon to go on with if it is the one to do so.
        """
        log = self._live.get(build_id)
        if log is None:
            return
        await log.release()
        if log.released and self._live.get(build_id) is log:
            del self._live[build_id]

    def has_ended(self, key: str) -> bool:
        """Whether a log was ended here, not long ago."""
        return key in self._ended

    def forget(self, key: str) -> None:
        """Removes the file of a log that is in the storage already."""
        self._path(key).unlink(missing_ok=True)

    def detach(self) -> None:
        """Ends every reader, because the daemon stops."""
        for log in self._live.values():
            log.detach()

    def unstored(self) -> list[str]:
        """Returns the names of the logs that are not in the storage yet."""
        return sorted(path.name for path in self._directory.glob("*.log"))

    def close(self) -> None:
        """Ends the threads."""
        self._executor.shutdown(wait=True)

    def _path(self, key: str) -> Path:
        return self._directory / fitting(Path(key).name)
