"""Qdrant, by its own client: a server by URL, or a folder for its local mode (small collections)."""

from collections.abc import Sequence
from typing import Any

from qdrant_client import QdrantClient, models

from cairn.retrieval.index import Entry, Filter, Match
from cairn.retrieval.stores.joined import Vector, in_batches

_POSITION = 0


class QdrantStore:
    """Two collections: the entries, and one point that holds the position."""

    def __init__(self, client: QdrantClient, key: str, dimensions: int, *, is_local: bool) -> None:
        self.dimensions = dimensions
        self._client, self._name, self._note = client, key, f"{key}-position"
        self._is_local = is_local  # where every search is exact, and warns of parameters
        if not client.collection_exists(self._name):
            cosine = models.VectorParams(size=dimensions, distance=models.Distance.COSINE)
            client.create_collection(self._name, vectors_config=cosine)
            for field in () if is_local else ("document", "allowed"):
                client.create_payload_index(self._name, field, models.PayloadSchemaType.KEYWORD)
        if not client.collection_exists(self._note):
            one = models.VectorParams(size=1, distance=models.Distance.DOT)
            client.create_collection(self._note, vectors_config=one)

    def position(self) -> int:
        found = self._client.retrieve(self._note, [_POSITION], with_payload=True)
        return int((found[0].payload or {})["position"]) if found else 0

    def count(self) -> int:
        return int(self._client.count(self._name, exact=True).count)

    def write(self, position: int, entries: Sequence[Entry], deletes: Sequence[int]) -> None:
        if deletes:
            self._client.delete(self._name, models.PointIdsList(points=list(deletes)), wait=True)
        for some in in_batches(entries):
            self._client.upsert(self._name, [_point(entry) for entry in some], wait=True)
        note = models.PointStruct(id=_POSITION, vector=[1.0], payload={"position": position})
        self._client.upsert(self._note, [note], wait=True)

    def nearest(self, vector: Vector, limit: int, where: Filter, *, exact: bool) -> list[Match]:
        how = models.SearchParams(exact=exact, hnsw_ef=max(128, 2 * limit))
        found = self._client.query_points(
            self._name,
            query=vector.tolist(),
            query_filter=_condition(where),
            search_params=None if self._is_local else how,
            limit=limit,
            with_payload=False,
        )
        return [Match(int(point.id), float(point.score)) for point in found.points]

    def flush(self) -> None:
        """Every write has waited already."""

    def drop(self) -> None:
        for name in (self._name, self._note):
            self._client.delete_collection(name)

    def close(self) -> None:
        self._client.close()


def connect(key: str, dimensions: int, *, url: str, api_key: str | None = None) -> QdrantStore:
    """`url`: `http://host:6333`, or a folder."""
    if url.startswith(("http://", "https://")):
        client = QdrantClient(url=url, api_key=api_key, check_compatibility=False)
        return QdrantStore(client, key, dimensions, is_local=False)
    return QdrantStore(QdrantClient(path=url), key, dimensions, is_local=True)


def _point(entry: Entry) -> models.PointStruct:
    payload = {"document": entry.document_id, "allowed": sorted(entry.allowed)}
    return models.PointStruct(id=entry.chunk_id, vector=entry.vector.tolist(), payload=payload)


def _condition(where: Filter) -> models.Filter | None:
    conditions: list[Any] = [
        models.FieldCondition(key=field, match=models.MatchAny(any=sorted(values)))
        for field, values in (("allowed", where.labels), ("document", where.documents))
        if values is not None
    ]
    return models.Filter(must=conditions) if conditions else None
