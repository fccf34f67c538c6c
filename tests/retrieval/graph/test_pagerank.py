"""The walk and the communities, against networkx."""

import networkx
import numpy as np
import pytest

from cairn.retrieval.graph.communities import find_communities, modularity
from cairn.retrieval.graph.pagerank import links, pagerank


@pytest.mark.parametrize("seed", range(3))
def test_pagerank_is_the_one_of_networkx(seed: int) -> None:
    random = np.random.default_rng(seed)
    graph = networkx.gnp_random_graph(40, 0.06, seed=seed, directed=True)  # some nodes lead nowhere
    for edge in graph.edges.values():
        edge["weight"] = float(random.uniform(0.1, 2))
    restart = random.uniform(0, 1, 40) * (random.uniform(0, 1, 40) < 0.3)
    restart /= restart.sum()
    edges = list(graph.edges(data="weight"))
    sources, targets = np.array([e[0] for e in edges]), np.array([e[1] for e in edges])
    walk = links(sources, targets, np.array([e[2] for e in edges]), 40)
    found = pagerank(walk, restart, damping=0.7)
    start = {node: float(share) for node, share in enumerate(restart)}
    expected = networkx.pagerank(graph, alpha=0.7, personalization=start, dangling=start, tol=1e-12)
    np.testing.assert_allclose(found, [expected[node] for node in range(40)], atol=1e-8)
    assert found.sum() == pytest.approx(1)


def test_a_walk_that_leads_nowhere_begins_anew() -> None:
    none = np.zeros(0, np.int64)
    assert pagerank(links(none, none, np.zeros(0), 2), np.array([1.0, 0.0]), damping=0.5).tolist() == [1, 0]


@pytest.mark.parametrize("name", ["karate_club_graph", "les_miserables_graph", "florentine_families_graph"])
def test_communities_are_as_good_as_those_of_networkx(name: str) -> None:
    graph = getattr(networkx, name)()
    place = {node: number for number, node in enumerate(graph)}
    edges = [(place[a], place[b], float(w)) for a, b, w in graph.edges(data="weight", default=1.0)]
    found = find_communities(len(place), edges)
    assert sorted(node for group in found for node in group) == list(range(len(place)))
    graph = networkx.relabel_nodes(graph, place)
    assert modularity(len(place), edges, found) == pytest.approx(
        networkx.community.modularity(graph, found), abs=1e-9
    )
    best = max(
        networkx.community.modularity(graph, networkx.community.louvain_communities(graph, seed=seed))
        for seed in range(5)
    )
    assert modularity(len(place), edges, found) >= best - 0.02
    assert all(networkx.is_connected(graph.subgraph(group)) for group in found)
    assert find_communities(len(place), edges) == found


def test_what_is_tied_to_nothing_is_alone() -> None:
    assert find_communities(3, [(0, 2, 1.0)]) == [[0, 2], [1]]
    assert find_communities(0, []) == []
