"""Channels, and the packages that they offer (rest-api §4.7)."""

from dataclasses import dataclass

from sqlalchemy import select

from condastore.package_index import IndexedPackage, PackageQuery
from condastore.service.pages import Page, PageRequest, offset_of, page_of
from condastore.service.parts import Parts
from condastore.tables import CondaChannel


@dataclass(frozen=True)
class FoundPackage:
    """A package of an indexed channel."""

    channel_id: int
    package: IndexedPackage


async def list_channels(parts: Parts, request: PageRequest) -> Page[CondaChannel]:
    """Returns the channels that are indexed, or that builds have packages from."""
    async with parts.database.read() as session:
        sortable = {"name": CondaChannel.name}
        return await page_of(session, select(CondaChannel), request, sortable, ["name"])


async def list_packages(
    parts: Parts, query: PackageQuery, request: PageRequest
) -> Page[FoundPackage]:
    """Returns what the indexed channels offer; what only builds know of is not among it."""
    rows, count = await parts.index.find(query, offset_of(request), request.size)
    ids = await parts.indexer.ids({row.channel for row in rows})
    found = [FoundPackage(ids[row.channel], row) for row in rows]
    return Page(found, request.page, request.size, count)
