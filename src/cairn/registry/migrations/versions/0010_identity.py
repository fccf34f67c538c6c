"""server: people with passwords, groups, scopes and expiry of keys, sessions that are listed.

The role `user` of before is `member` now.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    _rename_role()
    with op.batch_alter_table("users") as users:
        users.add_column(sa.Column("display_name", sa.String(), nullable=False, server_default=""))
        users.add_column(sa.Column("email", sa.String(), nullable=True))
        users.add_column(sa.Column("password_hash", sa.String(), nullable=True))
        users.add_column(sa.Column("disabled_at", sa.Double(), nullable=True))
        users.create_unique_constraint("uq_users_email", ["email"])
    with op.batch_alter_table("users") as users:
        users.alter_column("display_name", server_default=None)
    with op.batch_alter_table("keys") as keys:
        keys.add_column(sa.Column("name", sa.String(), nullable=False, server_default=""))
        keys.add_column(sa.Column("old_secret_hash", sa.String(), nullable=True))
        keys.add_column(sa.Column("scopes", sa.JSON(), nullable=True))
        keys.add_column(sa.Column("models", sa.JSON(), nullable=True))
        for column in ("old_expires_at", "expires_at", "last_used_at"):
            keys.add_column(sa.Column(column, sa.Double(), nullable=True))
    with op.batch_alter_table("keys") as keys:
        keys.alter_column("name", server_default=None)
    _extend_sessions()
    _create_groups()
    op.create_table(
        "devices",
        sa.Column("device_hash", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name="fk_devices_user_id_users"),
        sa.PrimaryKeyConstraint("device_hash", "user_id", name="pk_devices"),
    )


def _rename_role() -> None:
    users = sa.table("users", sa.column("user_id"), sa.column("roles", sa.JSON()))
    connection = op.get_bind()
    for user_id, roles in connection.execute(sa.select(users.c.user_id, users.c.roles)).all():
        renamed = sorted({"member" if role == "user" else role for role in roles})
        connection.execute(sa.update(users).where(users.c.user_id == user_id).values(roles=renamed))


def _extend_sessions() -> None:
    with op.batch_alter_table("sessions") as sessions:
        for column in ("session_id", "address", "agent"):
            sessions.add_column(sa.Column(column, sa.String(), nullable=True))
        for column in ("last_seen_at", "idle_seconds", "ends_at"):
            sessions.add_column(sa.Column(column, sa.Double(), nullable=True))
    op.execute(
        "UPDATE sessions SET session_id = substr(session_hash, 1, 16), address = '', agent = '', "
        "last_seen_at = created_at, idle_seconds = expires_at - created_at, ends_at = expires_at"
    )
    with op.batch_alter_table("sessions") as sessions:
        for column in ("session_id", "address", "agent"):
            sessions.alter_column(column, existing_type=sa.String(), nullable=False)
        for column in ("last_seen_at", "idle_seconds", "ends_at"):
            sessions.alter_column(column, existing_type=sa.Double(), nullable=False)
        sessions.create_unique_constraint("uq_sessions_session_id", ["session_id"])


def _create_groups() -> None:
    op.create_table(
        "groups",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_groups"),
    )
    op.create_table(
        "memberships",
        sa.Column("group_name", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_name"], ["groups.name"], name="fk_memberships_group_name_groups", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name="fk_memberships_user_id_users"),
        sa.PrimaryKeyConstraint("group_name", "user_id", name="pk_memberships"),
    )
    op.create_index("ix_memberships_user_id", "memberships", ["user_id"])
