"""server: who an account is at an identity provider."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "external_logins",
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name="fk_external_logins_user_id_users"),
        sa.PrimaryKeyConstraint("issuer", "subject", name="pk_external_logins"),
    )
    op.create_index("ix_external_logins_user_id", "external_logins", ["user_id"])
