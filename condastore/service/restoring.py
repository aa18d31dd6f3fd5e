"""A build whose files are deleted, once more: of exactly its packages, by its lockfile."""

from condastore.access import Caller
from condastore.build_rows import arn, find_build
from condastore.errors import InvalidInput
from condastore.service import forms, specifications
from condastore.service.parts import Parts
from condastore.service.specifications import Submission


async def restore(parts: Parts, caller: Caller, build_id: int) -> int:
    """Queues a build of the packages that a deleted build had, and returns its id.

    Raises `NotFound` if its lockfile is gone as well, `InvalidInput` if its files are there, or
    `Unauthorized`.
    """
    async with parts.database.read() as session:
        build = await find_build(session, build_id)
    caller.require("environment::update", arn(build))
    if build.deleted_on is None:
        raise InvalidInput(f"the files of build {build_id} are not deleted")
    lockfile = await forms.stored_lockfile(parts, build)
    environment = build.environment
    submission = Submission(
        text=lockfile.decode(),
        namespace=environment.namespace.name,
        is_lockfile=True,
        environment_name=environment.name,
        restores=build.id,
    )
    new_id = await specifications.submit(parts, caller, submission)
    assert new_id is not None
    return new_id
