"""`/api/v1/audit/`: who changed what."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from condastore.errors import InvalidInput
from condastore.http import shapes
from condastore.http.operations import Call
from condastore.http.parameters import NoBody, PageQuery, page_request
from condastore.service import audit
from condastore.service.audit import AuditFilter, AuditRecord


class AuditQuery(PageQuery, kw_only=True):
    """Which changes, a page at a time, the newest first unless `order` is `asc`."""

    actor: str = ""
    action: str = ""
    namespace: str = ""
    environment: str = ""
    build_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None


class Change(msgspec.Struct):
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

    @classmethod
    def of(cls, row: AuditRecord) -> "Change":
        return cls(*row)


async def list_(call: Call[AuditQuery, NoBody]) -> shapes.Listed[Change]:
    """The audit log, for administrators; those of namespaces see what is about theirs."""
    query = call.query
    wanted = AuditFilter(
        query.actor,
        query.action,
        query.namespace,
        query.environment,
        query.build_id,
        _utc(query.since),
        _utc(query.until),
    )
    query.order = query.order or "desc"
    request = page_request(query, call.max_page_size)
    rows = await audit.list_changes(call.parts, call.caller, request, wanted)
    return shapes.page(rows, Change.of)


def _utc(moment: datetime | None) -> datetime | None:
    """Returns a time as it is stored; one without an offset is UTC already.

    Raises `InvalidInput` for one that is before or after all years.
    """
    if moment is None or moment.tzinfo is None:
        return moment
    try:
        return moment.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        raise InvalidInput(f"{moment.isoformat()} is no time in UTC") from None
