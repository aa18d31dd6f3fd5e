"""Who a token stands for, and what that is worth now (rest-api §11, §12)."""

import secrets
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from condastore.access import (
    ADMINISTRATOR,
    ANONYMOUS,
    AccessPolicy,
    Bindings,
    Caller,
)
from condastore.audit import Action, record
from condastore.auth.authentication import Identity
from condastore.auth.tokens import AdminToken, Claims, TokenSigner
from condastore.database import Database, insert_into
from condastore.errors import DatabaseUnavailable
from condastore.names import matches_pattern
from condastore.tables import (
    Namespace,
    NamespaceRoleMapping,
    NamespaceRoleMappingV2,
    Person,
    Token,
    utcnow,
)
from condastore.wall_clock import wall_clock

# What another daemon, or a hand on the database, revokes ends here after at most this time.
CACHED_S = 5.0
_CACHED = 1000
# Failed sign-ins that the audit log takes: whoever tries may be many.
REFUSALS_A_MINUTE = 60
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Predefined:
    """A token that the configuration lists."""

    primary_namespace: str
    role_bindings: Bindings


class Identities:
    """Makes callers of tokens, and tokens of identities."""

    def __init__(
        self,
        database: Database,
        policy: AccessPolicy,
        signer: TokenSigner,
        admin_token: AdminToken,
        *,
        predefined_tokens: Mapping[str, Any],
        default_namespace: str,
        role_mappings_version: int,
    ) -> None:
        self.admin_token = admin_token
        self._database = database
        self._signer = signer
        self._default_namespace = default_namespace
        self.role_mappings_version = role_mappings_version
        self._cached: dict[str, tuple[float, Caller]] = {}
        self._refused: deque[float] = deque()
        self.seen: dict[str, datetime] = {}
        """When somebody was last seen, of those that the database may not know yet."""
        self.follow(policy, predefined_tokens)

    def follow(self, policy: AccessPolicy, predefined_tokens: Mapping[str, Any]) -> None:
        """Goes by these rules from now on. Raises `InvalidInput` and changes nothing."""
        self._predefined = {
            token: Predefined(
                entry.get("primary_namespace", self._default_namespace),
                policy.checked(entry.get("role_bindings", {})),
            )
            for token, entry in predefined_tokens.items()
        }
        self.policy = policy
        self._signer.policy = policy
        self.anonymous = policy.anonymous(self._default_namespace)
        self.forget()

    async def caller(self, token: str | None) -> Caller:
        """Returns who a token stands for; an invalid, ended or revoked one stands for nobody."""
        if not token:
            return self.anonymous
        if self.admin_token.is_text(token):
            return ADMINISTRATOR
        until, caller = self._cached.get(token, (0.0, self.anonymous))
        if time.monotonic() < until and not _has_ended(caller):
            return caller
        cached = self._cached
        caller = await self._caller(token)
        if caller.actor != ANONYMOUS:
            self.seen[caller.actor] = utcnow()
        if len(cached) >= _CACHED:
            cached.clear()
        # In vain, if meanwhile everybody was forgotten: this may be what he was before.
        cached[token] = (time.monotonic() + CACHED_S, caller)
        return caller

    def forget(self) -> None:
        """Looks everybody's rights up anew: roles or tokens have changed."""
        self._cached = {}

    async def log_in(
        self, identity: Identity, lifetime_s: int, address: str | None = None
    ) -> tuple[str, datetime]:
        """Returns a token for who signed in, and when it ends, with an offset."""
        name = identity.primary_namespace
        claims = Claims(
            name,
            self.policy.checked(identity.role_bindings),
            datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=lifetime_s),
            id=secrets.token_urlsafe(16),
            user=name,
        )
        async with self._database.write() as session:
            await _add(session, claims, owner=name, maker=name, is_login=True)
            await _note_sign_in(session, claims, name)
            self._record(session, Action.LOGIN_SUCCEED, name, address)
        return self._signer.sign(claims), claims.expires

    async def refuse(self, username: str, address: str | None) -> None:
        """Notes in the audit log that somebody could not sign in; of very many at once not all.

        Only the names of people who have signed in before: any other may be a password in the
        wrong field. A database that can't take it is no reason to answer anything else.
        """
        now = time.monotonic()
        while self._refused and self._refused[0] < now - 60:
            self._refused.popleft()
        if len(self._refused) >= REFUSALS_A_MINUTE:
            return
        self._refused.append(now)
        with suppress(DatabaseUnavailable):
            async with self._database.write() as session:
                known = select(Person.name).where(Person.name == username)
                # No database has to look for what can't be a name.
                name = await session.scalar(known) if matches_pattern(username) else None
                self._record(session, Action.LOGIN_FAIL, name or UNKNOWN, address)

    def _record(
        self, session: AsyncSession, action: Action, name: str, address: str | None
    ) -> None:
        details = {"address": address or UNKNOWN}
        record(session, replace(self.anonymous, actor=name), action, details=details)

    async def mint(
        self, caller: Caller, primary_namespace: str, bindings: Bindings, expires: datetime
    ) -> str:
        """Returns a token for a part of what a caller may do; see `service.tokens`."""
        claims = Claims(
            primary_namespace,
            bindings,
            expires,
            id=secrets.token_urlsafe(16),
        )
        if not caller.authenticated:
            # It is worth nothing that would have to be revoked, and nobody may fill the database.
            return self._signer.sign(replace(claims, id=None, is_anonymous=True))
        async with self._database.write() as session:
            row = await _add(session, claims, caller.user, caller.actor, is_login=False)
            details = {
                "token_id": row.id,
                "role_bindings": row.role_bindings,
                "expires_on": row.expires_on.isoformat(),
            }
            record(session, caller, Action.TOKEN_CREATE, primary_namespace, details=details)
        return self._signer.sign(claims)

    async def revoke(self, token: str) -> None:
        """Ends a token for good, wherever it is used."""
        claims = self._signer.read(token)
        if claims is None or claims.id is None:
            return
        async with self._database.write() as session:
            row = await session.scalar(select(Token).where(Token.jti == claims.id))
            if row is not None:
                row.revoked_on = row.revoked_on or utcnow()
        self.forget()

    async def _caller(self, token: str) -> Caller:
        if (known := self._predefined.get(token)) is not None:
            granted = await self._granted(known.primary_namespace)
            name = known.primary_namespace
            actor = f"{name} (configured token)"
            return self.policy.caller(name, known.role_bindings, granted, actor=actor)
        claims = self._signer.read(token)
        if claims is None:
            return self.anonymous
        row = None if claims.id is None else await self._row(claims.id)
        if claims.id is not None and (row is None or row.revoked_on is not None):
            return self.anonymous
        if claims.is_anonymous:
            return _limited(self.policy.anonymous(claims.primary_namespace), claims, self.policy)
        # Only whoever signed in has what was granted to him since; a minted token is a fixed part.
        is_minted = claims.id is not None and claims.user is None
        granted = {} if is_minted else await self._granted(claims.primary_namespace)
        return self.policy.caller(
            claims.primary_namespace,
            claims.role_bindings,
            granted,
            user=claims.user,
            expiration=claims.expires,
            actor=_actor(claims, row),
            token_id=row.id if row is not None and is_minted else None,
        )

    async def _row(self, jti: str) -> Token | None:
        async with self._database.read() as session:
            row: Token | None = await session.scalar(select(Token).where(Token.jti == jti))
            return row

    async def _granted(self, primary_namespace: str) -> Bindings:
        """Returns what the database's role mappings give the users of a namespace."""
        if self.role_mappings_version == 1:
            query = (
                select(NamespaceRoleMapping.entity, NamespaceRoleMapping.role)
                .join(Namespace, Namespace.id == NamespaceRoleMapping.namespace_id)
                .where(Namespace.name == primary_namespace, Namespace.deleted_on.is_(None))
            )
        else:
            opened, theirs = aliased(Namespace), aliased(Namespace)
            mapping = NamespaceRoleMappingV2
            query = (
                select(opened.name + "/*", mapping.role)
                .join(opened, opened.id == mapping.namespace_id)
                .join(theirs, theirs.id == mapping.other_namespace_id)
                .where(theirs.name == primary_namespace, theirs.deleted_on.is_(None))
            )
        granted: dict[str, tuple[str, ...]] = {}
        async with self._database.read() as session:
            for pattern, role in await session.execute(query):
                granted[pattern] = (*granted.get(pattern, ()), role)
        return granted


async def _add(
    session: AsyncSession, claims: Claims, owner: str | None, maker: str, *, is_login: bool
) -> Token:
    """Notes a token within a transaction, and forgets those that have ended."""
    if wall_clock.is_settled():
        await session.execute(delete(Token).where(Token.expires_on < utcnow()))
    row = Token(
        jti=claims.id,
        owner=owner,
        maker=maker,
        primary_namespace=claims.primary_namespace,
        role_bindings={key: list(roles) for key, roles in claims.role_bindings.items()},
        is_login=is_login,
        expires_on=claims.expires.astimezone(UTC).replace(tzinfo=None),
    )
    session.add(row)
    await session.flush()
    return row


async def _note_sign_in(session: AsyncSession, claims: Claims, name: str) -> None:
    """Notes who signed in. He may do so for the first time in several places at once."""
    now = utcnow()
    values = {
        "role_bindings": {key: list(roles) for key, roles in claims.role_bindings.items()},
        "signed_in_on": now,
        "seen_on": now,
    }
    new = insert_into(session, Person).values(name=name, **values)
    await session.execute(new.on_conflict_do_update(index_elements=["name"], set_=values))


def _actor(claims: Claims, row: Token | None) -> str:
    """Returns who answers for what is done with a token."""
    if claims.user is not None:
        return claims.user
    if row is None:
        return f"{claims.primary_namespace} (token from elsewhere)"
    return row.owner or row.maker or UNKNOWN


def _limited(anonymous: Caller, claims: Claims, policy: AccessPolicy) -> Caller:
    """A token that nobody in particular minted: what it says, as far as everybody has it."""
    bindings = {
        pattern: roles
        for pattern, roles in claims.role_bindings.items()
        if anonymous.may_grant(pattern, policy.permissions(roles))
    }
    return AccessPolicy(policy.roles, {}, {}).caller(
        claims.primary_namespace, bindings, expiration=claims.expires
    )


def _has_ended(caller: Caller) -> bool:
    return caller.expiration is not None and caller.expiration <= datetime.now(UTC)
