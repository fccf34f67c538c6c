"""Queries that were asked lately, of collections that keep them: what another embedder is tried on.

Nothing says who asked. The newest `keep_queries` of a collection stay; with 0, the default, none is kept.
"""

import time
from collections.abc import Sequence

from sqlalchemy import delete, select

from cairn.registry import Database
from cairn.retrieval.space_tables import QueryRow
from cairn.retrieval.tables import CollectionRow

_LONGEST = 2000


def keep_queries(database: Database, collection_id: str, texts: Sequence[str], most: int) -> None:
    """Add queries and let the oldest beyond `most` go."""
    with database.writing() as session:
        if session.get(CollectionRow, collection_id) is None:
            return
        now = time.time()
        session.add_all(
            QueryRow(collection_id=collection_id, text=text[:_LONGEST].replace("\0", ""), asked_at=now)
            for text in texts
        )
        session.flush()
        mine = QueryRow.collection_id == collection_id
        newest = select(QueryRow.query_id).where(mine).order_by(QueryRow.query_id.desc()).limit(most)
        session.execute(delete(QueryRow).where(mine, QueryRow.query_id.not_in(newest)))


def kept_queries(database: Database, collection_id: str) -> list[str]:
    """The queries that are kept, newest first."""
    mine = select(QueryRow.text).where(QueryRow.collection_id == collection_id)
    with database.session(read_only=True) as session:
        return list(session.scalars(mine.order_by(QueryRow.query_id.desc())))


def delete_queries(database: Database, collection_id: str) -> None:
    """Forget them."""
    with database.writing() as session:
        session.execute(delete(QueryRow).where(QueryRow.collection_id == collection_id))
