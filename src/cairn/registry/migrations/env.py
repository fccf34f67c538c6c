"""What Alembic runs for every command: the connection is handed in, already inside our transaction."""

from alembic import context

from cairn.registry.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite changes a table by rebuilding it
)
context.run_migrations()
