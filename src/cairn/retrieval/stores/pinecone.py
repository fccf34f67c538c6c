"""Pinecone, by its HTTP API of 2025-04: entries are records of a namespace in an index that exists already.

The index has the collection's dimensions and the metric cosine. Pinecone is consistent in the end: a record
may be found a moment after it was written, so a search right after a change can lack it. There is no exact
search: records are listed, fetched and compared here.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from cairn.core.errors import ConfigError
from cairn.retrieval.index import Entry, Filter, Match
from cairn.retrieval.stores.joined import Vector, best, in_batches, passes
from cairn.retrieval.stores.wire import Wire

_VERSION = "2025-04"
_POSITION = "position"
_MOST_LISTED = 100


class PineconeStore:
    """A namespace of entries, and one with a record that holds the position."""

    def __init__(self, wire: Wire, key: str, dimensions: int) -> None:
        self.dimensions, self._wire, self._name, self._note = dimensions, wire, key, f"{key}-position"
        self._fits = False

    def _check(self) -> None:
        """Before the first write: whether the index at Pinecone is one for these vectors."""
        there = self.dimensions if self._fits else self._stats()["dimension"]
        if there != self.dimensions:
            raise ConfigError(
                f"the index at Pinecone has {there} dimensions, the collection {self.dimensions}",
                remedy="make an index for this embedding model, with the metric cosine",
            )
        self._fits = True

    def _stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self._wire.ask("POST", "/describe_index_stats", {})
        return found

    def position(self) -> int:
        found = self._wire.ask("GET", "/vectors/fetch", ids=[_POSITION], namespace=self._note)["vectors"]
        return int(found[_POSITION]["metadata"]["position"]) if found else 0

    def count(self) -> int:
        return int(self._stats().get("namespaces", {}).get(self._name, {}).get("vectorCount", 0))

    def write(self, position: int, entries: Sequence[Entry], deletes: Sequence[int]) -> None:
        self._check()
        for some in in_batches(deletes):
            gone = {"ids": [str(chunk) for chunk in some], "namespace": self._name}
            self._wire.ask("POST", "/vectors/delete", gone, missing={})
        for batch in in_batches(entries, 100):
            self._upsert(self._name, [_record(entry) for entry in batch])
        first = [1.0] + [0.0] * (self.dimensions - 1)
        self._upsert(self._note, [{"id": _POSITION, "values": first, "metadata": {"position": position}}])

    def _upsert(self, namespace: str, records: Sequence[dict[str, Any]]) -> None:
        self._wire.ask("POST", "/vectors/upsert", {"vectors": records, "namespace": namespace})

    def nearest(self, vector: Vector, limit: int, where: Filter, *, exact: bool) -> list[Match]:
        if exact:
            return self._compared(vector, limit, where)
        request: dict[str, Any] = {
            "namespace": self._name,
            "vector": vector.tolist(),
            "topK": limit,
            "includeValues": False,
            "includeMetadata": False,
        }
        condition = _condition(where)
        if condition:
            request["filter"] = condition
        found = self._wire.ask("POST", "/query", request)["matches"]
        return [Match(int(match["id"]), float(match["score"])) for match in found]

    def _compared(self, vector: Vector, limit: int, where: Filter) -> list[Match]:
        found: list[Match] = []
        for ids in self._listed():
            records = self._wire.ask("GET", "/vectors/fetch", ids=ids, namespace=self._name)[
                "vectors"
            ].values()
            seen = [r for r in records if passes(r["metadata"]["document"], _allowed(r), where)]
            found += best([int(r["id"]) for r in seen], [r["values"] for r in seen], vector, limit)
        return sorted(found, key=lambda match: (-match.score, match.chunk_id))[:limit]

    def _listed(self) -> Iterator[list[str]]:
        query: dict[str, object] = {"namespace": self._name, "limit": _MOST_LISTED}
        while True:
            page = self._wire.ask("GET", "/vectors/list", **query)
            ids = [record["id"] for record in page.get("vectors", [])]
            if ids:
                yield ids
            token = page.get("pagination", {}).get("next")
            if not token:
                return
            query["paginationToken"] = token

    def flush(self) -> None:
        """Pinecone keeps what it accepted."""

    def drop(self) -> None:
        for namespace in (self._name, self._note):
            request = {"deleteAll": True, "namespace": namespace}
            self._wire.ask("POST", "/vectors/delete", request, missing={})

    def close(self) -> None:
        self._wire.close()


def connect(key: str, dimensions: int, *, url: str, api_key: str) -> PineconeStore:
    """`url`: the index's own host, `https://...pinecone.io`."""
    headers = {"Api-Key": api_key, "X-Pinecone-Api-Version": _VERSION}
    return PineconeStore(Wire(url, headers), key, dimensions)


def _record(entry: Entry) -> dict[str, Any]:
    metadata = {"document": entry.document_id, "allowed": sorted(entry.allowed)}
    return {"id": str(entry.chunk_id), "values": entry.vector.tolist(), "metadata": metadata}


def _allowed(record: dict[str, Any]) -> list[str]:
    labels: list[str] = record["metadata"].get("allowed", [])
    return labels


def _condition(where: Filter) -> dict[str, Any]:
    """`$in` on a list of labels: one of them."""
    pairs = (("allowed", where.labels), ("document", where.documents))
    conditions = [{field: {"$in": sorted(values)}} for field, values in pairs if values is not None]
    return {"$and": conditions} if len(conditions) > 1 else (conditions[0] if conditions else {})
