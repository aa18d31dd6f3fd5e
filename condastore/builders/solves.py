"""Solves that somebody waits for, without a build."""

import asyncio
from typing import Any

from condastore.builders.jobs import solve_job
from condastore.builders.solver import SolverPool
from condastore.configuration import CondaStore, server_platform
from condastore.database import Database
from condastore.errors import BuildError, InvalidInput, Unavailable
from condastore.lockfiles.records import Record
from condastore.packages import package_rows
from condastore.prefixes import Store
from condastore.settings import Settings
from condastore.specification import CondaSpecification
from condastore.tables import CondaPackageBuild

AT_ONCE = 2
WAITING = 20
GRACE_S = 5


class Solves:
    """A bounded number at once, and a bounded number that wait for their turn."""

    def __init__(
        self, config: CondaStore, database: Database, store: Store, solvers: SolverPool
    ) -> None:
        self._config = config
        self._database = database
        self._store = store
        self._solvers = solvers
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._asked = 0

    async def solve(
        self, specification: CondaSpecification, settings: Settings
    ) -> list[CondaPackageBuild]:
        """Returns the packages of the server's platform, with their versions.

        Raises `InvalidInput` with the solver's explanation, or `Unavailable` when too many wait.
        """
        if self._asked >= AT_ONCE + WAITING:
            raise Unavailable("too many solves are waiting; try again in a minute")
        self._asked += 1
        try:
            async with self._slots:
                records = await self._records(specification, settings)
        finally:
            self._asked -= 1
        async with self._database.write() as session:
            return await package_rows(session, records)

    async def _records(self, specification: CondaSpecification, settings: Settings) -> list[Record]:
        job = solve_job(self._config, self._store, settings, specification)
        job["platforms"] = [server_platform()]
        limit_s = settings.conda_max_solve_time
        try:
            async with asyncio.timeout(limit_s + GRACE_S):
                result = await self._solvers.solve(job, _nobody)
        except TimeoutError:
            raise InvalidInput(
                f"the solve took longer than conda_max_solve_time ({limit_s} s)"
            ) from None
        except BuildError as error:
            raise InvalidInput(str(error)) from error
        records: list[Record] = result["packages"][server_platform()]
        return records


async def _nobody(event: dict[str, Any]) -> None:
    """The answer comes at once; nobody watches the phases."""
