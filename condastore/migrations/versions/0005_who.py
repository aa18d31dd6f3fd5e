"""who did what: authors of builds, the audit log, people; and disk over time"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("build", sa.Column("author", sa.String(length=320), nullable=True))
    op.add_column("token", sa.Column("maker", sa.String(length=320), nullable=True))
    op.create_table(
        "person",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("signed_in_on", sa.DateTime(), nullable=False),
        sa.Column("seen_on", sa.DateTime(), nullable=False),
        sa.Column("role_bindings", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_person")),
    )
    op.create_table(
        "audit_entry",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("made_on", sa.DateTime(), nullable=False),
        sa.Column("actor", sa.String(length=320), nullable=False),
        sa.Column("token_id", sa.BigInteger(), nullable=True),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=255), nullable=True),
        sa.Column("environment", sa.String(length=255), nullable=True),
        sa.Column("build_id", sa.BigInteger(), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("via", sa.String(length=16), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entry")),
    )
    for column in ("made_on", "actor", "action", "namespace", "build_id"):
        op.create_index(op.f(f"ix_audit_entry_{column}"), "audit_entry", [column])
    op.create_table(
        "usage_sample",
        sa.Column("taken_on", sa.DateTime(), nullable=False),
        sa.Column("namespace", sa.String(length=255), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("taken_on", "namespace", name=op.f("pk_usage_sample")),
    )
