"""keys, channels and versions are as long as they are; PostgreSQL refused the long ones"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

COLUMNS = {
    "build_artifact": {"key": 255},
    "conda_channel": {"name": 255},
    "conda_package": {"license_family": 64, "version": 64},
    "conda_package_build": {"build": 64},
}
NULLABLE = {"license_family"}


def upgrade() -> None:
    # On SQLite the tables are made anew; foreign keys are off then, as in 0004.
    for table, columns in COLUMNS.items():
        with op.batch_alter_table(table) as batch:
            for column, length in columns.items():
                batch.alter_column(
                    column,
                    existing_type=sa.String(length=length),
                    type_=sa.Text(),
                    existing_nullable=column in NULLABLE,
                )
