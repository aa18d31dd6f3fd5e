"""Tokens: made for a part of what their maker may do, listed, and revoked (rest-api §4.2)."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import bindparam, select

from condastore.access import Bindings, Caller
from condastore.audit import Action, record
from condastore.errors import InvalidInput, NotFound, Unauthorized
from condastore.names import check_name
from condastore.service.pages import LISTINGS, Listing, Order, Page, PageRequest, each
from condastore.service.parts import Parts
from condastore.tables import Token, row_id, utcnow

DEFAULT_LIFETIME = timedelta(days=1)
# JSON Web Tokens hold seconds since 1970 and databases hold years of four digits.
LAST = datetime(9999, 1, 1, tzinfo=UTC)
MAX_BINDINGS = 100

SORTABLE = {"id": Token.id}
TOKEN_COLUMNS = (
    Token.id,
    Token.owner,
    Token.primary_namespace,
    Token.role_bindings,
    Token.is_login,
    Token.created_on,
    Token.expires_on,
    Token.revoked_on,
)


class TooMuch(InvalidInput):
    """A token was asked for that could do more than whoever asks."""


class TokenRecord(NamedTuple):
    """A token that was given out; its text is known to its holder only."""

    id: int
    owner: str | None
    primary_namespace: str
    role_bindings: dict[str, Any]
    is_login: bool
    created_on: datetime
    expires_on: datetime
    revoked_on: datetime | None


async def mint(
    parts: Parts,
    caller: Caller,
    *,
    primary_namespace: str | None,
    expiration: datetime | None,
    role_bindings: Mapping[str, Sequence[str]] | None,
) -> str:
    """Returns a token. Raises `InvalidInput` for one that could do more, or longer."""
    namespace = primary_namespace or caller.primary_namespace
    check_name(namespace)
    bindings = _bindings(parts, caller, role_bindings)
    expires = _expires(caller, expiration)
    return await parts.identities.mint(caller, namespace, bindings, expires)


async def list_tokens(parts: Parts, caller: Caller, request: PageRequest) -> Page[TokenRecord]:
    """Returns a page of tokens that are still good: one's own, or for an administrator all."""
    values: dict[str, Any] = {"now": utcnow().replace(microsecond=0)}
    if not _is_administrator(caller):
        values["owner"] = _user(caller)
    listing = _listing("owner" in values, request.order(SORTABLE, ["id"]))
    return await parts.database.view(
        lambda view: listing.page(view, values, request, each(TokenRecord))
    )


@lru_cache(maxsize=LISTINGS)
def _listing(own: bool, order: Order) -> Listing:
    query = select(*TOKEN_COLUMNS).where(
        Token.revoked_on.is_(None), Token.expires_on > bindparam("now")
    )
    if own:
        query = query.where(Token.owner == bindparam("owner"))
    return Listing(query, Token.id, SORTABLE, order)


async def revoke(parts: Parts, caller: Caller, token_id: int) -> None:
    """Ends a token for good. Raises `NotFound`, also for what is somebody else's."""
    async with parts.database.write() as session:
        row = await session.get(Token, row_id(token_id))
        if row is None or not (_is_administrator(caller) or row.owner == _user(caller)):
            raise NotFound("token does not exist")
        if row.revoked_on is None:
            row.revoked_on = utcnow()
            details = {"token_id": row.id, "of": row.owner or row.maker}
            record(session, caller, Action.TOKEN_REVOKE, row.primary_namespace, details=details)
    parts.identities.forget()


def _bindings(parts: Parts, caller: Caller, wanted: Mapping[str, Sequence[str]] | None) -> Bindings:
    if not wanted:
        return caller.bindings
    if len(wanted) > MAX_BINDINGS:
        raise InvalidInput(f"role_bindings has more than {MAX_BINDINGS} patterns")
    policy = parts.identities.policy
    bindings = policy.checked(wanted)
    if not all(
        caller.may_grant(pattern, policy.permissions(roles)) for pattern, roles in bindings.items()
    ):
        raise TooMuch("Requested role_bindings are not a subset of current permissions")
    return bindings


def _expires(caller: Caller, wanted: datetime | None) -> datetime:
    if wanted is None:
        return caller.expiration or datetime.now(UTC) + DEFAULT_LIFETIME
    if wanted.tzinfo is None:
        raise InvalidInput("expiration has no offset from UTC; write it as 2027-01-31T12:00:00Z")
    last = caller.expiration or LAST
    if not caller.authenticated:
        last = datetime.now(UTC) + DEFAULT_LIFETIME
    if wanted > last:
        raise InvalidInput("Requested expiration of token is greater than current permissions")
    return wanted


def _is_administrator(caller: Caller) -> bool:
    return caller.allows("setting::update", "")


def _user(caller: Caller) -> str:
    if caller.user is None:
        raise Unauthorized("sign in to see and revoke your tokens; a token alone can't")
    return caller.user
