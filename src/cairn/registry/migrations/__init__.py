"""The one Alembic history of every table in Cairn's database, whichever room declares it.

Files in `versions/` are numbered (`0001_registry.py`, `0002_server.py`); the number is the revision id, the
history is a straight line, and the highest number is the head. That lets start-up compare two strings
and leave Alembic unimported (0.3 s) when there is nothing to do.

To add tables: declare them on `cairn.registry.Base`, add the next file, run `pytest
tests/registry/test_migrations.py`, which holds that the migrated schema equals the declared one on SQLite
and on Postgres.
"""
