"""LanceDB, by its own library: a folder, or object storage by URL.

Filters come before the search. From 20,000 entries on `flush` keeps an index of IVF and HNSW; below, and for
what came since, every entry is compared.
"""

from collections.abc import Sequence
from typing import Any

import lancedb
import pyarrow as pa

from cairn.retrieval.index import Entry, Filter, Match
from cairn.retrieval.stores.joined import Vector, in_batches

_INDEXED_FROM = 20_000
_POSITION = pa.schema([("key", pa.int64()), ("position", pa.int64())])


class LanceStore:
    """Two tables: the entries, and one row that holds the position."""

    def __init__(self, database: Any, key: str, dimensions: int) -> None:
        self.dimensions, self._database, self._name = dimensions, database, f"cairn-{key}"
        self._schema = pa.schema(
            [
                ("chunk_id", pa.int64()),
                ("document", pa.string()),
                ("allowed", pa.list_(pa.string())),
                ("vector", pa.list_(pa.float32(), dimensions)),
            ]
        )
        self._table = _opened(database, self._name, self._schema)
        self._note = _opened(database, f"{self._name}-position", _POSITION)

    def position(self) -> int:
        self._note.checkout_latest()
        rows = self._note.to_arrow().to_pylist()
        return max((int(row["position"]) for row in rows), default=0)

    def count(self) -> int:
        self._table.checkout_latest()
        return int(self._table.count_rows())

    def write(self, position: int, entries: Sequence[Entry], deletes: Sequence[int]) -> None:
        for some in in_batches(deletes):
            self._table.delete(f"chunk_id IN ({', '.join(map(str, some))})")
        for batch in in_batches(entries, 4000):
            rows = pa.Table.from_pylist([_row(entry) for entry in batch], self._schema)
            merge = self._table.merge_insert("chunk_id")
            merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)
        note = pa.Table.from_pylist([{"key": 0, "position": position}], _POSITION)
        self._note.merge_insert("key").when_matched_update_all().when_not_matched_insert_all().execute(note)

    def nearest(self, vector: Vector, limit: int, where: Filter, *, exact: bool) -> list[Match]:
        found = self._search(vector, limit, where, exact)
        if len(found) < limit and not exact:
            found = self._search(vector, limit, where, exact=True)
        return found

    def _search(self, vector: Vector, limit: int, where: Filter, exact: bool) -> list[Match]:
        self._table.checkout_latest()
        query = self._table.search(vector, vector_column_name="vector").distance_type("cosine")
        query = query.bypass_vector_index() if exact else query.ef(max(128, 2 * limit)).refine_factor(4)
        condition = _condition(where)
        if condition:
            query = query.where(condition, prefilter=True)
        rows = query.limit(limit).select(["chunk_id", "_distance"]).to_list()
        return [Match(int(row["chunk_id"]), 1 - float(row["_distance"])) for row in rows]

    def flush(self) -> None:
        if self.count() >= _INDEXED_FROM and not self._table.list_indices():
            self._table.create_index(
                metric="cosine", vector_column_name="vector", index_type="IVF_HNSW_SQ", num_partitions=1
            )
        self._table.optimize()

    def drop(self) -> None:
        for name in (self._name, f"{self._name}-position"):
            self._database.drop_table(name)

    def close(self) -> None:
        """Nothing is held open."""


def connect(key: str, dimensions: int, *, url: str, api_key: str | None = None) -> LanceStore:
    """`url`: a folder, `s3://bucket/path`, `db://name` with a key."""
    return LanceStore(lancedb.connect(url, api_key=api_key), key, dimensions)


def _opened(database: Any, name: str, schema: Any) -> Any:
    try:
        return database.open_table(name)
    except ValueError:  # what it says of a table that is not there
        return database.create_table(name, schema=schema, exist_ok=True)


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "chunk_id": entry.chunk_id,
        "document": entry.document_id,
        "allowed": sorted(entry.allowed),
        "vector": entry.vector,
    }


def _condition(where: Filter) -> str:
    conditions = []
    if where.labels is not None:
        conditions.append(f"array_has_any(allowed, [{_listed(where.labels)}])")
    if where.documents is not None:
        conditions.append(f"document IN ({_listed(where.documents)})")
    return " AND ".join(conditions)


def _listed(values: frozenset[str]) -> str:
    return ", ".join("'" + value.replace("'", "''") + "'" for value in sorted(values))
