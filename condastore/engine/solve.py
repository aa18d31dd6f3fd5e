"""One solve with rattler: from match specs to the exact packages of a platform."""

import asyncio
import datetime
import re
from collections.abc import Sequence

from rattler import ChannelPriority, Gateway, MatchSpec, RepoDataRecord, Subdir, solve
from rattler.exceptions import GatewayError, InvalidMatchSpecError, ParseSubdirError, SolverError

from condastore.engine.events import EngineError, Events
from condastore.engine.failures import not_here
from condastore.engine.jobs import SolveJob
from condastore.engine.network import explain_transfer, http_status
from condastore.engine.retry_after import BUSY, asked_wait_s
from condastore.engine.virtual import virtual_packages

STEP = "action_solve_lockfile"
# So often a server that is busy may say how long it wants to be left alone.
_WAITS = 2
_NO_SUBDIR = re.compile(r"could not find subdir '([^']+)' in channel '([^']+)'")
_URL = re.compile(r"https?://[^\s'\")]+")
_FLAG_PRIORITIES = {
    "--strict-channel-priority": ChannelPriority.Strict,
    "--no-channel-priority": ChannelPriority.Disabled,
}


async def solve_platform(
    job: SolveJob,
    platform: str,
    specs: Sequence[MatchSpec],
    priority: ChannelPriority,
    gateway: Gateway,
    events: Events,
) -> list[RepoDataRecord]:
    """The packages of one platform."""
    late = EngineError("timeout", f"No solution for {platform} within {job['timeout_s']:g} s.")
    try:
        # The solver has its own deadline, but it starts only when all repodata is there.
        async with asyncio.timeout(job["timeout_s"]):
            for _ in range(_WAITS):
                try:
                    return await _solve(job, platform, specs, priority, gateway)
                except GatewayError as error:
                    if not await _waited(error, job, events):
                        raise
            return await _solve(job, platform, specs, priority, gateway)
    except TimeoutError:
        raise late from None
    except ParseSubdirError:
        raise EngineError("spec", f"Unknown platform {platform!r}.") from None
    except SolverError as error:
        if "has been cancelled" in str(error):
            raise late from None
        raise EngineError("unsatisfiable", f"{platform}: {str(error).strip()}") from None
    except GatewayError as error:
        raise _explain_gateway(error, job) from None


async def _solve(
    job: SolveJob,
    platform: str,
    specs: Sequence[MatchSpec],
    priority: ChannelPriority,
    gateway: Gateway,
) -> list[RepoDataRecord]:
    return await solve(
        job["channels"],
        specs,
        gateway=gateway,
        platforms=[Subdir(platform), Subdir("noarch")],
        virtual_packages=virtual_packages(
            platform, job["virtual_packages"].get(platform), job["cuda"]
        ),
        channel_priority=priority,
        timeout=datetime.timedelta(seconds=job["timeout_s"]),
        exclude_newer=_cutoff(job.get("exclude_newer")),
    )


async def _waited(error: GatewayError, job: SolveJob, events: Events) -> bool:
    """Waits for a server that is busy and says for how long; whether there is one.

    Rattler itself has tried again by then, and did not wait for as long.
    """
    found = _URL.search(str(error))
    if found is None or http_status(error) not in BUSY:
        return False
    wait_s = await asyncio.to_thread(asked_wait_s, found[0], job["credentials"])
    if wait_s:
        reason = _explain_gateway(error, job)
        events.log(f"{reason} Trying again after {wait_s:g} s.", STEP)
        await asyncio.sleep(wait_s)
    return wait_s > 0


def _cutoff(day: str | None) -> datetime.datetime | None:
    return None if day is None else datetime.datetime.fromisoformat(f"{day}T00:00:00+00:00")


def parse_specs(specs: Sequence[str], channels: Sequence[str]) -> list[MatchSpec]:
    """The match specs, read as leniently as conda reads them."""
    return [_parse_spec(spec, channels) for spec in specs]


def _parse_spec(text: str, channels: Sequence[str]) -> MatchSpec:
    try:
        spec = MatchSpec(text)
    except InvalidMatchSpecError as error:
        reason = str(error).splitlines()[0]
        raise EngineError("spec", f"Invalid package specification {text!r}: {reason}") from None
    url = re.search(r'url="([^"]*)"', str(spec))
    if url and not any(url[1].startswith(channel.rstrip("/") + "/") for channel in channels):
        raise EngineError("spec", f"{text!r} names a package outside of the listed channels.")
    return spec


def channel_priority(flags: Sequence[str], events: Events) -> ChannelPriority:
    """What the flags of conda say; strict if they say nothing."""
    priority = ChannelPriority.Strict
    for flag in flags:
        if flag in _FLAG_PRIORITIES:
            priority = _FLAG_PRIORITIES[flag]
        else:
            events.log(f"warning: the bundled engine has no flag {flag}; ignored", STEP)
    return priority


def _explain_gateway(error: GatewayError, job: SolveJob) -> EngineError:
    missing = _NO_SUBDIR.search(str(error))
    if missing:
        subdir, channel = missing.groups()
        return EngineError(
            "network",
            f"Channel {channel} cannot be used: it has no {subdir}/repodata.json. Check its "
            "address; every channel must have a noarch directory with a repodata.json.",
        )
    found = _URL.search(str(error))
    url = found[0] if found else ""
    channels = (c for c in job["channels"] if url.startswith(c.rstrip("/") + "/"))
    what = f"the package list of channel {next(channels, url)}"
    return not_here(what) if job["offline"] else explain_transfer(error, what)
