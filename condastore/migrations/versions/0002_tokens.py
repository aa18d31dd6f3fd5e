"""tokens that were given out"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "token",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("jti", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=True),
        sa.Column("primary_namespace", sa.String(length=255), nullable=False),
        sa.Column("role_bindings", sa.JSON(), nullable=False),
        sa.Column("is_login", sa.Boolean(), nullable=False),
        sa.Column("created_on", sa.DateTime(), nullable=False),
        sa.Column("expires_on", sa.DateTime(), nullable=False),
        sa.Column("revoked_on", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
        sa.UniqueConstraint("jti", name=op.f("uq_token_jti")),
    )
    op.create_index(op.f("ix_token_expires_on"), "token", ["expires_on"])
    op.create_index(op.f("ix_token_owner"), "token", ["owner"])
