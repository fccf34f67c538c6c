"""Personalised PageRank by power iteration over a sparse graph (Haveliwala 2002)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_TOLERANCE, _MOST_STEPS = 1e-10, 100


@dataclass(frozen=True, slots=True)
class Links:
    """Where a walk goes on from each node, and how likely."""

    sources: Ints
    """[links]"""
    targets: Ints
    """[links]"""
    shares: Floats
    """[links]: of what leaves the source; together 1, or nothing where it has no links."""
    num_nodes: int


def links(sources: Ints, targets: Ints, weights: Floats, num_nodes: int) -> Links:
    """Links with weights above 0, made into shares."""
    total = np.bincount(sources, weights, num_nodes)
    return Links(sources, targets, weights / total[sources], num_nodes)


def pagerank(graph: Links, restart: Floats, *, damping: float) -> Floats:
    """How often a walk is at each node [nodes] that goes on with `damping`, else begins anew at `restart`.

    `restart` [nodes] sums to 1. A walk without a way on begins anew.
    """
    here = restart
    for _ in range(_MOST_STEPS):
        flow = damping * np.bincount(graph.targets, here[graph.sources] * graph.shares, graph.num_nodes)
        following: Floats = flow + (1 - float(flow.sum())) * restart
        moved = float(np.abs(following - here).sum())
        here = following
        if moved < _TOLERANCE:
            break
    return here
