"""Locks in Redis: who has one, until when, and which number his turn has.

A Redis that restarts empty counts from 1 again, so whoever takes a lock says which number was the
last one that he knows of.
"""

from collections.abc import Awaitable
from typing import Any, cast

from redis.exceptions import RedisError

from condastore.duties import LEASE_S, LocksUnavailable
from condastore.streams.redis import client

_ACQUIRE = """
local owner = redis.call('GET', KEYS[1])
if owner and string.sub(owner, 1, #ARGV[4]) ~= ARGV[4] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local turn = redis.call('INCR', KEYS[2])
if turn <= tonumber(ARGV[3]) then
    turn = ARGV[3] + 1
    redis.call('SET', KEYS[2], turn)
end
return turn
"""
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('DEL', KEYS[1])
end
return 0
"""


class RedisLocks:
    """The locks that this daemon takes. All raise `LocksUnavailable` when Redis can't be used."""

    def __init__(self, url: str, owner: str, directory: str | None = None) -> None:
        """Raises `ConfigurationError` if the URL is none; nothing is connected yet.

        The locks that daemons on the owner's directory had before are his at once.
        """
        self._redis = client(url)
        self._owner = owner
        self._former = owner if directory is None else f"{directory}-"

    async def acquire(self, name: str, last: int) -> int | None:
        """Returns the number of this turn, greater than `last`; None if somebody else has it."""
        return await self._run(_ACQUIRE, name, int(LEASE_S * 1000), last, self._former) or None

    async def renew(self, name: str) -> bool:
        """Returns whether this daemon has the lock, now for another lease."""
        return bool(await self._run(_RENEW, name, int(LEASE_S * 1000)))

    async def release(self, name: str) -> None:
        """Lets others have it, if it is this daemon's."""
        await self._run(_RELEASE, name)

    async def close(self) -> None:
        """Ends the connections."""
        await self._redis.aclose()

    async def _run(self, script: str, name: str, *values: int | str) -> int:
        keys = f"condastore:lock:{name}", f"condastore:turn:{name}"
        arguments: Any = (*keys, self._owner, *values)
        try:
            found = await cast(Awaitable[int], self._redis.eval(script, len(keys), *arguments))
        except (RedisError, OSError) as error:
            raise LocksUnavailable(type(error).__name__) from error
        return found
