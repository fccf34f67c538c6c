"""retrieval: collections, documents, chunks, their vectors and changes; and who uses an artifact."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def _serial() -> sa.BigInteger:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _create_uses()
    _create_collections()
    _create_documents()
    _create_chunks()
    _create_vectors()
    _create_changes()


def _create_uses() -> None:
    op.create_table(
        "artifact_uses",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("user", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["artifacts.digest"], name="fk_artifact_uses_digest_artifacts"),
        sa.PrimaryKeyConstraint("digest", "user", name="pk_artifact_uses"),
    )


def _create_collections() -> None:
    op.create_table(
        "vector_spaces",
        sa.Column("space_id", sa.Integer(), nullable=False),
        sa.Column("embedder", sa.String(), nullable=False),
        sa.Column("dimensions", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("space_id", name="pk_vector_spaces"),
        sa.UniqueConstraint("embedder", "dimensions", name="uq_vector_spaces_embedder"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "collections",
        sa.Column("collection_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("space_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["space_id"], ["vector_spaces.space_id"], name="fk_collections_space_id_vector_spaces"
        ),
        sa.PrimaryKeyConstraint("collection_id", name="pk_collections"),
        sa.UniqueConstraint("name", name="uq_collections_name"),
    )


def _create_documents() -> None:
    op.create_table(
        "documents",
        sa.Column("document_id", sa.String(), nullable=False),
        sa.Column("collection_id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("artifact", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("modified_at", sa.Double(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("problems", sa.JSON(), nullable=False),
        sa.Column("num_pages", sa.Integer(), nullable=False),
        sa.Column("skipped_pages", sa.JSON(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collections.collection_id"], name="fk_documents_collection_id_collections"
        ),
        sa.ForeignKeyConstraint(["artifact"], ["artifacts.digest"], name="fk_documents_artifact_artifacts"),
        sa.PrimaryKeyConstraint("document_id", name="pk_documents"),
        sa.UniqueConstraint("collection_id", "source", name="uq_documents_collection_id"),
    )
    op.create_index("ix_documents_artifact", "documents", ["artifact"])


def _create_chunks() -> None:
    op.create_table(
        "chunks",
        sa.Column("chunk_id", _serial(), nullable=False),
        sa.Column("document_id", sa.String(), nullable=False),
        sa.Column("span_start", sa.Integer(), nullable=False),
        sa.Column("span_end", sa.Integer(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=False),
        sa.Column("section", sa.Integer(), nullable=False),
        sa.Column("heading_path", sa.JSON(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("num_tokens", sa.Integer(), nullable=False),
        sa.Column("embedded_digest", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["document_id"], ["documents.document_id"], name="fk_chunks_document_id_documents"
        ),
        sa.PrimaryKeyConstraint("chunk_id", name="pk_chunks"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_chunks_document_start", "chunks", ["document_id", "span_start"])
    op.create_index("ix_chunks_embedded_digest", "chunks", ["embedded_digest"])


def _create_vectors() -> None:
    op.create_table(
        "chunk_vectors",
        sa.Column("chunk_id", _serial(), nullable=False),
        sa.Column("space_id", sa.Integer(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["chunk_id"], ["chunks.chunk_id"], name="fk_chunk_vectors_chunk_id_chunks"),
        sa.ForeignKeyConstraint(
            ["space_id"], ["vector_spaces.space_id"], name="fk_chunk_vectors_space_id_vector_spaces"
        ),
        sa.PrimaryKeyConstraint("chunk_id", "space_id", name="pk_chunk_vectors"),
    )
    op.create_index("ix_chunk_vectors_space_id", "chunk_vectors", ["space_id"])


def _create_changes() -> None:
    op.create_table(
        "collection_changes",
        sa.Column("position", _serial(), nullable=False),
        sa.Column("collection_id", sa.String(), nullable=False),
        sa.Column("chunk_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_collection_changes"),
        sa.UniqueConstraint("chunk_id", name="uq_collection_changes_chunk_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_collection_changes_collection", "collection_changes", ["collection_id", "position"])
