"""Live logs in Redis Streams, so that any daemon can show what another one builds.

The writer's file is the truth, and then what is in the storage. A stream holds its newest part,
trimmed and expiring; whoever finds nothing in it, or a gap, waits for the stored log.
"""

import asyncio
import json
import logging
import uuid
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from condastore.errors import ConfigurationError
from condastore.streams.audience import Audience
from condastore.streams.log import CHUNK_BYTES, BuildLog, Ended, Happened, Position, Text

logger = logging.getLogger(__name__)

KEPT_S = 3600
CONNECT_S = 2.0
ANSWER_S = 5.0
BLOCK_MS = 1000
ENTRIES = 64
EVENT_BYTES = 200
RETRY_S = (1.0, 15.0)

Fields = dict[bytes, bytes]
Entry = tuple[bytes, Fields]
"""With its id."""


class Told(NamedTuple):
    """What a stream says, and who wrote it there."""

    writer: bytes
    position: Position

    @property
    def size(self) -> int:
        """The bytes that it counts for."""
        return len(self.position.data) if isinstance(self.position, Text) else EVENT_BYTES


class _Client(Redis):
    """A client that can be cancelled."""

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """Returns the answer to a command.

        Before Python 3.12 `asyncio.wait_for`, by which redis-py sends, loses a cancellation that
        comes as it ends (python/cpython#86296). Whoever asks again and again would never end.
        """
        task = asyncio.current_task()
        before = task.cancelling() if task is not None else 0
        try:
            return await super().execute_command(*arguments, **options)  # type: ignore[no-untyped-call]
        finally:
            if task is not None and task.cancelling() > before:
                raise asyncio.CancelledError


def client(url: str) -> Redis:
    """Returns a client that never waits for long. Raises `ConfigurationError`."""
    try:
        return _Client.from_url(url, socket_connect_timeout=CONNECT_S, socket_timeout=ANSWER_S)
    except ValueError as error:
        raise ConfigurationError(f"CondaStore.redis_url can't be used: {error}") from None


class RedisLogs:
    """The logs that this daemon writes, for others; and those of others."""

    def __init__(self, url: str, stream_bytes: int) -> None:
        """Raises `ConfigurationError` if the URL is none; nothing is connected yet."""
        self._redis = client(url)
        self._stream_bytes = stream_bytes
        self.writer = uuid.uuid4().hex.encode()
        """Under which this daemon writes: another one's log of a build is another text."""
        self._feeds: dict[str, _Feed] = {}
        self._new: asyncio.Queue[tuple[str, BuildLog]] = asyncio.Queue()

    async def problem(self) -> str | None:
        """Returns why Redis can't be used; None if it can."""
        try:
            await self._redis.ping()
        except (RedisError, OSError) as error:
            return f"redis can't be used ({type(error).__name__}): logs of others come late"
        return None

    def publish(self, key: str, log: BuildLog) -> None:
        """Shows a log to the other daemons, from its start to its end."""
        self._new.put_nowait((key, log))

    async def run(self) -> None:
        """Publishes logs until it is cancelled."""
        problem = await self.problem()
        if problem is not None:
            logger.warning("CondaStore.redis_url: %s", problem)
        async with asyncio.TaskGroup() as group:
            while True:
                key, log = await self._new.get()
                group.create_task(self._publish(key, log), name=f"redis {key}")

    async def close(self) -> None:
        """Ends the connections."""
        await self._redis.aclose()

    async def so_far(self, key: str, offset: int) -> AsyncIterator[Position]:
        """Yields what a stream has now, from a byte offset on."""
        cursor, last = _Cursor(offset), b"0"
        while True:
            after: Any = b"(" + last
            try:
                found: Any = await self._redis.xrange(_name(key), min=after, count=ENTRIES)
            except (RedisError, OSError):
                return
            for position in cursor.positions(_told(found)):
                yield position
            if len(found) < ENTRIES or cursor.has_gap:
                return
            last = found[-1][0]

    async def follow(
        self, key: str, offset: int, writer: bytes = b""
    ) -> AsyncGenerator[Position | None, None]:
        """Yields what a stream has from a byte offset on and what comes, to the log's end.

        None is yielded now and then while nothing comes. A log that is begun anew by the daemon
        that took its build over comes from its start; the offset is one of `writer`'s log, if that
        is known. It ends early where the stream has a gap, or Redis can't be used.
        """
        cursor, seen = _Cursor(offset, writer), 0
        async with self._feed(key) as feed:
            while not cursor.has_gap:
                changes, is_over = feed.audience.changes, feed.is_over
                found, seen = feed.since(seen)
                for position in cursor.positions(found):
                    yield position
                    if isinstance(position, Ended):
                        return
                if found:
                    continue
                if is_over:
                    return
                if not await feed.audience.changed(changes):
                    yield None

    @asynccontextmanager
    async def _feed(self, key: str) -> AsyncIterator["_Feed"]:
        """The feed of a stream, which all who follow it here share."""
        feed = self._feeds.get(key)
        if feed is None or feed.is_over:
            feed = self._feeds[key] = _Feed(self._redis, _name(key), self._stream_bytes)
        feed.readers += 1
        try:
            yield feed
        finally:
            feed.readers -= 1
            if not feed.readers:
                feed.close()
                if self._feeds.get(key) is feed:
                    del self._feeds[key]

    async def _publish(self, key: str, log: BuildLog) -> None:
        """Publishes a log as a whole, and again as a whole after a failure."""
        delay = RETRY_S[0]
        # What has been released may be another daemon's stream by now.
        while not log.released:
            try:
                await self._forward(_name(key), log)
            except FileNotFoundError:
                # It has ended meanwhile, and is stored.
                return
            except (RedisError, OSError) as error:
                logger.warning("%s can't be shown to other daemons: %s", key, type(error).__name__)
            else:
                return
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_S[1])

    async def _forward(self, name: str, log: BuildLog) -> None:
        kept: deque[tuple[bytes, int]] = deque()
        size = 0
        positions = log.follow(0)
        await self._redis.delete(name)
        async for position in positions:
            fields = {b"w": self.writer, **_fields(position)}
            entry: Any = await self._redis.xadd(name, cast(Any, fields))
            kept.append((entry, _size(fields)))
            size += kept[-1][1]
            if size > self._stream_bytes:
                while size > self._stream_bytes * 3 // 4 and len(kept) > 1:
                    size -= kept.popleft()[1]
                await self._redis.xtrim(name, minid=kept[0][0], approximate=False)
            await self._redis.expire(name, KEPT_S)


class _Feed:
    """What a stream has and gets, read once however many follow it.

    It keeps as much as the stream may hold; who is further behind has a gap.
    """

    def __init__(self, redis: Redis, name: str, most_bytes: int) -> None:
        self.readers = 0
        self.is_over = False
        """Whether Redis could not be used; then nothing comes any more."""
        self.audience = Audience()
        self._redis = redis
        self._name = name
        self._most_bytes = most_bytes
        # A list, since the last ones of many are wanted.
        self._told: list[Told] = []
        self._dropped = 0
        self._size = 0
        self._reading = asyncio.create_task(self._read(), name=f"redis feed {name}")

    def since(self, seen: int) -> tuple[list[Told], int]:
        """Returns what has come after so many, and how many these are then."""
        count = self._dropped + len(self._told)
        if seen >= count:
            return [], seen
        return self._told[max(seen - self._dropped, 0) :], count

    def close(self) -> None:
        """Reads no more."""
        self._reading.cancel()

    async def _read(self) -> None:
        last = b"0"
        try:
            while True:
                wanted: Any = {self._name: last}
                found: Any = await self._redis.xread(wanted, count=ENTRIES, block=BLOCK_MS)
                for _, entries in found:
                    self._add(entries)
                    last = entries[-1][0]
        except (RedisError, OSError) as error:
            logger.debug("%s can't be followed: %s", self._name, type(error).__name__)
        finally:
            self.is_over = True
            self.audience.notify()

    def _add(self, entries: list[Entry]) -> None:
        for told in _told(entries):
            self._told.append(told)
            self._size += told.size
        dropped = 0
        while self._size > self._most_bytes and dropped < len(self._told) - 1:
            self._size -= self._told[dropped].size
            dropped += 1
        del self._told[:dropped]
        self._dropped += dropped
        self.audience.notify()


class _Cursor:
    """How far a reader is in a stream."""

    def __init__(self, offset: int, writer: bytes = b"") -> None:
        self.has_gap = False
        self._offset = offset
        self._writer = writer

    def positions(self, found: Iterable[Told]) -> Iterator[Position]:
        """Yields what is new in what was found, up to a gap."""
        for writer, position in found:
            if writer != self._writer:
                self._offset = 0 if self._writer else self._offset
                self._writer = writer
            if not isinstance(position, Text):
                yield position
                continue
            self.has_gap = position.offset > self._offset
            if self.has_gap:
                return
            skipped = self._offset - position.offset
            if skipped < len(position.data):
                yield Text(self._offset, position.data[skipped:])
                self._offset = position.end


def _told(entries: Iterable[Entry]) -> Iterator[Told]:
    """Yields what entries tell; texts that follow each other are one unless that is too long."""
    writer, texts, size = b"", list[Text](), 0
    for _, fields in entries:
        position = _position(fields)
        if texts and not (
            isinstance(position, Text)
            and fields[b"w"] == writer
            and position.offset == texts[-1].end
            and size + len(position.data) <= CHUNK_BYTES
        ):
            yield Told(writer, _one(texts))
            texts, size = [], 0
        writer = fields[b"w"]
        if isinstance(position, Text):
            texts.append(position)
            size += len(position.data)
        else:
            yield Told(writer, position)
    if texts:
        yield Told(writer, _one(texts))


def _one(texts: list[Text]) -> Text:
    return Text(texts[0].offset, b"".join(text.data for text in texts))


def _name(key: str) -> str:
    return f"condastore:{key}"


def _size(fields: Fields) -> int:
    """Returns the bytes that an entry counts for."""
    return sum(map(len, fields.values()))


def _fields(position: Position) -> Fields:
    match position:
        case Text(offset, data):
            return {b"o": str(offset).encode(), b"d": data}
        case Happened(event):
            return {b"e": json.dumps(event).encode()}
        case Ended(status):
            return {b"s": status.encode()}


def _position(fields: Fields) -> Position:
    if b"d" in fields:
        return Text(int(fields[b"o"]), fields[b"d"])
    if b"e" in fields:
        return Happened(json.loads(fields[b"e"]))
    return Ended(fields[b"s"].decode())
