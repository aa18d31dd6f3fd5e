"""Alembic runs this file; the connection comes from condastore.migrations.upgrade."""

from typing import Any

from alembic import context

from condastore.faults import fault
from condastore.tables import Base


def passed(*_: Any, **__: Any) -> None:
    """Is called after each revision."""
    fault("upgrade.revision")


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite alters a table by copying it.
    render_as_batch=True,
    compare_type=True,
    on_version_apply=passed,
)
context.run_migrations()
