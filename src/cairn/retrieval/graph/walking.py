"""The graph as a stage of search: from what a question names and what is near it, to what these speak of."""

from collections.abc import Mapping
from itertools import islice

from cairn.retrieval.graph.following import Graph
from cairn.retrieval.graph.mentions import read_passage
from cairn.retrieval.index import Filter, Match

_NUM_SEEDS = 10
_MOST_READ = 200  # chunks; a search that has to wait for more goes on without them


def walk(graph: Graph, query: str, found: Mapping[int, float], count: int, where: Filter) -> list[Match]:
    """Passages by how often a walk from the question passes, among what its reader may see.

    It begins at the entities of the question and at the best of the passages that other stages have `found`,
    and never sets foot on a passage that is not open to the reader.
    """
    graph.update(_MOST_READ)
    keys = [mention.key for mention in read_passage("", query).mentions]
    seeds = dict(islice(found.items(), _NUM_SEEDS))
    near = graph.view(where.labels).near(keys, seeds)
    if where.documents is not None:
        near = {each: mass for each, mass in near.items() if graph.document_of(each) in where.documents}
    best = sorted(near, key=lambda each: (-near[each], each))[:count]
    return [Match(each, near[each]) for each in best]
