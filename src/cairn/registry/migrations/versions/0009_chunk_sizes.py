"""retrieval: the sizes of chunks that a document was given, so that it is cut with them again."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("documents", sa.Column("chunk_tokens", sa.Integer(), nullable=True))
    op.add_column("documents", sa.Column("overlap_tokens", sa.Integer(), nullable=True))
    documents = sa.table(
        "documents", sa.column("document_id"), sa.column("chunk_tokens"), sa.column("overlap_tokens")
    )
    files = sa.table("vector_store_files", sa.column("document_id"), sa.column("chunking", sa.JSON()))
    connection = op.get_bind()
    for document_id, sizes in connection.execute(sa.select(files.c.document_id, files.c.chunking)).all():
        connection.execute(
            sa.update(documents)
            .where(documents.c.document_id == document_id)
            .values(
                chunk_tokens=sizes.get("max_chunk_size_tokens"),
                overlap_tokens=sizes.get("chunk_overlap_tokens"),
            )
        )
