"""server: folders and full-text search of conversations, shared links, saved prompts.

`search_terms` is a full-text index as each database has it, so nothing declares it: its entries are
numbered by `search_entries`. What was said before is indexed when its owner first searches.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.create_table(
        "folders",
        sa.Column("folder_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("folder_id", name="pk_folders"),
    )
    op.create_index("ix_folders_user_id", "folders", ["user_id"])
    with op.batch_alter_table("conversations") as conversations:
        conversations.add_column(sa.Column("folder_id", sa.String(), nullable=True))
        conversations.add_column(sa.Column("indexed_at", sa.Double(), nullable=True))
        conversations.create_foreign_key(
            "fk_conversations_folder_id_folders", "folders", ["folder_id"], ["folder_id"]
        )
        conversations.create_index("ix_conversations_folder_id", ["folder_id"])
    _create_search()
    _create_shares()
    op.create_table(
        "prompts",
        sa.Column("prompt_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("is_shared", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("prompt_id", name="pk_prompts"),
    )
    op.create_index("ix_prompts_user_id", "prompts", ["user_id"])


def _create_search() -> None:
    op.create_table(
        "search_entries",
        sa.Column("entry_id", sa.Integer(), nullable=False),
        sa.Column("conversation_id", sa.String(), nullable=False),
        sa.Column("message_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.id"], name="fk_search_entries_conversation_id_conversations"
        ),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name="fk_search_entries_message_id_messages"
        ),
        sa.PrimaryKeyConstraint("entry_id", name="pk_search_entries"),
    )
    op.create_index("ix_search_entries_conversation_id", "search_entries", ["conversation_id"])
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE VIRTUAL TABLE search_terms USING fts5(owner, terms, tokenize='ascii', detail=column)"
        )
    else:
        op.execute("CREATE TABLE search_terms (rowid integer PRIMARY KEY, terms tsvector NOT NULL)")
        op.execute("CREATE INDEX ix_search_terms_terms ON search_terms USING gin (terms)")


def _create_shares() -> None:
    op.create_table(
        "shares",
        sa.Column("share_id", sa.String(), nullable=False),
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("conversation_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("audience", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("turns", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.id"], name="fk_shares_conversation_id_conversations"
        ),
        sa.PrimaryKeyConstraint("share_id", name="pk_shares"),
        sa.UniqueConstraint("token_hash", name="uq_shares_token_hash"),
    )
    op.create_index("ix_shares_conversation_id", "shares", ["conversation_id"])
    op.create_index("ix_shares_user_id", "shares", ["user_id"])
