"""The audit log: of the whole daemon for its administrators, of their own for namespaces'."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, bindparam, select

from condastore.access import Caller
from condastore.errors import Unauthorized
from condastore.service.pages import LISTINGS, Listing, Order, Page, PageRequest, each
from condastore.service.parts import Parts
from condastore.service.visibility import in_namespaces, whole_namespaces
from condastore.tables import AuditEntry, row_id
from condastore.views import Values

PERMISSION = "setting::update"
SORTABLE = {"id": AuditEntry.id}
FILTERS: Mapping[str, ColumnElement[bool]] = {
    "actor": AuditEntry.actor == bindparam("actor"),
    "action": AuditEntry.action == bindparam("action"),
    "namespace": AuditEntry.namespace == bindparam("namespace"),
    "environment": AuditEntry.environment == bindparam("environment"),
    "build_id": AuditEntry.build_id == bindparam("build_id"),
    "since": AuditEntry.made_on >= bindparam("since"),
    "until": AuditEntry.made_on < bindparam("until"),
}
COLUMNS = (
    AuditEntry.id,
    AuditEntry.made_on,
    AuditEntry.actor,
    AuditEntry.token_id,
    AuditEntry.action,
    AuditEntry.namespace,
    AuditEntry.environment,
    AuditEntry.build_id,
    AuditEntry.details,
    AuditEntry.via,
    AuditEntry.request_id,
)


class AuditRecord(NamedTuple):
    """A change that somebody made."""

    id: int
    made_on: datetime
    actor: str
    token_id: int | None
    action: str
    namespace: str | None
    environment: str | None
    build_id: int | None
    details: dict[str, Any]
    via: str
    request_id: str | None


@dataclass(frozen=True)
class AuditFilter:
    """Which changes a list shows; empty fields filter nothing."""

    actor: str = ""
    action: str = ""
    namespace: str = ""
    environment: str = ""
    build_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Times are UTC without an offset; `until` is the first one that is not shown."""

    def values(self) -> Values:
        """Returns the values of `FILTERS` that are asked for."""
        wanted = {
            "actor": self.actor or None,
            "action": self.action or None,
            "namespace": self.namespace or None,
            "environment": self.environment or None,
            "build_id": None if self.build_id is None else row_id(self.build_id),
            "since": self.since,
            "until": self.until,
        }
        return {name: value for name, value in wanted.items() if value is not None}


async def list_changes(
    parts: Parts, caller: Caller, request: PageRequest, wanted: AuditFilter
) -> Page[AuditRecord]:
    """Returns a page of changes: all, for who may change the settings of the whole daemon; those
    that are about his namespaces, for who may change theirs. Raises `Unauthorized`."""
    within = None
    if not caller.allows(PERMISSION, ""):
        within = whole_namespaces(caller, PERMISSION)
        if not within:
            raise Unauthorized
    values = wanted.values()
    listing = _listing(tuple(values), within, request.order(SORTABLE, ["id"]))
    return await parts.database.view(
        lambda view: listing.page(view, values, request, each(AuditRecord))
    )


@lru_cache(maxsize=LISTINGS)
def _listing(filters: tuple[str, ...], within: tuple[str, ...] | None, order: Order) -> Listing:
    query = select(*COLUMNS).where(*(FILTERS[name] for name in filters))
    if within is not None:
        query = query.where(in_namespaces(AuditEntry.namespace, within))
    return Listing(query, AuditEntry.id, SORTABLE, order)
