"""What is noted from time to time: who was seen, how much the namespaces hold, and what is odd.

All of it is bounded: a sample an hour for two days, then one a day; the audit log as configured.
"""

import asyncio
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from condastore import audit
from condastore.access import ADMINISTRATOR, Caller
from condastore.database import Database
from condastore.service.parts import Parts
from condastore.service.usage import usage
from condastore.tables import Person, UsageSample, utcnow
from condastore.wall_clock import wall_clock

logger = logging.getLogger(__name__)

# The start has other things to do.
FIRST_S = 60.0
EVERY_S = 300.0
HOURLY = timedelta(days=2)
KEPT = timedelta(days=400)
# So many namespaces are sampled, the largest; the others are one line.
NAMESPACES = 50
SHOWN = 6
LONG_JOURNAL_BYTES = 128 * 2**20
WHOLE_DISK, OTHERS = "", "*"


@dataclass(frozen=True)
class Line:
    """How much something took, over time; `name` is a namespace, `WHOLE_DISK` or `OTHERS`."""

    name: str
    bytes: Sequence[int]


@dataclass(frozen=True)
class DiskHistory:
    """How much the largest namespaces took at some times, and the file system as a whole."""

    times: Sequence[datetime]
    disk: Line
    lines: Sequence[Line]


async def keep_chronicle(parts: Parts) -> None:
    """Notes for ever."""
    await asyncio.sleep(FIRST_S)
    while True:
        try:
            await note_seen(parts)
            await sample(parts)
            warn_of_a_long_journal(parts.database)
        except Exception:
            # Nothing that is only noted may end the daemon.
            logger.exception("who was seen, and the disk, can't be noted; it is tried again later")
        await asyncio.sleep(EVERY_S)


def warn_of_a_long_journal(database: Database) -> None:
    """Says so if somebody has kept SQLite for long from cutting its journal."""
    size = database.journal_bytes
    if size > LONG_JOURNAL_BYTES:
        logger.warning(
            "the journal of the database has %d MB and grows with every change, because some "
            "program has read the database since: end it (fuser names it), such as a backup that "
            "hangs or a forgotten sqlite3",
            size / 10**6,
        )


async def note_seen(parts: Parts) -> None:
    """Writes down who was seen, of those who have signed in once."""
    seen, parts.identities.seen = parts.identities.seen, {}
    if not seen:
        return
    async with parts.database.write() as session:
        for name, moment in seen.items():
            known = update(Person).where(Person.name == name, Person.seen_on < moment)
            await session.execute(known.values(seen_on=moment))


async def sample(parts: Parts, now: datetime | None = None) -> None:
    """Notes what takes the disk, once an hour; thins out older samples and the audit log."""
    hour = (now or utcnow()).replace(minute=0, second=0, microsecond=0)
    async with parts.database.read() as session:
        taken = select(UsageSample.taken_on).where(UsageSample.taken_on == hour).limit(1)
        if await session.scalar(taken) is not None:
            return
    disk = await asyncio.to_thread(shutil.disk_usage, parts.store.root)
    used = sorted(await usage(parts, ADMINISTRATOR), key=lambda row: row.bytes, reverse=True)
    found = {row.namespace: row.bytes for row in used[:NAMESPACES]}
    found[WHOLE_DISK] = disk.used
    found[OTHERS] = sum(row.bytes for row in used[NAMESPACES:])
    try:
        async with parts.database.write() as session:
            session.add_all(
                UsageSample(taken_on=hour, namespace=n, bytes=b) for n, b in found.items()
            )
            if wall_clock.is_settled():
                await _thin_out(session, hour)
                await audit.prune(session, parts.config.audit_days, parts.config.audit_entries)
    except IntegrityError:
        # Another daemon on the same database was first.
        return


async def _thin_out(session: AsyncSession, now: datetime) -> None:
    """Keeps the last sample of each day that is over for long, and none for ever."""
    await session.execute(delete(UsageSample).where(UsageSample.taken_on < now - KEPT))
    old = select(UsageSample.taken_on).distinct().where(UsageSample.taken_on < now - HOURLY)
    times = (await session.scalars(old.order_by(UsageSample.taken_on))).all()
    for _, some in groupby(times, key=datetime.date):
        *early, _ = some
        if early:
            await session.execute(delete(UsageSample).where(UsageSample.taken_on.in_(early)))


async def disk_history(parts: Parts, caller: Caller) -> DiskHistory:
    """Returns all samples: of the namespaces that took most at last, and of the others together."""
    caller.require("setting::read", "")
    async with parts.database.read() as session:
        largest = await _largest(session)
        shown = UsageSample.namespace.in_([WHOLE_DISK, *largest])
        each = select(UsageSample.namespace, UsageSample.taken_on, UsageSample.bytes)
        rows = await session.execute(each.where(shown))
        rest = select(UsageSample.taken_on, func.sum(UsageSample.bytes)).where(~shown)
        others = await session.execute(rest.group_by(UsageSample.taken_on))
    found = {(name, taken_on): size for name, taken_on, size in rows}
    found |= {(OTHERS, taken_on): int(size) for taken_on, size in others}
    times = sorted({taken_on for _, taken_on in found})
    disk, *lines = (
        Line(name, [found.get((name, taken_on), 0) for taken_on in times])
        for name in (WHOLE_DISK, *largest, OTHERS)
    )
    return DiskHistory(times, disk, [line for line in lines if any(line.bytes)])


async def _largest(session: AsyncSession) -> list[str]:
    """Returns the namespaces that took most at the last sample."""
    last = select(func.max(UsageSample.taken_on)).scalar_subquery()
    query = (
        select(UsageSample.namespace)
        .where(UsageSample.taken_on == last, UsageSample.bytes > 0)
        .where(UsageSample.namespace.not_in([WHOLE_DISK, OTHERS]))
        .order_by(UsageSample.bytes.desc())
        .limit(SHOWN)
    )
    return list(await session.scalars(query))
