"""Rows for the tests that need some."""

import hashlib

from sqlalchemy import select

from condastore.builds import BuildStatus, KeyVersion
from condastore.database import Database
from condastore.tables import Build, Environment, Namespace, Specification

SPEC = {"name": "env", "channels": ["conda-forge"], "dependencies": ["python"]}


async def add_build(
    database: Database,
    *,
    status: BuildStatus = BuildStatus.QUEUED,
    namespace: str = "default",
    name: str = "env",
    key_version: KeyVersion = 2,
    current: bool = False,
) -> int:
    """Adds a build and what it needs; returns its id."""
    async with database.write() as session:
        owner = await session.scalar(select(Namespace).where(Namespace.name == namespace))
        environment = await session.scalar(
            select(Environment)
            .join(Environment.namespace)
            .where(Environment.name == name, Namespace.name == namespace)
        )
        if environment is None:
            environment = Environment(namespace=owner or Namespace(name=namespace), name=name)
        specification = await session.scalar(
            select(Specification).where(Specification.name == name)
        )
        if specification is None:
            specification = Specification(
                name=name,
                spec={**SPEC, "name": name},
                sha256=hashlib.sha256(name.encode()).hexdigest(),
            )
        build = Build(
            environment=environment,
            specification=specification,
            status=status,
            build_key_version=key_version,
        )
        session.add(build)
        await session.flush()
        if current:
            environment.current_build_id = build.id
        return build.id
