"""retrieval: what chunks speak of, and what was written about several together."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def _serial() -> sa.BigInteger:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _create_graphs()
    _create_chunks()
    _create_communities()


def _create_graphs() -> None:
    op.create_table(
        "graphs",
        sa.Column("collection_id", sa.String(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.collection_id"],
            name="fk_graphs_collection_id_collections",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("collection_id", name="pk_graphs"),
    )


def _create_chunks() -> None:
    op.create_table(
        "graph_chunks",
        sa.Column("chunk_id", _serial(), nullable=False),
        sa.Column("extractor", sa.String(), nullable=False),
        sa.Column("extract", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["chunk_id"], ["chunks.chunk_id"], name="fk_graph_chunks_chunk_id_chunks", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("chunk_id", name="pk_graph_chunks"),
    )


def _create_communities() -> None:
    op.create_table(
        "graph_communities",
        sa.Column("community_id", _serial(), nullable=False),
        sa.Column("collection_id", sa.String(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("names", sa.JSON(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("writer", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.collection_id"],
            name="fk_graph_communities_collection_id_collections",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("community_id", name="pk_graph_communities"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_graph_communities_collection_id", "graph_communities", ["collection_id"])
    op.create_table(
        "graph_community_chunks",
        sa.Column("community_id", _serial(), nullable=False),
        sa.Column("chunk_id", _serial(), nullable=False),
        sa.ForeignKeyConstraint(
            ["community_id"],
            ["graph_communities.community_id"],
            name="fk_graph_community_chunks_community_id_graph_communities",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["chunk_id"],
            ["chunks.chunk_id"],
            name="fk_graph_community_chunks_chunk_id_chunks",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("community_id", "chunk_id", name="pk_graph_community_chunks"),
    )
    op.create_index("ix_graph_community_chunks_chunk_id", "graph_community_chunks", ["chunk_id"])
