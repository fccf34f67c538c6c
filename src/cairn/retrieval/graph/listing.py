"""Entities as a person reads them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cairn.core.chat import Principal
from cairn.retrieval.access import labels_of
from cairn.retrieval.collection import Collection

_MOST_RELATED = 5


@dataclass(frozen=True, slots=True)
class EntityInfo:
    """An entity of the passages that a reader may see."""

    name: str
    kind: Literal["name", "term"]
    num_passages: int
    related: tuple[str, ...]
    """What it stands together with more often than by chance, the closest first."""


def list_entities(collection: Collection, reader: Principal | None, limit: int = 50) -> list[EntityInfo]:
    """The entities that tell most and are met most; None is maintenance, which sees all."""
    view = collection.graph.view(None if reader is None else labels_of(reader))
    first, second, strength = view.related
    ties: dict[int, list[tuple[float, int]]] = {}
    best = np.lexsort((np.arange(len(view.keys)), -view.weights * view.num_chunks))[:limit].tolist()
    for one, other, much in zip(first.tolist(), second.tolist(), strength.tolist(), strict=True):
        ties.setdefault(one, []).append((-much, other))
        ties.setdefault(other, []).append((-much, one))
    return [
        EntityInfo(
            name=view.names[each],
            kind="name" if view.is_name[each] else "term",
            num_passages=int(view.num_chunks[each]),
            related=tuple(view.names[other] for _, other in sorted(ties.get(each, ()))[:_MOST_RELATED]),
        )
        for each in best
    ]
