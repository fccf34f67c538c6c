"""server: what answers that were given again saved, and days of the ledger that are summed up."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    for name in ("saved_tokens", "saved_cost"):
        op.add_column("usage", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("usage", sa.Column("num_first", sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE usage SET num_first = 1 WHERE first_token_seconds IS NOT NULL")
