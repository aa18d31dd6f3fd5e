"""`/api/v1/channel/` and `/api/v1/package/` (rest-api §4.7)."""

from condastore.http import builds, shapes
from condastore.http.operations import Call, live
from condastore.http.parameters import NoBody, PageQuery, page_request
from condastore.package_index import PackageQuery
from condastore.service import packages


class ListQuery(builds.PackagesQuery, kw_only=True):
    """Which packages, a page at a time."""

    distinct_on: list[str] = []


async def channels(call: Call[PageQuery, NoBody]) -> shapes.Listed[shapes.Channel]:
    """The channels that are indexed, or that builds have packages from."""
    request = page_request(call.query, call.max_page_size)
    rows = await packages.list_channels(call.parts, request)
    return shapes.page(rows, shapes.Channel.of)


@live
async def list_(call: Call[ListQuery, NoBody]) -> shapes.Listed[shapes.Package]:
    """The packages of the indexed channels."""
    query = call.query
    request = page_request(query, call.max_page_size)
    wanted = PackageQuery(
        query.search,
        bool(query.exact),
        query.build,
        query.distinct_on,
        query.sort_by,
        request.descending,
    )
    rows = await packages.list_packages(call.parts, wanted, request)
    return shapes.page(rows, shapes.Package.found)
