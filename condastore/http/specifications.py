"""`/api/v1/specification/` (rest-api §4.4)."""

from enum import StrEnum

import msgspec

from condastore.configuration import CondaStore
from condastore.http import shapes
from condastore.http.operations import Call, live, unless_gone
from condastore.http.parameters import SMALL_BODY_BYTES, Body, NoBody, NoQuery
from condastore.service import solves, specifications
from condastore.service.solves import SolveRequest
from condastore.service.specifications import Submission
from condastore.tables import CondaPackageBuild

# Quotes and line breaks are two characters in JSON; that of a lockfile becomes a third longer.
JSON_OVERHEAD = 2


class Posted(Body, kw_only=True):
    """What to build; the environment's name and description are for lockfiles only."""

    specification: str = ""
    namespace: str | None = None
    is_lockfile: bool | None = False
    environment_name: str | None = ""
    environment_description: str | None = ""

    @classmethod
    def max_bytes(cls, config: CondaStore) -> int:
        """Returns how long the body may be."""
        longest = max(config.max_specification_bytes, config.max_lockfile_bytes)
        return longest * JSON_OVERHEAD + SMALL_BODY_BYTES


class Format(StrEnum):
    yaml = "yaml"
    lockfile = "lockfile"


class SolveQuery(msgspec.Struct, kw_only=True):
    """What to solve; `channels` is how the conda-store command spells `channel`."""

    channel: list[str] = []
    channels: list[str] = []
    conda: list[str] = []
    pip: list[str] = []
    format: Format = Format.yaml


class SolvedPackage(msgspec.Struct):
    """A package that would be installed; `size` in bytes."""

    id: int
    package_id: int
    channel_id: int
    name: str
    version: str
    build: str
    build_number: int
    constrains: list[str] | None
    depends: list[str]
    md5: str
    sha256: str
    size: int
    subdir: str | None
    timestamp: int | None

    @classmethod
    def of(cls, row: CondaPackageBuild) -> "SolvedPackage":
        return cls(
            row.id,
            row.package_id,
            row.channel_id,
            row.package.name,
            row.package.version,
            row.build,
            row.build_number,
            row.constrains,
            row.depends,
            row.md5,
            row.sha256,
            row.size,
            row.subdir,
            row.timestamp,
        )


class Solved(msgspec.Struct):
    """What would be installed, without an envelope."""

    solve: list[SolvedPackage]


async def create(call: Call[NoQuery, Posted]) -> shapes.Data[shapes.BuildId]:
    """Queues a build of a specification or a lockfile."""
    body = call.body
    submission = Submission(
        text=body.specification,
        namespace=body.namespace,
        is_lockfile=bool(body.is_lockfile),
        environment_name=body.environment_name or "",
        environment_description=body.environment_description or "",
    )
    build_id = await specifications.submit(call.parts, call.caller, submission)
    assert build_id is not None
    return shapes.data(shapes.BuildId(build_id))


@live
async def solve(call: Call[SolveQuery, NoBody]) -> Solved:
    """Solves without building, and waits for the answer."""
    query = call.query
    wanted = SolveRequest([*query.channel, *query.channels], query.conda, query.pip)
    rows = await unless_gone(call.request, solves.solve(call.parts, call.caller, wanted))
    return Solved([SolvedPackage.of(row) for row in rows])
