"""retrieval and server: names of collections are their owners' own; files that are sent into a collection."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    with op.batch_alter_table("collections") as collections:
        collections.drop_constraint("uq_collections_name", type_="unique")
        collections.create_unique_constraint("uq_collections_owner", ["owner", "name"])
    op.add_column("files", sa.Column("collection_id", sa.String(), nullable=True))
    op.add_column("vector_store_files", sa.Column("labels", sa.JSON(), nullable=True))
