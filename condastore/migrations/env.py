"""Alembic runs this file; the connection comes from condastore.migrations.upgrade."""

from alembic import context

from condastore.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite alters a table by copying it.
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
