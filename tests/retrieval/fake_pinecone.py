"""Pinecone's data plane, as https://docs.pinecone.io/reference/api/2025-04/data-plane says."""

import re
from typing import Any

import numpy as np

from .wire_server import Answer, Query, Route, Vendor


class FakePinecone(Vendor):
    """One index with the metric cosine."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension
        self.namespaces: dict[str, dict[str, dict[str, Any]]] = {}

    def check_headers(self, headers: dict[str, str]) -> None:
        assert headers["api-key"] == "secret"
        assert headers["x-pinecone-api-version"] == "2025-04"

    def routes(self) -> list[tuple[str, str, Route]]:
        return [
            ("POST", "/describe_index_stats", self.stats),
            ("POST", "/vectors/upsert", self.upsert),
            ("POST", "/vectors/delete", self.delete),
            ("GET", "/vectors/fetch", self.fetch),
            ("GET", "/vectors/list", self.list),
            ("POST", "/query", self.query),
        ]

    def stats(self, _match: re.Match[str], _query: Query, body: Any) -> Answer:
        assert body == {}
        counts = {name: {"vectorCount": len(records)} for name, records in self.namespaces.items()}
        return 200, {
            "namespaces": counts,
            "dimension": self.dimension,
            "indexFullness": 0,
            "metric": "cosine",
        }

    def upsert(self, _match: re.Match[str], _query: Query, body: Any) -> Answer:
        assert body.keys() <= {"vectors", "namespace"}
        assert 1 <= len(body["vectors"]) <= 1000
        for record in body["vectors"]:
            assert record.keys() <= {"id", "values", "sparseValues", "metadata"}
            assert isinstance(record["id"], str)
            assert 1 <= len(record["id"]) <= 512
            assert len(record["values"]) == self.dimension
            assert any(record["values"]), "a dense vector must not be all zeros"
            for value in record["metadata"].values():
                is_list = isinstance(value, list) and all(isinstance(each, str) for each in value)
                assert is_list or isinstance(value, str | int | float | bool)
            self.namespaces.setdefault(body["namespace"], {})[record["id"]] = record
        return 200, {"upsertedCount": len(body["vectors"])}

    def delete(self, _match: re.Match[str], _query: Query, body: Any) -> Answer:
        assert body.keys() <= {"ids", "deleteAll", "namespace", "filter"}
        if body["namespace"] not in self.namespaces:
            return 404, {"code": 5, "message": "Namespace not found", "details": []}
        if body.get("deleteAll"):
            assert "ids" not in body
            del self.namespaces[body["namespace"]]
            return 200, {}
        assert 1 <= len(body["ids"]) <= 1000
        for each in body["ids"]:
            self.namespaces[body["namespace"]].pop(each, None)
        return 200, {}

    def fetch(self, _match: re.Match[str], query: Query, body: Any) -> Answer:
        assert body is None
        assert query.keys() <= {"ids", "namespace"}
        (namespace,) = query["namespace"]
        there = self.namespaces.get(namespace, {})
        return 200, {"vectors": {n: there[n] for n in query["ids"] if n in there}, "namespace": namespace}

    def list(self, _match: re.Match[str], query: Query, body: Any) -> Answer:
        assert body is None
        assert query.keys() <= {"namespace", "limit", "paginationToken", "prefix"}
        (limit,) = map(int, query["limit"])
        assert 1 <= limit <= 100
        ids = sorted(self.namespaces.get(query["namespace"][0], {}))
        start = int(query.get("paginationToken", ["0"])[0])
        answer: dict[str, Any] = {"vectors": [{"id": each} for each in ids[start : start + limit]]}
        if start + limit < len(ids):
            answer["pagination"] = {"next": str(start + limit)}
        return 200, answer

    def query(self, _match: re.Match[str], _query: Query, body: Any) -> Answer:
        known = {
            "namespace",
            "vector",
            "topK",
            "filter",
            "includeValues",
            "includeMetadata",
            "id",
            "sparseVector",
        }
        assert body.keys() <= known
        assert 1 <= body["topK"] <= 10_000
        assert len(body["vector"]) == self.dimension
        records = self.namespaces.get(body["namespace"], {}).values()
        seen = [each for each in records if passes(each["metadata"], body.get("filter"))]
        vector = np.array(body["vector"])
        scored = [(float(np.dot(vector, r["values"]) / np.linalg.norm(r["values"])), r["id"]) for r in seen]
        best = sorted(scored, reverse=True)[: body["topK"]]
        matches = [{"id": name, "score": score, "values": []} for score, name in best]
        return 200, {"matches": matches, "namespace": body["namespace"], "usage": {"readUnits": 1}}


def passes(metadata: dict[str, Any], condition: dict[str, Any] | None) -> bool:
    """`$and` of conditions, and `$in`, which for a list asks for one of its strings."""
    if condition is None:
        return True
    ((name, value),) = condition.items()
    if name == "$and":
        assert len(value) > 1
        return all(passes(metadata, each) for each in value)
    ((operator, wanted),) = value.items()
    assert operator == "$in"
    assert wanted
    held = metadata.get(name, [])
    return not set(held if isinstance(held, list) else [held]).isdisjoint(wanted)
