"""Channels, and the packages that they offer (rest-api §4.7)."""

from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import select

from condastore.package_index import IndexedPackage, PackageQuery
from condastore.service.pages import (
    LISTINGS,
    Listing,
    Order,
    Page,
    PageRequest,
    each,
    offset_of,
)
from condastore.service.parts import Parts
from condastore.service.records import CHANNEL_COLUMNS, ChannelRecord
from condastore.tables import CondaChannel

CHANNELS_SORTABLE = {"name": CondaChannel.name}


@dataclass(frozen=True)
class FoundPackage:
    """A package of an indexed channel."""

    channel_id: int
    package: IndexedPackage


async def list_channels(parts: Parts, request: PageRequest) -> Page[ChannelRecord]:
    """Returns the channels that are indexed, or that builds have packages from."""
    listing = _channels_listing(request.order(CHANNELS_SORTABLE, ["name"]))
    return await parts.database.view(
        lambda view: listing.page(view, {}, request, each(ChannelRecord))
    )


@lru_cache(maxsize=LISTINGS)
def _channels_listing(order: Order) -> Listing:
    return Listing(select(*CHANNEL_COLUMNS), CondaChannel.id, CHANNELS_SORTABLE, order)


async def list_packages(
    parts: Parts, query: PackageQuery, request: PageRequest
) -> Page[FoundPackage]:
    """Returns what the indexed channels offer; what only builds know of is not among it."""
    rows, count = await parts.index.find(query, offset_of(request), request.size)
    ids = await parts.indexer.ids({row.channel for row in rows})
    found = [FoundPackage(ids[row.channel], row) for row in rows]
    return Page(found, request.page, request.size, count)
