"""on SQLite, the number of a build that is gone is never given to another one"""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        # A sequence never gives a number twice.
        return
    # Foreign keys are off; dropping the table would empty those that refer to it.
    assert not connection.exec_driver_sql("PRAGMA foreign_keys").scalar()
    with op.batch_alter_table(
        "build", recreate="always", table_kwargs={"sqlite_autoincrement": True}
    ):
        pass
    assert connection.exec_driver_sql("PRAGMA foreign_key_check").first() is None
