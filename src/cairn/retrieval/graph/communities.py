"""Communities: nodes of a weighted graph that are tied to each other more than to the rest.

Modularity is made greater by moving nodes and then whole communities (Blondel et al. 2008, "Louvain"); what
is not connected in the end is taken apart, which Louvain alone does not see to (Traag, Waltman and van Eck
2019). The same graph and seed give the same communities.
"""

import random
from collections.abc import Sequence

_LEAST_GAIN = 1e-12
Neighbours = list[dict[int, float]]


def find_communities(
    num_nodes: int, links: Sequence[tuple[int, int, float]], *, seed: int = 0, resolution: float = 1.0
) -> list[list[int]]:
    """Nodes in groups, each sorted, by their first nodes; `links` have two nodes and a weight above 0."""
    neighbours: Neighbours = [{} for _ in range(num_nodes)]
    for first, second, weight in links:
        neighbours[first][second] = neighbours[first].get(second, 0.0) + weight
        neighbours[second][first] = neighbours[second].get(first, 0.0) + weight
    chance = random.Random(seed)
    inside, level = [0.0] * num_nodes, neighbours
    member = list(range(num_nodes))
    while True:
        community = _moved(level, inside, resolution, chance)
        numbers = {each: n for n, each in enumerate(dict.fromkeys(community))}
        if len(numbers) == len(level):
            break
        community = [numbers[each] for each in community]
        member = [community[each] for each in member]
        level, inside = _merged(level, inside, community, len(numbers))
    return _connected(neighbours, member)


def modularity(
    num_nodes: int, links: Sequence[tuple[int, int, float]], groups: Sequence[Sequence[int]]
) -> float:
    """How much more weight lies within groups than chance would put there (Newman and Girvan 2004)."""
    member = {node: n for n, group in enumerate(groups) for node in group}
    degree = [0.0] * num_nodes
    within, total = 0.0, 2 * sum(weight for _, _, weight in links)
    for first, second, weight in links:
        degree[first] += weight
        degree[second] += weight
        within += 2 * weight * (member[first] == member[second])
    expected = sum(sum(degree[node] for node in group) ** 2 for group in groups) / total
    return (within - expected) / total


def _moved(
    neighbours: Neighbours, inside: Sequence[float], resolution: float, chance: random.Random
) -> list[int]:
    """The community of each node, after moving single ones as long as that is a gain."""
    community = list(range(len(neighbours)))
    degree = [2 * own + sum(each.values()) for own, each in zip(inside, neighbours, strict=True)]
    held, total = list(degree), sum(degree)
    order = list(range(len(neighbours)))
    chance.shuffle(order)
    is_moving = total > 0
    while is_moving:
        is_moving = False
        for node in order:
            here = community[node]
            ties: dict[int, float] = {here: 0.0}
            for other, weight in neighbours[node].items():
                ties[community[other]] = ties.get(community[other], 0.0) + weight
            held[here] -= degree[node]
            cost = resolution * degree[node] / total
            best, most = here, ties[here] - cost * held[here]
            for each, weight in ties.items():
                gain = weight - cost * held[each]
                if gain > most + _LEAST_GAIN:
                    best, most = each, gain
            held[best] += degree[node]
            if best != here:
                community[node], is_moving = best, True
    return community


def _merged(
    neighbours: Neighbours, inside: Sequence[float], community: Sequence[int], count: int
) -> tuple[Neighbours, list[float]]:
    """The graph of communities, and the weight within each."""
    merged: Neighbours = [{} for _ in range(count)]
    within = [0.0] * count
    for node, ties in enumerate(neighbours):
        own = community[node]
        within[own] += inside[node]
        for other, weight in ties.items():
            if community[other] == own:
                within[own] += weight / 2
            else:
                merged[own][community[other]] = merged[own].get(community[other], 0.0) + weight
    return merged, within


def _connected(neighbours: Neighbours, member: Sequence[int]) -> list[list[int]]:
    found, is_seen = list[list[int]](), [False] * len(member)
    for start in range(len(member)):
        if is_seen[start]:
            continue
        is_seen[start], group = True, [start]
        for node in group:
            for other in neighbours[node]:
                if not is_seen[other] and member[other] == member[start]:
                    is_seen[other] = True
                    group.append(other)
        found.append(sorted(group))
    return found
