"""Weaviate's REST and GraphQL as https://docs.weaviate.io/weaviate/api says, as far as an index asks."""

import json
import re
from typing import Any
from uuid import UUID

import numpy as np

from .wire_server import Answer, Query, Route, Vendor

_NAME = "([A-Z][_0-9A-Za-z]*)"
_GET = re.compile(
    r"\{Get\{" + _NAME + r"\(limit: (\d+), nearVector: \{vector: (\[[^\]]*\])\}(?:, where: (.*))?\)"
    r"\{chunk _additional\{distance\}\}\}\}",
    re.DOTALL,
)
_CONDITION = re.compile(
    r'\{path: \["(\w+)"\], operator: ContainsAny, valueText: (\[(?:"(?:[^"\\]|\\.)*"(?:, )?)+\])\}'
)
_BOTH = re.compile(r"\{operator: And, operands: \[(.*)\]\}", re.DOTALL)


class FakeWeaviate(Vendor):
    """Classes and their objects."""

    def __init__(self) -> None:
        super().__init__()
        self.schema: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, dict[str, dict[str, Any]]] = {}

    def check_headers(self, headers: dict[str, str]) -> None:
        assert headers["authorization"] == "Bearer secret"

    def routes(self) -> list[tuple[str, str, Route]]:
        return [
            ("GET", f"/v1/schema/{_NAME}", self.get_class),
            ("POST", "/v1/schema", self.create_class),
            ("DELETE", f"/v1/schema/{_NAME}", self.drop_class),
            ("POST", "/v1/batch/objects", self.batch),
            ("GET", f"/v1/objects/{_NAME}/([0-9a-f-]+)", self.get_object),
            ("DELETE", f"/v1/objects/{_NAME}/([0-9a-f-]+)", self.delete_object),
            ("GET", "/v1/objects", self.list_objects),
            ("POST", "/v1/graphql", self.graphql),
        ]

    def get_class(self, match: re.Match[str], _query: Query, _body: Any) -> Answer:
        found = self.schema.get(match[1])
        return (200, found) if found else (404, None)

    def create_class(self, _match: re.Match[str], _query: Query, body: Any) -> Answer:
        assert re.fullmatch(_NAME, body["class"])
        assert body["class"] not in self.schema
        assert (body["vectorizer"], body["vectorIndexType"]) == ("none", "hnsw")
        assert body["vectorIndexConfig"]["distance"] == "cosine"
        for field in body["properties"]:
            assert field.keys() <= {"name", "dataType", "tokenization"}
            assert field["dataType"] in (["int"], ["text"], ["text[]"])
            # Any other tokenisation would take labels apart at their colons.
            assert field["dataType"] == ["int"] or field["tokenization"] == "field"
        self.schema[body["class"]] = body
        self.objects[body["class"]] = {}
        return 200, body

    def drop_class(self, match: re.Match[str], _query: Query, _body: Any) -> Answer:
        self.objects.pop(match[1], None)
        return (200, None) if self.schema.pop(match[1], None) else (400, {"error": []})

    def batch(self, _match: re.Match[str], _query: Query, body: Any) -> Answer:
        assert body.keys() == {"objects"}
        assert body["objects"]
        for each in body["objects"]:
            assert each.keys() <= {"class", "id", "vector", "properties"}
            assert str(UUID(each["id"])) == each["id"]
            fields = {field["name"] for field in self.schema[each["class"]]["properties"]}
            assert each["properties"].keys() <= fields
            self.objects[each["class"]][each["id"]] = each
        return 200, [{**each, "result": {"status": "SUCCESS"}} for each in body["objects"]]

    def get_object(self, match: re.Match[str], _query: Query, _body: Any) -> Answer:
        found = self.objects.get(match[1], {}).get(match[2])
        return (200, found) if found else (404, None)

    def delete_object(self, match: re.Match[str], _query: Query, _body: Any) -> Answer:
        found = self.objects[match[1]].pop(match[2], None)
        return (204, None) if found else (404, None)

    def list_objects(self, _match: re.Match[str], query: Query, _body: Any) -> Answer:
        assert query.keys() <= {"class", "limit", "after", "include"}
        assert query["include"] == ["vector"]
        objects = self.objects[query["class"][0]]
        after = query.get("after", [""])[0]
        ids = sorted(each for each in objects if each > after)[: int(query["limit"][0])]
        return 200, {"objects": [objects[each] for each in ids], "totalResults": len(ids)}

    def graphql(self, _match: re.Match[str], _query: Query, body: Any) -> Answer:
        assert body.keys() == {"query"}
        counted = re.fullmatch(r"\{Aggregate\{" + _NAME + r"\{meta\{count\}\}\}\}", body["query"])
        if counted:
            count = len(self.objects[counted[1]])
            return 200, {"data": {"Aggregate": {counted[1]: [{"meta": {"count": count}}]}}}
        asked = _GET.fullmatch(body["query"])
        assert asked, "not the grammar of Get"
        vector, seen = np.array(json.loads(asked[3])), []
        for each in self.objects[asked[1]].values():
            if passes(each["properties"], asked[4]):
                stored = np.array(each["vector"])
                cosine = float(vector @ stored / np.linalg.norm(vector) / np.linalg.norm(stored))
                seen.append((1 - cosine, each["properties"]["chunk"]))
        best = sorted(seen)[: int(asked[2])]
        rows = [{"chunk": chunk, "_additional": {"distance": distance}} for distance, chunk in best]
        return 200, {"data": {"Get": {asked[1]: rows}}}


def passes(properties: dict[str, Any], where: str | None) -> bool:
    """One ContainsAny, or two of them under And."""
    if where is None:
        return True
    both = _BOTH.fullmatch(where)
    parts = list(_CONDITION.finditer(both[1] if both else where))
    assert ", ".join(part[0] for part in parts) == (both[1] if both else where), "not the grammar of where"
    for part in parts:
        held = properties.get(part[1]) or []
        if set(held if isinstance(held, list) else [held]).isdisjoint(json.loads(part[2])):
            return False
    return True
