"""Weaviate, by its HTTP and GraphQL API (1.23 and later).

There is no exact search: objects are listed and compared here.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID, uuid5

from cairn.core.errors import StorageError
from cairn.retrieval.index import Entry, Filter, Match
from cairn.retrieval.stores.joined import Vector, best, in_batches, passes
from cairn.retrieval.stores.wire import Wire

_NAMES = UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")
_MOST_LISTED = 200
_FIELDS = [
    {"name": "chunk", "dataType": ["int"]},
    {"name": "document", "dataType": ["text"], "tokenization": "field"},
    {"name": "allowed", "dataType": ["text[]"], "tokenization": "field"},
]


class WeaviateStore:
    """Two classes: the entries, and one object that holds the position."""

    def __init__(self, wire: Wire, key: str, dimensions: int) -> None:
        self.dimensions, self._wire = dimensions, wire
        self._name = "Cairn_" + "".join(c if c.isalnum() and c.isascii() else "_" for c in key)
        self._note = f"{self._name}_position"
        self._create(self._name, _FIELDS)
        self._create(self._note, [{"name": "position", "dataType": ["int"]}])

    def _create(self, name: str, fields: Sequence[dict[str, Any]]) -> None:
        if self._wire.ask("GET", f"/v1/schema/{name}", missing={}):
            return
        described = {
            "class": name,
            "vectorizer": "none",
            "vectorIndexType": "hnsw",
            "vectorIndexConfig": {
                "distance": "cosine",
                "ef": 128,
                "efConstruction": 128,
                "maxConnections": 16,
            },
            "properties": list(fields),
        }
        self._wire.ask("POST", "/v1/schema", described)

    def position(self) -> int:
        note = self._wire.ask("GET", f"/v1/objects/{self._note}/{_id(self._note, 0)}", missing={})
        return int(note["properties"]["position"]) if note else 0

    def count(self) -> int:
        found = self._graphql("Aggregate", f"{self._name}{{meta{{count}}}}")[0]["meta"]["count"]
        return int(found)

    def write(self, position: int, entries: Sequence[Entry], deletes: Sequence[int]) -> None:
        for chunk in deletes:
            path = f"/v1/objects/{self._name}/{_id(self._name, chunk)}"
            self._wire.ask("DELETE", path, missing={})
        for batch in in_batches(entries):
            self._put([self._object(entry) for entry in batch])
        note = {"class": self._note, "id": _id(self._note, 0), "properties": {"position": position}}
        self._put([note])

    def _put(self, objects: Sequence[dict[str, Any]]) -> None:
        """An object of the same id is replaced. A request may succeed and some of its objects fail."""
        for each in self._wire.ask("POST", "/v1/batch/objects", {"objects": objects}):
            errors = each.get("result", {}).get("errors")
            if errors:
                raise StorageError(f"Weaviate refused an object: {errors}", remedy="see its own log")

    def _object(self, entry: Entry) -> dict[str, Any]:
        return {
            "class": self._name,
            "id": _id(self._name, entry.chunk_id),
            "vector": entry.vector.tolist(),
            "properties": {
                "chunk": entry.chunk_id,
                "document": entry.document_id,
                "allowed": sorted(entry.allowed),
            },
        }

    def nearest(self, vector: Vector, limit: int, where: Filter, *, exact: bool) -> list[Match]:
        if exact:
            return self._compared(vector, limit, where)
        asked = [f"limit: {limit}", f"nearVector: {{vector: {json.dumps(vector.tolist())}}}"]
        condition = _condition(where)
        if condition:
            asked.append(f"where: {condition}")
        found = self._graphql("Get", f"{self._name}({', '.join(asked)}){{chunk _additional{{distance}}}}")
        return [Match(int(each["chunk"]), 1 - float(each["_additional"]["distance"])) for each in found]

    def _graphql(self, verb: str, selection: str) -> list[dict[str, Any]]:
        answer = self._wire.ask("POST", "/v1/graphql", {"query": f"{{{verb}{{{selection}}}}}"})
        if answer.get("errors"):
            raise StorageError(f"Weaviate refused a query: {answer['errors']}", remedy="see its own log")
        found: list[dict[str, Any]] = answer["data"][verb][self._name]
        return found

    def _compared(self, vector: Vector, limit: int, where: Filter) -> list[Match]:
        found: list[Match] = []
        for page in self._listed():
            pairs = [(each["properties"], each["vector"]) for each in page]
            seen = [(p, v) for p, v in pairs if passes(p["document"], p.get("allowed") or [], where)]
            found += best([int(p["chunk"]) for p, _ in seen], [v for _, v in seen], vector, limit)
        return sorted(found, key=lambda match: (-match.score, match.chunk_id))[:limit]

    def _listed(self) -> Iterator[list[dict[str, Any]]]:
        query: dict[str, object] = {"class": self._name, "limit": _MOST_LISTED, "include": "vector"}
        while True:
            page = self._wire.ask("GET", "/v1/objects", **query)["objects"]
            if not page:
                return
            yield page
            query["after"] = page[-1]["id"]

    def flush(self) -> None:
        """Weaviate keeps what it accepted."""

    def drop(self) -> None:
        for name in (self._name, self._note):
            self._wire.ask("DELETE", f"/v1/schema/{name}", missing={})

    def close(self) -> None:
        self._wire.close()


def connect(key: str, dimensions: int, *, url: str, api_key: str | None = None) -> WeaviateStore:
    """`url`: `http://host:8080`."""
    return WeaviateStore(
        Wire(url, {"Authorization": f"Bearer {api_key}"} if api_key else {}), key, dimensions
    )


def _id(name: str, number: int) -> str:
    return str(uuid5(_NAMES, f"{name}/{number}"))


def _condition(where: Filter) -> str:
    pairs = (("allowed", where.labels), ("document", where.documents))
    conditions = [
        f'{{path: ["{field}"], operator: ContainsAny, valueText: {json.dumps(sorted(values))}}}'
        for field, values in pairs
        if values is not None
    ]
    if len(conditions) == 2:
        return f"{{operator: And, operands: [{', '.join(conditions)}]}}"
    return conditions[0] if conditions else ""
