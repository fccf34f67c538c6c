"""Postgres with the extension pgvector: a change is one transaction, the filter holds during the index scan.

HNSW scans go on until there are enough rows (iterative scans, pgvector 0.8 and later); where they end short,
all rows that pass are compared. HNSW takes up to 2,000 dimensions; beyond that every search is exact.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, LifoQueue
from typing import Any

import psycopg
from psycopg import sql

from cairn.retrieval.index import Entry, Filter, Match
from cairn.retrieval.stores.joined import Vector

_MOST_INDEXED = 2000
_TABLES = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE IF NOT EXISTS cairn_index_positions (key text PRIMARY KEY, position bigint NOT NULL);
CREATE TABLE IF NOT EXISTS {table} (
    chunk_id bigint PRIMARY KEY, document text NOT NULL, allowed text[] NOT NULL,
    embedding vector({dimensions}) NOT NULL
);
CREATE INDEX IF NOT EXISTS {by_document} ON {table} (document);
CREATE INDEX IF NOT EXISTS {by_label} ON {table} USING gin (allowed);
"""
_HNSW = "CREATE INDEX IF NOT EXISTS {by_vector} ON {table} USING hnsw (embedding vector_cosine_ops)"
_UPSERT = """
INSERT INTO {table} (chunk_id, document, allowed, embedding) VALUES (%s, %s, %s, %s::vector)
ON CONFLICT (chunk_id) DO UPDATE
SET document = excluded.document, allowed = excluded.allowed, embedding = excluded.embedding
"""
_NOTE = """
INSERT INTO cairn_index_positions (key, position) VALUES (%s, %s)
ON CONFLICT (key) DO UPDATE SET position = excluded.position
"""
_SEARCH = """
SELECT chunk_id, 1 - (embedding <=> %s::vector) FROM {table}
WHERE {condition} ORDER BY embedding <=> %s::vector LIMIT %s
"""


class PgvectorStore:
    """One table an index."""

    def __init__(self, url: str, key: str, dimensions: int) -> None:
        self.dimensions, self._key, self._url = dimensions, key, url
        self._idle: LifoQueue[psycopg.Connection[Any]] = LifoQueue()
        name = "cairn_index_" + re.sub(r"\W", "_", key)
        self._names = {
            "table": sql.Identifier(name),
            **{end: sql.Identifier(f"{name}_{end}") for end in ("by_document", "by_label", "by_vector")},
        }
        with self._connected() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('cairn_index'))")
            connection.execute(self._made(_TABLES, dimensions=sql.Literal(dimensions)))
            if dimensions <= _MOST_INDEXED:
                connection.execute(self._made(_HNSW))

    def _made(self, text: str, **more: sql.Composable) -> sql.Composed:
        return sql.SQL(text).format(**self._names, **more)

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection for one transaction; one that failed is not used again."""
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = psycopg.connect(self._url)
        try:
            with connection.transaction():
                yield connection
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)

    def position(self) -> int:
        with self._connected() as connection:
            return _position(connection, self._key)

    def count(self) -> int:
        with self._connected() as connection:
            found = connection.execute(self._made("SELECT count(*) FROM {table}")).fetchone()
        assert found is not None
        return int(found[0])

    def write(self, position: int, entries: Sequence[Entry], deletes: Sequence[int]) -> None:
        rows = [(e.chunk_id, e.document_id, sorted(e.allowed), _text(e.vector)) for e in entries]
        with self._connected() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (self._key,))
            if position <= _position(connection, self._key):
                return
            connection.execute(self._made("DELETE FROM {table} WHERE chunk_id = ANY(%s)"), (list(deletes),))
            with connection.cursor() as cursor:
                cursor.executemany(self._made(_UPSERT), rows)
            connection.execute(_NOTE, (self._key, position))

    def nearest(self, vector: Vector, limit: int, where: Filter, *, exact: bool) -> list[Match]:
        found = [] if exact else self._search(vector, limit, where, "enable_seqscan", "enable_sort")
        return found if len(found) == limit else self._search(vector, limit, where, "enable_indexscan")

    def _search(self, vector: Vector, limit: int, where: Filter, *off: str) -> list[Match]:
        conditions, values = _conditions(where)
        query = self._made(_SEARCH, condition=sql.SQL(" AND ").join(conditions))
        with self._connected() as connection:
            for setting in off:
                connection.execute(sql.SQL("SET LOCAL {} = off").format(sql.Identifier(setting)))
            connection.execute("SET LOCAL hnsw.iterative_scan = strict_order")
            connection.execute(
                sql.SQL("SET LOCAL hnsw.ef_search = {}").format(sql.Literal(min(1000, max(100, 2 * limit))))
            )
            rows = connection.execute(query, (_text(vector), *values, _text(vector), limit)).fetchall()
        return [Match(int(chunk_id), float(score)) for chunk_id, score in rows]

    def flush(self) -> None:
        """Every change was committed."""

    def drop(self) -> None:
        with self._connected() as connection:
            connection.execute(self._made("DROP TABLE {table}"))
            connection.execute("DELETE FROM cairn_index_positions WHERE key = %s", (self._key,))

    def close(self) -> None:
        while not self._idle.empty():
            self._idle.get().close()


def connect(key: str, dimensions: int, *, url: str) -> PgvectorStore:
    """`url`: `postgresql://user:password@host/database`."""
    return PgvectorStore(url, key, dimensions)


def _position(connection: psycopg.Connection[Any], key: str) -> int:
    query = "SELECT position FROM cairn_index_positions WHERE key = %s"
    found = connection.execute(query, (key,)).fetchone()
    return int(found[0]) if found else 0


def _text(vector: Vector) -> str:
    return "[" + ",".join(map(repr, vector.tolist())) + "]"


def _conditions(where: Filter) -> tuple[list[sql.Composable], list[list[str]]]:
    conditions: list[sql.Composable] = [sql.SQL("true")]
    values = []
    if where.labels is not None:
        conditions.append(sql.SQL("allowed && %s::text[]"))
        values.append(sorted(where.labels))
    if where.documents is not None:
        conditions.append(sql.SQL("document = ANY(%s)"))
        values.append(sorted(where.documents))
    return conditions, values
