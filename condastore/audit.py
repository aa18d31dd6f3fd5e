"""The audit log: who changed what, written in the transaction of the change itself.

Never a secret, and never what somebody typed at length: names, numbers and roles.
"""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from condastore import correlation
from condastore.access import Caller
from condastore.tables import AuditEntry, utcnow


class Action(StrEnum):
    """What was done."""

    BUILD_QUEUE = "build.queue"
    BUILD_REBUILD = "build.rebuild"
    BUILD_RESTORE = "build.restore"
    BUILD_CANCEL = "build.cancel"
    BUILD_DELETE = "build.delete"
    ARTIFACT_MAKE = "artifact.make"
    ARTIFACT_REMOVE = "artifact.remove"
    ENVIRONMENT_ACTIVATE = "environment.activate"
    ENVIRONMENT_DESCRIBE = "environment.describe"
    ENVIRONMENT_DELETE = "environment.delete"
    NAMESPACE_CREATE = "namespace.create"
    NAMESPACE_DESCRIBE = "namespace.describe"
    NAMESPACE_DELETE = "namespace.delete"
    SHARE_GRANT = "share.grant"
    SHARE_WITHDRAW = "share.withdraw"
    SHARE_REPLACE = "share.replace"
    TOKEN_CREATE = "token.create"
    TOKEN_REVOKE = "token.revoke"
    SETTING_CHANGE = "setting.change"
    SETTING_RESET = "setting.reset"
    LOGIN_SUCCEED = "login.succeed"
    LOGIN_FAIL = "login.fail"


# Strangers make these, so they take this part of the log at most, and nothing else's place.
FAILURES_PART = 10


def record(
    session: AsyncSession,
    caller: Caller,
    action: Action,
    namespace: str | None = None,
    environment: str | None = None,
    *,
    build_id: int | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Adds an entry to the session's transaction."""
    session.add(
        AuditEntry(
            actor=caller.actor,
            token_id=caller.token_id,
            action=action,
            namespace=namespace,
            environment=environment,
            build_id=build_id,
            details=dict(details or {}),
            via=correlation.via.get(),
            request_id=correlation.request_id.get() or None,
        )
    )


async def prune(session: AsyncSession, days: int, entries: int) -> None:
    """Removes what is older than so many days, and the oldest beyond so many entries.

    Sign-ins that failed are counted by themselves, as a tenth of that.
    """
    too_old = AuditEntry.made_on < utcnow() - timedelta(days=days)
    await session.execute(delete(AuditEntry).where(too_old))
    is_failure = AuditEntry.action == Action.LOGIN_FAIL
    for some, kept in ((~is_failure, entries), (is_failure, entries // FAILURES_PART)):
        newest = select(AuditEntry.id).where(some).order_by(AuditEntry.id.desc())
        last = await session.scalar(newest.offset(kept).limit(1))
        if last is not None:
            await session.execute(delete(AuditEntry).where(some, AuditEntry.id <= last))
