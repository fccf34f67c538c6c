"""Chroma, by its own client: a server by URL, or a folder.

A label is a key of its own in an entry's metadata, since lists are not filtered by in every version. There is
no exact search: entries that pass are fetched and compared here.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import chromadb

from cairn.retrieval.index import Entry, Filter, Match
from cairn.retrieval.stores.joined import Vector, best, in_batches

_LABEL = "allows:"
_MOST_FETCHED = 1000


class ChromaStore:
    """One collection an index; the position is in the collection's metadata."""

    def __init__(self, client: Any, key: str, dimensions: int) -> None:
        self.dimensions, self._client = dimensions, client
        self._name = f"cairn-{key}"
        self._collection = client.get_or_create_collection(
            self._name,
            configuration={"hnsw": {"space": "cosine", "ef_search": 128, "ef_construction": 128}},
            embedding_function=None,
        )

    def position(self) -> int:
        metadata = self._client.get_collection(self._name, embedding_function=None).metadata or {}
        return int(metadata.get("position", 0))

    def count(self) -> int:
        return int(self._collection.count())

    def write(self, position: int, entries: Sequence[Entry], deletes: Sequence[int]) -> None:
        # What is put again is deleted before: an update would keep labels that it no longer allows.
        gone = [str(chunk) for chunk in (*deletes, *(entry.chunk_id for entry in entries))]
        for some in in_batches(gone):
            there = self._collection.get(ids=list(some), include=[])["ids"]
            if there:
                self._collection.delete(ids=there)
        for batch in in_batches(entries):
            self._collection.add(
                ids=[str(entry.chunk_id) for entry in batch],
                embeddings=[entry.vector for entry in batch],
                metadatas=[_metadata(entry) for entry in batch],
            )
        self._collection.modify(metadata={"position": position})

    def nearest(self, vector: Vector, limit: int, where: Filter, *, exact: bool) -> list[Match]:
        found: list[Match] = []
        if not exact:
            answer = self._collection.query(
                query_embeddings=[vector], n_results=limit, where=_condition(where), include=["distances"]
            )
            pairs = zip(answer["ids"][0], answer["distances"][0], strict=True)
            found = [Match(int(chunk), 1 - float(distance)) for chunk, distance in pairs]
        return found if len(found) == limit else self._compared(vector, limit, where)

    def _compared(self, vector: Vector, limit: int, where: Filter) -> list[Match]:
        found: list[Match] = []
        for offset in range(0, self.count(), _MOST_FETCHED):
            some = self._collection.get(
                where=_condition(where), include=["embeddings"], limit=_MOST_FETCHED, offset=offset
            )
            found += best([int(chunk) for chunk in some["ids"]], some["embeddings"], vector, limit)
            if len(some["ids"]) < _MOST_FETCHED:
                break
        return sorted(found, key=lambda match: (-match.score, match.chunk_id))[:limit]

    def flush(self) -> None:
        """Every write is there when it returns."""

    def drop(self) -> None:
        self._client.delete_collection(self._name)

    def close(self) -> None:
        """The client is shared by all of a process."""


def connect(key: str, dimensions: int, *, url: str, api_key: str | None = None) -> ChromaStore:
    """`url`: `http://host:8000`, or a folder."""
    settings = chromadb.Settings(anonymized_telemetry=False)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return ChromaStore(chromadb.PersistentClient(url, settings=settings), key, dimensions)
    client = chromadb.HttpClient(
        parts.hostname or "localhost",
        parts.port or 8000,
        ssl=parts.scheme == "https",
        headers={"x-chroma-token": api_key} if api_key else None,
        settings=settings,
    )
    return ChromaStore(client, key, dimensions)


def _metadata(entry: Entry) -> dict[str, str | bool]:
    return {"document": entry.document_id, **{_LABEL + label: True for label in entry.allowed}}


def _condition(where: Filter) -> dict[str, Any] | None:
    conditions: list[dict[str, Any]] = []
    if where.labels is not None:
        labels: list[dict[str, Any]] = [{_LABEL + label: True} for label in sorted(where.labels)]
        conditions.append(labels[0] if len(labels) == 1 else {"$or": labels})
    if where.documents is not None:
        conditions.append({"document": {"$in": sorted(where.documents)}})
    if not conditions:
        return None
    return conditions[0] if len(conditions) == 1 else {"$and": conditions}
