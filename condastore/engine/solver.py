"""The solver's role: does one job after another, and remembers repodata between them."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from rattler import Gateway, RepoDataRecord, SourceConfig

from condastore.engine import external
from condastore.engine.events import Events
from condastore.engine.jobs import Record, SolveJob
from condastore.engine.network import client
from condastore.engine.repodata import Freshness
from condastore.engine.solve import STEP, channel_priority, parse_specs, solve_platform

_NETWORK_RETRIES = 3


class Solver:
    """Solves one job after another and remembers the repodata between them."""

    def __init__(self) -> None:
        self._gateways: dict[str, tuple[Gateway, Freshness]] = {}

    def solve(self, job: SolveJob, events: Events) -> None:
        """Does one job and reports its result."""
        events.phase("solve")
        if job["engine"] == "rattler":
            packages = asyncio.run(self._solve(job, events))
        else:
            packages = external.solve(dict(job), events)
        events.result(packages=packages, rss_bytes=_rss_bytes())

    async def _solve(self, job: SolveJob, events: Events) -> dict[str, list[Record]]:
        specs = parse_specs(job["specs"], job["channels"])
        priority = channel_priority(job["flags"], events)
        gateway, freshness = self._gateway(job)
        packages = {}
        for done, platform in enumerate(job["platforms"]):
            events.progress("solve", done, len(job["platforms"]))
            freshness.ensure(job["channels"], platform, job["repodata_ttl_s"])
            records = await solve_platform(job, platform, specs, priority, gateway, events)
            packages[platform] = [_as_dict(record) for record in records]
            events.log(f"{platform}: {len(records)} packages", STEP)
        events.progress("solve", len(job["platforms"]), len(job["platforms"]))
        return packages

    def _gateway(self, job: SolveJob) -> tuple[Gateway, Freshness]:
        cache, credentials, offline = job["repodata_cache"], job["credentials"], job["offline"]
        # What one user's credentials opened must not answer the solve of another.
        key = json.dumps([cache, credentials, offline], sort_keys=True)
        if key not in self._gateways:
            network = client(credentials, _NETWORK_RETRIES)
            source = SourceConfig(cache_action="force-cache-only" if offline else "cache-or-fetch")
            gateway = Gateway(cache_dir=Path(cache), client=network, default_config=source)
            self._gateways[key] = gateway, Freshness(gateway)
        return self._gateways[key]


def _as_dict(record: RepoDataRecord) -> Record:
    result: dict[str, Any] = json.loads(record.to_json())
    return result


def _rss_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
