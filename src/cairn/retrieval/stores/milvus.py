"""Milvus, by its own client: a server by URL, or a file for Milvus Lite."""

import json
from collections.abc import Sequence
from typing import Any

from pymilvus import DataType, MilvusClient

from cairn.retrieval.index import Entry, Filter, Match
from cairn.retrieval.stores.joined import Vector, best, in_batches

_MOST_LABELS, _MOST_BYTES = 1024, 1024


class MilvusStore:
    """Two collections: the entries, and one row that holds the position."""

    def __init__(self, client: MilvusClient, key: str, dimensions: int) -> None:
        self.dimensions, self._client = dimensions, client
        self._name = "cairn_" + "".join(c if c.isalnum() and c.isascii() else "_" for c in key)
        self._note = f"{self._name}_position"
        if not client.has_collection(self._name):
            self._create(self._name, dimensions, has_fields=True)
        if not client.has_collection(self._note):
            self._create(self._note, 2, has_fields=False)
        for name in (self._name, self._note):
            client.load_collection(name)

    def _create(self, name: str, dimensions: int, *, has_fields: bool) -> None:
        schema = self._client.create_schema(auto_id=False)
        schema.add_field("chunk_id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimensions)
        if has_fields:
            schema.add_field("document", DataType.VARCHAR, max_length=_MOST_BYTES)
            schema.add_field(
                "allowed",
                DataType.ARRAY,
                element_type=DataType.VARCHAR,
                max_capacity=_MOST_LABELS,
                max_length=_MOST_BYTES,
            )
        else:
            schema.add_field("position", DataType.INT64)
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type="AUTOINDEX", metric_type="COSINE")
        self._client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")

    def position(self) -> int:
        found = self._client.query(self._note, filter="chunk_id == 0", output_fields=["position"])
        return int(found[0]["position"]) if found else 0

    def count(self) -> int:
        return int(self._client.query(self._name, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def write(self, position: int, entries: Sequence[Entry], deletes: Sequence[int]) -> None:
        if deletes:
            self._client.delete(self._name, ids=list(deletes))
        for some in in_batches(entries):
            self._client.upsert(self._name, [_row(entry) for entry in some])
        self._client.upsert(self._note, [{"chunk_id": 0, "vector": [1.0, 0.0], "position": position}])

    def nearest(self, vector: Vector, limit: int, where: Filter, *, exact: bool) -> list[Match]:
        if exact:
            return self._compared(vector, limit, where)
        found = self._client.search(
            self._name,
            data=[vector.tolist()],
            filter=_condition(where),
            limit=limit,
            search_params={"metric_type": "COSINE", "params": {"ef": max(128, 2 * limit)}},
        )[0]
        matches = [Match(int(hit["chunk_id"]), float(hit["distance"])) for hit in found]
        return matches if len(matches) == limit else self._compared(vector, limit, where)

    def _compared(self, vector: Vector, limit: int, where: Filter) -> list[Match]:
        pages = self._client.query_iterator(
            self._name, batch_size=1000, filter=_condition(where), output_fields=["chunk_id", "vector"]
        )
        found: list[Match] = []
        while rows := pages.next():
            found += best([row["chunk_id"] for row in rows], [row["vector"] for row in rows], vector, limit)
        pages.close()
        return sorted(found, key=lambda match: (-match.score, match.chunk_id))[:limit]

    def flush(self) -> None:
        self._client.flush(self._name)

    def drop(self) -> None:
        for name in (self._name, self._note):
            self._client.drop_collection(name)

    def close(self) -> None:
        self._client.close()


def connect(key: str, dimensions: int, *, url: str, api_key: str = "") -> MilvusStore:
    """`url`: `http://host:19530`, or a file that ends in `.db`."""
    return MilvusStore(MilvusClient(uri=url, token=api_key), key, dimensions)


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "chunk_id": entry.chunk_id,
        "vector": entry.vector.tolist(),
        "document": entry.document_id,
        "allowed": sorted(entry.allowed),
    }


def _condition(where: Filter) -> str:
    """Values are quoted as JSON, which the expressions' strings are."""
    conditions = []
    if where.labels is not None:
        conditions.append(f"array_contains_any(allowed, {_listed(where.labels)})")
    if where.documents is not None:
        conditions.append(f"document in {_listed(where.documents)}")
    return " and ".join(conditions)


def _listed(values: frozenset[str]) -> str:
    return json.dumps(sorted(values), ensure_ascii=False)
