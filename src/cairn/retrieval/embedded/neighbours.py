"""The graph by which an embedded index searches: `native/graph.h`, in C++, beside the vectors it was made of.

Where the native module is missing there is none, and every search compares with every entry it may see.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.embedded.access import Mask
from cairn.retrieval.embedded.rows import Rows, Slots, Vectors
from cairn.retrieval.embedded.snapshot import Array

DEGREE = 16
BUILD_BREADTH = 200
SEARCH_BREADTH = 128
"""Candidates that a search keeps."""
RESCORED = 4
"""Times as many as are asked for are scored again from the exact vectors; at least those of ten."""
FEW = 50
"""n of N are compared one by one where n * n <= FEW * breadth * N: the graph would pass by as many."""
_SECTIONS = ("levels", "base", "upper")
_CHUNK = 4096


def native() -> Any | None:
    """The module in C++; None where it is not installed."""
    try:
        module = import_module("cairn._native")
    except ImportError:
        return None
    return module if hasattr(module, "best_by_words") else None


def new_graph(dimensions: int) -> Any | None:
    """An empty one; in a single dimension all vectors are alike."""
    module = native() if dimensions > 1 else None
    return None if module is None else module.Graph(dimensions, degree=DEGREE, breadth=BUILD_BREADTH)


def extended(graph: Any | None, rows: Rows) -> Any | None:
    """The graph with the vectors it lacks; a new one where it has others, left by a change that failed."""
    if graph is None:
        return None
    if len(graph) > rows.size:
        return extended(new_graph(rows.mapped.shape[1]), rows)
    while len(graph) < rows.size:
        graph.add(rows.take(np.arange(len(graph), min(len(graph) + _CHUNK, rows.size))))
    return graph


def facts() -> dict[str, Any]:
    """What links in a snapshot are good for."""
    return {"degree": DEGREE, "build_breadth": BUILD_BREADTH}


def sections_of(graph: Any | None, live: Slots, is_live: NDArray[np.bool_]) -> dict[str, Array]:
    """The links of what is live, counted anew."""
    if graph is None:
        return {}
    if len(live) < len(is_live):
        graph.unlink(is_live.view(np.uint8))
    return dict(zip(_SECTIONS, graph.exported(live), strict=True))


def restored(rows: Rows, given: Mapping[str, Any], arrays: Mapping[str, Array]) -> Any | None:
    """The graph of a snapshot; made anew where the snapshot has none, or one of other measures."""
    graph = new_graph(rows.mapped.shape[1])
    is_there = all(name in arrays for name in _SECTIONS)
    if graph is not None and is_there and all(given.get(key) == value for key, value in facts().items()):
        graph.restore(rows.mapped, *(arrays[name] for name in _SECTIONS))
    return extended(graph, rows)


def candidates(graph: Any | None, query: Vectors, limit: int, group: NDArray[np.int32], mask: Mask) -> Slots:
    """Slots that a filter lets through, the nearest `limit` most likely among them."""
    num_rescored = RESCORED * max(limit, 10)
    breadth = max(SEARCH_BREADTH, num_rescored)
    if graph is None or mask.count <= breadth:
        return np.flatnonzero(mask.slots)
    if mask.count**2 > FEW * breadth * len(group):
        found: Slots = graph.search(query, breadth, group, mask.groups)
        if len(found) >= min(limit, mask.count):
            return found[:num_rescored]
    nearest: Slots = graph.scan(query, num_rescored, np.flatnonzero(mask.slots))
    return nearest
