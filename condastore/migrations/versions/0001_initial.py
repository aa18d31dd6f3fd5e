"""the first schema"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "conda_channel",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("last_update", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conda_channel")),
        sa.UniqueConstraint("name", name=op.f("uq_conda_channel_name")),
    )
    op.create_table(
        "keyvaluestore",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("prefix", sa.String(length=511), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keyvaluestore")),
        sa.UniqueConstraint("prefix", "key", name=op.f("uq_keyvaluestore_prefix_key")),
    )
    op.create_table(
        "namespace",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("deleted_on", sa.DateTime(), nullable=True),
        sa.Column("metadata_", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_namespace")),
        sa.UniqueConstraint("name", name=op.f("uq_namespace_name")),
    )
    op.create_table(
        "specification",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("sha256", sa.String(length=255), nullable=False),
        sa.Column("created_on", sa.DateTime(), nullable=False),
        sa.Column("is_lockfile", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_specification")),
        sa.UniqueConstraint("sha256", name=op.f("uq_specification_sha256")),
    )
    op.create_table(
        "conda_package",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("channel_id", sa.Integer(), nullable=False),
        sa.Column("license", sa.Text(), nullable=True),
        sa.Column("license_family", sa.String(length=64), nullable=True),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("summary", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["channel_id"],
            ["conda_channel.id"],
            name=op.f("fk_conda_package_channel_id_conda_channel"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conda_package")),
        sa.UniqueConstraint(
            "channel_id", "name", "version", name=op.f("uq_conda_package_channel_id_name_version")
        ),
    )
    with op.batch_alter_table("conda_package", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_conda_package_name"), ["name"], unique=False)
        batch_op.create_index(batch_op.f("ix_conda_package_version"), ["version"], unique=False)

    op.create_table(
        "environment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("namespace_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("current_build_id", sa.Integer(), nullable=True),
        sa.Column("deleted_on", sa.DateTime(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["current_build_id"],
            ["build.id"],
            name="fk_environment_current_build_id_build",
            use_alter=True,
        ),
        sa.ForeignKeyConstraint(
            ["namespace_id"], ["namespace.id"], name=op.f("fk_environment_namespace_id_namespace")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_environment")),
        sa.UniqueConstraint("namespace_id", "name", name="_namespace_name_uc"),
    )
    with op.batch_alter_table("environment", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_environment_current_build_id"), ["current_build_id"], unique=False
        )

    op.create_table(
        "namespace_role_mapping",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("namespace_id", sa.Integer(), nullable=False),
        sa.Column("entity", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["namespace_id"],
            ["namespace.id"],
            name=op.f("fk_namespace_role_mapping_namespace_id_namespace"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_namespace_role_mapping")),
    )
    with op.batch_alter_table("namespace_role_mapping", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_namespace_role_mapping_namespace_id"), ["namespace_id"], unique=False
        )

    op.create_table(
        "namespace_role_mapping_v2",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("namespace_id", sa.Integer(), nullable=False),
        sa.Column("other_namespace_id", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["namespace_id"],
            ["namespace.id"],
            name=op.f("fk_namespace_role_mapping_v2_namespace_id_namespace"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["other_namespace_id"],
            ["namespace.id"],
            name=op.f("fk_namespace_role_mapping_v2_other_namespace_id_namespace"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_namespace_role_mapping_v2")),
        sa.UniqueConstraint(
            "namespace_id",
            "other_namespace_id",
            name=op.f("uq_namespace_role_mapping_v2_namespace_id_other_namespace_id"),
        ),
    )
    op.create_table(
        "build",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("specification_id", sa.Integer(), nullable=False),
        sa.Column("environment_id", sa.Integer(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "QUEUED",
                "BUILDING",
                "COMPLETED",
                "FAILED",
                "CANCELED",
                name="buildstatus",
                native_enum=False,
                length=64,
            ),
            nullable=False,
        ),
        sa.Column("status_info", sa.Text(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("scheduled_on", sa.DateTime(), nullable=False),
        sa.Column("started_on", sa.DateTime(), nullable=True),
        sa.Column("ended_on", sa.DateTime(), nullable=True),
        sa.Column("deleted_on", sa.DateTime(), nullable=True),
        sa.Column("build_key_version", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(
            ["environment_id"], ["environment.id"], name=op.f("fk_build_environment_id_environment")
        ),
        sa.ForeignKeyConstraint(
            ["specification_id"],
            ["specification.id"],
            name=op.f("fk_build_specification_id_specification"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_build")),
    )
    with op.batch_alter_table("build", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_build_environment_id_id"), ["environment_id", "id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_build_hash"), ["hash"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_build_specification_id"), ["specification_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_build_status"), ["status"], unique=False)

    op.create_table(
        "conda_package_build",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("package_id", sa.Integer(), nullable=False),
        sa.Column("channel_id", sa.Integer(), nullable=False),
        sa.Column("build", sa.String(length=64), nullable=False),
        sa.Column("build_number", sa.Integer(), nullable=False),
        sa.Column("constrains", sa.JSON(), nullable=True),
        sa.Column("depends", sa.JSON(), nullable=False),
        sa.Column("md5", sa.String(length=255), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("subdir", sa.String(length=64), nullable=True),
        sa.Column("timestamp", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["channel_id"],
            ["conda_channel.id"],
            name=op.f("fk_conda_package_build_channel_id_conda_channel"),
        ),
        sa.ForeignKeyConstraint(
            ["package_id"],
            ["conda_package.id"],
            name=op.f("fk_conda_package_build_package_id_conda_package"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conda_package_build")),
        sa.UniqueConstraint(
            "channel_id",
            "package_id",
            "subdir",
            "build",
            "build_number",
            "sha256",
            name=op.f(
                "uq_conda_package_build_channel_id_package_id_subdir_build_build_number_sha256"
            ),
        ),
    )
    with op.batch_alter_table("conda_package_build", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_conda_package_build_build"), ["build"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_conda_package_build_package_id"), ["package_id"], unique=False
        )

    op.create_table(
        "build_artifact",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("build_id", sa.Integer(), nullable=False),
        sa.Column(
            "artifact_type",
            sa.Enum(
                "DIRECTORY",
                "LOCKFILE",
                "LOGS",
                "YAML",
                "CONDA_PACK",
                "DOCKER_MANIFEST",
                "CONSTRUCTOR_INSTALLER",
                "CONTAINER_REGISTRY",
                "DOCKER_BLOB",
                name="artifacttype",
                native_enum=False,
                length=64,
            ),
            nullable=False,
        ),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["build_id"],
            ["build.id"],
            name=op.f("fk_build_artifact_build_id_build"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_build_artifact")),
        sa.UniqueConstraint(
            "build_id",
            "artifact_type",
            "key",
            name=op.f("uq_build_artifact_build_id_artifact_type_key"),
        ),
    )
    op.create_table(
        "build_conda_package_build",
        sa.Column("build_id", sa.Integer(), nullable=False),
        sa.Column("conda_package_build_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["build_id"],
            ["build.id"],
            name=op.f("fk_build_conda_package_build_build_id_build"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["conda_package_build_id"],
            ["conda_package_build.id"],
            name=op.f("fk_build_conda_package_build_conda_package_build_id_conda_package_build"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "build_id", "conda_package_build_id", name=op.f("pk_build_conda_package_build")
        ),
    )
    with op.batch_alter_table("build_conda_package_build", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_build_conda_package_build_conda_package_build_id"),
            ["conda_package_build_id"],
            unique=False,
        )

    op.create_table(
        "task",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=255), nullable=False),
        sa.Column("build_id", sa.Integer(), nullable=True),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "QUEUED",
                "RUNNING",
                "DONE",
                "FAILED",
                "CANCELED",
                name="taskstate",
                native_enum=False,
                length=64,
            ),
            nullable=False,
        ),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("lease_owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("claimed_at", sa.Double(), nullable=True),
        sa.Column("created_on", sa.DateTime(), nullable=False),
        sa.Column("ended_on", sa.DateTime(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["build_id"], ["build.id"], name=op.f("fk_task_build_id_build"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task")),
    )
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_task_build_id"), ["build_id"], unique=False)
        batch_op.create_index(
            "ix_task_queue",
            ["state", "kind", "namespace", sa.literal_column("priority DESC"), "id"],
            unique=False,
        )
        batch_op.create_index("ix_task_served", ["namespace", "claimed_at"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        # Its table comes later; SQLite takes it from the table's own definition.
        op.create_foreign_key(
            "fk_environment_current_build_id_build",
            "environment",
            "build",
            ["current_build_id"],
            ["id"],
        )
