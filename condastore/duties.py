"""What one daemon does at a time for all that share a PostgreSQL, such as watching files.

Who does it is settled by a lock in Redis, or without one by a row. Either can be lost, or held by a
daemon that was stopped for a while and does not know it. So each turn has a number, which is in the
row, and whoever writes in his turn looks in the same transaction whether it is still the last one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from condastore.database import Database, epoch, insert_into
from condastore.errors import DatabaseUnavailable
from condastore.tables import KeyValueStore

logger = logging.getLogger(__name__)

LEASE_S = 30.0
RENEW_S = 10.0
TRY_S = 10.0
_PREFIX = "duty"
_NOBODY: dict[str, Any] = {"turn": 0, "owner": "", "until": 0.0}


class LocksUnavailable(Exception):
    """Redis can't be used now."""


class TurnOver(Exception):
    """Another daemon has the duty now."""


class Locks(Protocol):
    """Locks with a lease of `LEASE_S`; all raise `LocksUnavailable`."""

    async def acquire(self, name: str, last: int) -> int | None:
        """Returns the number of this turn, greater than `last`; None if somebody else has it."""

    async def renew(self, name: str) -> bool:
        """Returns whether it is still this daemon's, now for another lease."""

    async def release(self, name: str) -> None:
        """Lets others have it."""


@dataclass(frozen=True)
class Turn:
    """A daemon's time for a duty."""

    name: str
    number: int | None = None
    """None where no other daemon can be."""
    by_row: bool = False
    """Whether the row is the lock, because Redis could not be used."""

    async def check(self, session: AsyncSession) -> None:
        """Raises `TurnOver` if another daemon's turn has begun; none does before the transaction
        ends."""
        if self.number is not None:
            row = await _row(session, self.name)
            if row.value["turn"] != self.number:
                raise TurnOver(f"{self.name} is done by another daemon now")


class Duties:
    """Does things in turns with the other daemons."""

    def __init__(
        self, database: Database, locks: Locks | None, owner: str, directory: str | None = None
    ) -> None:
        """What daemons on the owner's directory had under way before ends at once."""
        self._database = database
        self._locks = locks
        self._owner = owner
        self._former = owner if directory is None else f"{directory}-"

    async def run(self, name: str, work: Callable[[Turn], Awaitable[None]]) -> None:
        """Does `work` for ever, whenever it is this daemon's turn; it is cancelled when that ends.

        Where no other daemon can be it always is. Whatever breaks off is begun again.
        """
        while True:
            try:
                if self._database.is_sqlite:
                    await work(Turn(name))
                elif (turn := await self.begin(name)) is not None:
                    await self._serve(turn, work)
            except TurnOver as over:
                logger.info("%s", over)
            except DatabaseUnavailable:
                logger.warning("whose turn it is for %s can't be found out", name)
            except Exception:
                logger.exception("%s broke off; again in %g s", name, TRY_S)
            await asyncio.sleep(TRY_S)

    async def begin(self, name: str) -> Turn | None:
        """Returns a turn that has begun; None if it is another daemon's."""
        if self._locks is None:
            return await self._record(name, None)
        async with self._database.read() as session:
            query = select(KeyValueStore.value).where(*_of(name))
            last = (await session.scalar(query) or _NOBODY)["turn"]
        try:
            number = await self._locks.acquire(name, last)
        except LocksUnavailable as error:
            logger.warning("locks are kept in the database, because Redis fails: %s", error)
            return await self._record(name, None)
        if number is None:
            return None
        turn = await self._record(name, number)
        if turn is None:
            await self._release(name)
        return turn

    async def end(self, turn: Turn) -> None:
        """Lets others have their turn at once."""
        if not turn.by_row:
            await self._release(turn.name)
        # Who comes next must not wait for the rest of what the row says either.
        with suppress(DatabaseUnavailable):
            await self._hold(turn, 0.0)

    async def renew(self, turn: Turn) -> bool:
        """Returns whether it is still this daemon's turn, now for another lease."""
        if turn.by_row or self._locks is None:
            return await self._hold(turn, LEASE_S)
        return await self._locks.renew(turn.name)

    async def _serve(self, turn: Turn, work: Callable[[Turn], Awaitable[None]]) -> None:
        tasks = {
            asyncio.ensure_future(work(turn)),
            asyncio.create_task(self._keep(turn), name=f"turn of {turn.name}"),
        }
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self.end(turn)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _keep(self, turn: Turn) -> None:
        """Renews a turn; returns when it is over, or may be."""
        loop = asyncio.get_running_loop()
        until = loop.time() + LEASE_S
        while loop.time() < until:
            await asyncio.sleep(RENEW_S)
            began = loop.time()
            with suppress(LocksUnavailable, DatabaseUnavailable):
                if not await self.renew(turn):
                    return
                until = began + LEASE_S

    async def _record(self, name: str, number: int | None) -> Turn | None:
        """Begins a turn of a number from Redis, or of the row's next; None if it is another's."""
        async with self._database.write() as session:
            row = await _row(session, name)
            now = await _now(session)
            said = row.value
            is_former = said["owner"].startswith(self._former)
            # What lasts longer than a lease was written before the database's clock was set back.
            if now < said["until"] <= now + 2 * LEASE_S and not is_former:
                return None
            by_row = number is None
            number = said["turn"] + 1 if number is None else number
            if number <= said["turn"]:
                return None
            row.value = {"turn": number, "owner": self._owner, "until": now + LEASE_S}
        return Turn(name, number, by_row)

    async def _hold(self, turn: Turn, lease_s: float) -> bool:
        async with self._database.write() as session:
            row = await _row(session, turn.name)
            if row.value["turn"] != turn.number:
                return False
            until = await _now(session) + lease_s
            row.value = {**row.value, "until": until if lease_s else 0.0}
        return True

    async def _release(self, name: str) -> None:
        if self._locks is not None:
            with suppress(LocksUnavailable):
                await self._locks.release(name)


async def _row(session: AsyncSession, name: str) -> KeyValueStore:
    """Returns the row of a duty, which nobody else changes before the transaction ends."""
    new = insert_into(session, KeyValueStore).values(prefix=_PREFIX, key=name, value=_NOBODY)
    await session.execute(new.on_conflict_do_nothing())
    row = await session.scalar(select(KeyValueStore).where(*_of(name)).with_for_update())
    assert row is not None
    return row


async def _now(session: AsyncSession) -> float:
    return await session.scalar(select(epoch())) or 0.0


def _of(name: str) -> tuple[Any, ...]:
    return KeyValueStore.prefix == _PREFIX, KeyValueStore.key == name
