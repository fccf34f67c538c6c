"""retrieval: spaces beside the active one, samples of recall, queries that were asked."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "collection_spaces",
        sa.Column("collection_id", sa.String(), nullable=False),
        sa.Column("space_id", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        _of_collection("collection_spaces"),
        _of_space("collection_spaces"),
        sa.PrimaryKeyConstraint("collection_id", "space_id", name="pk_collection_spaces"),
        sa.UniqueConstraint("collection_id", "role", name="uq_collection_spaces_collection_id"),
    )
    op.create_table(
        "collection_recall",
        sa.Column("collection_id", sa.String(), nullable=False),
        sa.Column("space_id", sa.Integer(), nullable=False),
        sa.Column("recent", sa.JSON(), nullable=False),
        sa.Column("measured_at", sa.Double(), nullable=False),
        _of_collection("collection_recall"),
        _of_space("collection_recall"),
        sa.PrimaryKeyConstraint("collection_id", "space_id", name="pk_collection_recall"),
    )
    op.create_table(
        "collection_queries",
        sa.Column("query_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("collection_id", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.Double(), nullable=False),
        _of_collection("collection_queries"),
        sa.PrimaryKeyConstraint("query_id", name="pk_collection_queries"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_collection_queries_collection_id", "collection_queries", ["collection_id"])


def _of_collection(table: str) -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_collection_id_collections"
    return sa.ForeignKeyConstraint(["collection_id"], ["collections.collection_id"], name=name)


def _of_space(table: str) -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_space_id_vector_spaces"
    return sa.ForeignKeyConstraint(["space_id"], ["vector_spaces.space_id"], name=name)
