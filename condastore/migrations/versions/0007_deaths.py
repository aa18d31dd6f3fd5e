"""how often the daemon died while it worked on a task"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("task", sa.Column("deaths", sa.Integer(), server_default="0", nullable=False))
