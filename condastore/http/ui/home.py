"""The environments that the caller may see, grouped by namespace."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from starlette.responses import Response

from condastore.builds import FINAL, BuildStatus
from condastore.http.ui.views import View
from condastore.service.overview import EnvironmentLine, list_lines

PAGE_SIZE = 50
MAX_SEARCH = 200


@dataclass(frozen=True)
class Group:
    """The environments of one namespace on a page."""

    namespace: str
    lines: list[EnvironmentLine]
    may_create: bool


async def home(view: View) -> Response:
    """The list, a page at a time; its filters are in the address."""
    search = view.query.get("search", "").strip()[:MAX_SEARCH]
    namespace = view.query.get("namespace", "")
    status = view.query.get("status", "").upper()
    found = await list_lines(
        view.parts,
        view.caller,
        page=view.page_number,
        size=PAGE_SIZE,
        search=search,
        namespace=namespace,
        status=BuildStatus(status) if status in BuildStatus.__members__ else None,
    )
    return await view.page(
        "home.html",
        groups=grouped(view, found.rows),
        found=found,
        search=search,
        namespace=namespace,
        status=status,
        is_filtered=bool(search or namespace or status),
        is_live=any(line.newest_status not in FINAL for line in found.rows),
        may_create=view.caller.allows_somewhere("environment:create"),
    )


def grouped(view: View, lines: Iterable[EnvironmentLine]) -> list[Group]:
    """Returns lines, which are in the order of their namespaces, by namespace."""
    return [
        Group(namespace, list(some), view.allows("environment:create", f"{namespace}/x"))
        for namespace, some in groupby(lines, key=lambda line: line.namespace)
    ]
