"""`/api/v1/permission/`, `/usage/` and `/token/`: who asks, and what he may do (rest-api §4.2)."""

from datetime import datetime
from typing import Any

import msgspec

from condastore.http import shapes
from condastore.http.operations import Call, Plain
from condastore.http.parameters import Body, NoBody, NoQuery, PageQuery, page_request
from condastore.service import tokens, usage


class Permission(msgspec.Struct):
    """Who the caller is, and what he may do where."""

    authenticated: bool
    primary_namespace: str
    entity_permissions: dict[str, list[str]]
    entity_roles: dict[str, list[str]]
    expiration: str | None


class Wanted(Body, kw_only=True):
    """What a token should be good for; what is absent is as the caller has it."""

    primary_namespace: str | None = None
    expiration: datetime | None = None
    role_bindings: dict[str, list[str]] | None = None


class Minted(msgspec.Struct):
    token: str


class ListedToken(msgspec.Struct):
    """A token that was given out; its text is known to its holder only."""

    id: int
    owner: str | None
    primary_namespace: str
    role_bindings: dict[str, Any]
    is_login: bool
    created_on: datetime
    expires_on: datetime
    revoked_on: datetime | None

    @classmethod
    def of(cls, row: tokens.TokenRecord) -> "ListedToken":
        return cls(*row)


class Usage(msgspec.Struct):
    """What a namespace holds; `storage` in bytes."""

    num_environments: int
    num_builds: int
    storage: int


async def permission(call: Plain) -> shapes.Data[Permission]:
    """Who the caller is, and what he may do where."""
    caller = call.caller
    expiration = caller.expiration
    return shapes.data(
        Permission(
            caller.authenticated,
            caller.primary_namespace,
            {pattern: sorted(granted) for pattern, granted in caller.grants.items()},
            {pattern: list(roles) for pattern, roles in caller.bindings.items()},
            # The one time that has an offset.
            None if expiration is None else expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
    )


async def namespace_usage(call: Plain) -> shapes.Data[dict[str, Usage]]:
    """What the namespaces that the caller may see hold."""
    rows = await usage.usage(call.parts, call.caller)
    return shapes.data(
        {row.namespace: Usage(row.environments, row.builds, row.bytes) for row in rows}
    )


async def mint(call: Call[NoQuery, Wanted]) -> shapes.Data[Minted]:
    """Makes a token that is good for a part of what the caller may do."""
    body = call.body
    text = await tokens.mint(
        call.parts,
        call.caller,
        primary_namespace=body.primary_namespace,
        expiration=body.expiration,
        role_bindings=body.role_bindings,
    )
    return shapes.data(Minted(text))


async def list_tokens(call: Call[PageQuery, NoBody]) -> shapes.Listed[ListedToken]:
    """The caller's tokens that are still good; an administrator sees everybody's."""
    request = page_request(call.query, call.max_page_size)
    return shapes.page(await tokens.list_tokens(call.parts, call.caller, request), ListedToken.of)


async def revoke(call: Plain) -> shapes.Acknowledgement:
    """Ends a token at once and for good."""
    await tokens.revoke(call.parts, call.caller, call.id("token_id"))
    return shapes.acknowledge()
