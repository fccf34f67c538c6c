"""server: uploaded files, vector stores and the files in them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    _create_files()
    op.create_table(
        "vector_stores",
        sa.Column("collection_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("expires_days", sa.Integer(), nullable=True),
        sa.Column("last_active_at", sa.Double(), nullable=False),
        _of_collection("vector_stores"),
        sa.PrimaryKeyConstraint("collection_id", name="pk_vector_stores"),
    )
    _create_vector_store_files()


def _create_files() -> None:
    op.create_table(
        "files",
        sa.Column("file_id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("artifact", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["artifact"], ["artifacts.digest"], name="fk_files_artifact_artifacts"),
        sa.PrimaryKeyConstraint("file_id", name="pk_files"),
    )
    op.create_index("ix_files_owner", "files", ["owner"])
    op.create_index("ix_files_artifact", "files", ["artifact"])


def _create_vector_store_files() -> None:
    op.create_table(
        "vector_store_files",
        sa.Column("collection_id", sa.String(), nullable=False),
        sa.Column("file_id", sa.String(), nullable=False),
        sa.Column("document_id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("batch_id", sa.String(), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("chunking", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("error_code", sa.String(), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        _of_collection("vector_store_files"),
        sa.ForeignKeyConstraint(["file_id"], ["files.file_id"], name="fk_vector_store_files_file_id_files"),
        sa.PrimaryKeyConstraint("collection_id", "file_id", name="pk_vector_store_files"),
    )
    for column in ("file_id", "document_id", "batch_id"):
        op.create_index(f"ix_vector_store_files_{column}", "vector_store_files", [column])
    op.create_index("ix_vector_store_files_status", "vector_store_files", ["status", "created_at"])


def _of_collection(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["collection_id"],
        ["collections.collection_id"],
        name=f"fk_{table}_collection_id_collections",
        ondelete="CASCADE",
    )
