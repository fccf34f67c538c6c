"""registry: artifacts, aliases, runs, receipts, audit log. Forward only, like every migration here."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _create_artifacts()
    _create_aliases()
    _create_runs()
    _create_receipts()
    _create_audit()


def _create_artifacts() -> None:
    op.create_table(
        "artifacts",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("touched_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_artifacts"),
    )
    op.create_index("ix_artifacts_kind", "artifacts", ["kind"])
    op.create_table(
        "artifact_parents",
        sa.Column("child", sa.String(), nullable=False),
        sa.Column("parent", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["child"],
            ["artifacts.digest"],
            name="fk_artifact_parents_child_artifacts",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("child", "parent", name="pk_artifact_parents"),
    )
    op.create_index("ix_artifact_parents_parent", "artifact_parents", ["parent"])


def _create_aliases() -> None:
    op.create_table(
        "aliases",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["artifacts.digest"], name="fk_aliases_digest_artifacts"),
        sa.PrimaryKeyConstraint("name", "alias", name="pk_aliases"),
    )
    op.create_index("ix_aliases_digest", "aliases", ["digest"])
    op.create_table(
        "alias_moves",
        sa.Column("move_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("previous", sa.String(), nullable=True),
        sa.Column("digest", sa.String(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("moved_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("move_id", name="pk_alias_moves"),
    )
    op.create_index("ix_alias_moves_name_alias", "alias_moves", ["name", "alias"])


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("recipe", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.Column("output", sa.String(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.String(), nullable=True),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_runs"),
    )
    for column in ("key", "parent_id", "started_at", "status"):
        op.create_index(f"ix_runs_{column}", "runs", [column])


def _create_receipts() -> None:
    op.create_table(
        "receipts",
        sa.Column("receipt_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("artifact", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("receipt_id", name="pk_receipts"),
    )
    for column in ("artifact", "created_at", "user_id"):
        op.create_index(f"ix_receipts_{column}", "receipts", [column])


def _create_audit() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit_entries"),
    )
    op.create_table(
        "audit_head",
        sa.Column("head_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("head_id", name="pk_audit_head"),
    )
