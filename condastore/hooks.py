"""What an operator's configuration does at certain points (docs/hooks.md)."""

import asyncio
import inspect
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condastore.errors import InvalidInput, Unavailable

logger = logging.getLogger(__name__)

AT_ONCE = 4

Function = Callable[..., Any] | None


@dataclass(frozen=True)
class SwitchedEnvironment:
    """An environment whose link has just been switched."""

    namespace: str
    name: str
    build_id: int
    prefix: Path


class Hooks:
    """The operator's functions. Plain ones run in threads of their own, a few at once."""

    def __init__(
        self,
        conda_store: object,
        timeout_s: float,
        *,
        validate_specification: Function = None,
        validate_action: Function = None,
        environment_switched: Function = None,
    ) -> None:
        self._conda_store = conda_store
        self._timeout_s = timeout_s
        self._validate_specification = validate_specification
        self._validate_action = validate_action
        self._environment_switched = environment_switched
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="hook")

    async def specification(self, namespace: str, specification: dict[str, Any]) -> dict[str, Any]:
        """Returns what the operator makes of a specification; it is to be checked again.

        Raises `InvalidInput` with the text of a `ValueError`.
        """
        if self._validate_specification is None:
            return specification
        changed = await self._call(
            self._validate_specification, None, self._conda_store, namespace, specification
        )
        if changed is None:
            return specification
        if not isinstance(changed, dict):
            raise TypeError("CondaStore.validate_specification must return the specification")
        return changed

    async def action(self, namespace: str, action: str) -> None:
        """Asks whether something may be done. Raises `InvalidInput` if not."""
        if self._validate_action is not None:
            await self._call(self._validate_action, None, self._conda_store, namespace, action)

    async def switched(self, environment: SwitchedEnvironment) -> None:
        """Tells that an environment has another build now; a failure is logged, no more."""
        if self._environment_switched is None:
            return
        try:
            await self._call(self._environment_switched, self._conda_store, environment)
        except Exception:
            logger.exception("CondaStore.post_update_environment_build_hook failed")

    async def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                if inspect.iscoroutinefunction(function):
                    return await function(*arguments)
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, function, *arguments)
        except ValueError as error:
            raise InvalidInput(str(error)) from error
        except TimeoutError:
            name = getattr(function, "__name__", "a hook")
            logger.error("%s took longer than CondaStore.hook_timeout", name)
            raise Unavailable("a check of this server's operator takes too long") from None
