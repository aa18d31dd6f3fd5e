"""images: blobs, layers, manifests"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "blob",
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_on", sa.DateTime(), nullable=False),
        sa.Column("doomed_on", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_blob")),
    )
    op.create_index(op.f("ix_blob_doomed_on"), "blob", ["doomed_on"])
    op.create_table(
        "layer",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("diff_id", sa.String(length=71), nullable=False),
        sa.Column("media_type", sa.String(length=127), nullable=False),
        sa.Column("blob_digest", sa.String(length=71), nullable=False),
        sa.Column("used_on", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_layer")),
        sa.ForeignKeyConstraint(
            ["blob_digest"], ["blob.digest"], name=op.f("fk_layer_blob_digest_blob")
        ),
    )
    op.create_index(op.f("ix_layer_blob_digest"), "layer", ["blob_digest"])
    op.create_index(op.f("ix_layer_used_on"), "layer", ["used_on"])
    op.create_table(
        "manifest",
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("media_type", sa.String(length=127), nullable=False),
        sa.Column("artifact_type", sa.String(length=127), nullable=True),
        sa.Column("subject", sa.String(length=71), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_on", sa.DateTime(), nullable=False),
        sa.Column("pulled_on", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_manifest")),
    )
    op.create_index(op.f("ix_manifest_subject"), "manifest", ["subject"])
    _edges("manifest_blob", "manifest_digest", "blob_digest", "blob")
    _edges("manifest_child", "parent_digest", "child_digest", "manifest")
    op.create_table(
        "image",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("build_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("lock_hash", sa.String(length=64), nullable=False),
        sa.Column("manifest_digest", sa.String(length=71), nullable=False),
        sa.Column("docker_digest", sa.String(length=71), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image")),
        sa.UniqueConstraint("build_id", name=op.f("uq_image_build_id")),
        sa.ForeignKeyConstraint(
            ["build_id"], ["build.id"], name=op.f("fk_image_build_id_build"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["manifest_digest"],
            ["manifest.digest"],
            name=op.f("fk_image_manifest_digest_manifest"),
        ),
        sa.ForeignKeyConstraint(
            ["docker_digest"], ["manifest.digest"], name=op.f("fk_image_docker_digest_manifest")
        ),
    )
    for column in ("docker_digest", "key", "lock_hash", "manifest_digest"):
        op.create_index(op.f(f"ix_image_{column}"), "image", [column])


def _edges(table: str, of: str, to: str, target: str) -> None:
    """Which manifests need which blobs, or other manifests."""
    op.create_table(
        table,
        sa.Column(of, sa.String(length=71), nullable=False),
        sa.Column(to, sa.String(length=71), nullable=False),
        sa.PrimaryKeyConstraint(of, to, name=op.f(f"pk_{table}")),
        sa.ForeignKeyConstraint(
            [of], ["manifest.digest"], name=op.f(f"fk_{table}_{of}_manifest"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint([to], [f"{target}.digest"], name=op.f(f"fk_{table}_{to}_{target}")),
    )
    op.create_index(op.f(f"ix_{table}_{to}"), table, [to])
