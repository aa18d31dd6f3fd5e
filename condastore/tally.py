"""Whether the database is still as new as what was done on its word.

A failover to a replica that lagged behind takes the last transactions back, and so does a backup
that is restored. So whoever changes what environments are on the disk counts that, in the same
transaction; each daemon also keeps the last number that it saw committed, beside the database.
"""

import asyncio
import threading
from contextlib import suppress
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from condastore.database import Database, insert_into
from condastore.files import write_file
from condastore.tables import KeyValueStore

_PLACE = {"prefix": "tally", "key": "prefixes"}


class Tally:
    """The number of changes: in a row of the database, and in a file."""

    def __init__(self, database: Database, path: Path) -> None:
        self._database = database
        self._path = path
        self._turn = threading.RLock()
        self._kept: int | None = None
        self._missed = 0
        self.noticed = asyncio.Event()
        """Is set when a change is counted and some before it are not there any more."""
        self.problem: str | None = None
        """What was lost since the start, in a sentence."""

    async def count(self, session: AsyncSession) -> int:
        """Counts a change; returns its number, to be kept after the commit.

        It comes last in a transaction: others who count wait for its end.
        """
        row = await _row(session)
        kept = await self._known()
        if row.value < kept:
            # From now on the number in the database does not show it.
            self._missed = kept - row.value
            self.noticed.set()
        row.value = max(row.value, kept) + 1
        number: int = row.value
        return number

    async def keep(self, number: int) -> None:
        """Keeps the number of a change that is committed."""
        await asyncio.to_thread(self._keep, number)

    def _keep(self, number: int) -> None:
        with self._turn:
            if number > self._read():
                self._kept = number
                # One that a full disk does not take is only missed if the database loses it as
                # well, and the daemon ends before it finds that out.
                with suppress(OSError):
                    write_file(self._path, f"{number}\n".encode())

    async def lost(self) -> int:
        """Returns how many of the changes that were committed the database has lost."""
        # First, so that a change that is committed meanwhile is no loss.
        kept = await self._known()
        async with self._database.read() as session:
            query = select(KeyValueStore.value).filter_by(**_PLACE)
            found: int = await session.scalar(query) or 0
        return max(kept - found, self._missed)

    async def catch_up(self) -> None:
        """Lets the database count on from what is kept, so that what it has lost is told once."""
        kept = await self._known()
        async with self._database.write() as session:
            row = await _row(session)
            row.value = max(row.value, kept)
        self._missed = 0

    async def _known(self) -> int:
        """Returns the highest number that is kept."""
        return await asyncio.to_thread(self._read) if self._kept is None else self._kept

    def _read(self) -> int:
        with self._turn:
            if self._kept is None:
                try:
                    self._kept = int(self._path.read_text())
                except (FileNotFoundError, ValueError):
                    self._kept = 0
            return self._kept


async def _row(session: AsyncSession) -> KeyValueStore:
    """Returns the row, which nobody else changes before the transaction ends."""
    new = insert_into(session, KeyValueStore).values(**_PLACE, value=0)
    await session.execute(new.on_conflict_do_nothing())
    query = select(KeyValueStore).filter_by(**_PLACE).with_for_update()
    row: KeyValueStore = (await session.scalars(query)).one()
    return row
