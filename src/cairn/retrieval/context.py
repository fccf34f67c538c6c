"""Context: the passages a model answers from, numbered, within a budget of tokens.

Passages are read from the database again with the reader's labels, so nothing that was closed since the
search gets in. Around each stands as much of its section as there is room for; what an earlier source holds
already is not repeated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cairn.core.chat import Principal
from cairn.core.retrieval import Hit, Passage
from cairn.retrieval.access import labels_of
from cairn.retrieval.collection import Collection
from cairn.retrieval.passages import load_passages, section_around


@dataclass(frozen=True, slots=True)
class Source:
    """What stands under one number."""

    number: int
    """From 1, as `[1]` in the text."""
    passage: Passage
    """Of the chunk that was found; text and span reach as far as what is shown."""
    chunk_ids: tuple[int, ...]
    """All chunks in it, in order."""


@dataclass(frozen=True, slots=True)
class Context:
    """A text for a model, and where its parts come from."""

    text: str
    sources: tuple[Source, ...]
    num_tokens: int

    def source(self, number: int) -> Source | None:
        """The source that an answer calls `[number]`; None for a number that was never given."""
        return self.sources[number - 1] if 0 < number <= len(self.sources) else None


def build_context(
    collection: Collection,
    hits: Sequence[Hit],
    reader: Principal,
    *,
    budget: int,
    count: Callable[[str], int],
    expand: bool = True,
) -> Context:
    """Sources in the order of the hits, as many as `budget` tokens hold as `count` counts them.

    The hits may be of several collections of one database; `collection` is any of them.
    """
    labels = labels_of(reader)
    sources: list[Source] = []
    parts: list[str] = []
    spent = 0
    with collection.database.session(read_only=True) as session:
        found: dict[int, Passage] = {}
        for each in {hit.passage.collection_id for hit in hits}:
            ids = [hit.passage.chunk_id for hit in hits if hit.passage.collection_id == each]
            found |= load_passages(session, each, ids, labels)
        waiting = [found[hit.passage.chunk_id] for hit in hits if hit.passage.chunk_id in found]
        for place, passage in enumerate(waiting):
            if any(passage.chunk_id in source.chunk_ids for source in sources):
                continue
            around = [passage]
            if expand:
                around = section_around(session, passage.collection_id, passage.chunk_id, labels)
            taken = {each for source in sources for each in source.chunk_ids}
            room = budget - spent
            # What is left is shared among the hits that are left.
            share = max(room // (len(waiting) - place), 0)
            source = _widest(len(sources) + 1, passage, around, taken, share, room, count)
            if source is None:
                continue
            sources.append(source)
            parts.append(_shown(source))
            spent = count("".join(parts))
    return Context("".join(parts).rstrip("\n"), tuple(sources), spent)


def _widest(
    number: int,
    passage: Passage,
    around: Sequence[Passage],
    taken: set[int],
    share: int,
    room: int,
    count: Callable[[str], int],
) -> Source | None:
    """The passage with as many neighbours as its share holds; None when there is no room for itself."""
    ids = [each.chunk_id for each in around]
    first = last = ids.index(passage.chunk_id) if passage.chunk_id in ids else 0
    best = _source(number, passage, [passage])
    if count(_shown(best)) > room:
        return None
    while True:
        # Forwards first: an explanation follows what it explains.
        steps = [(first, last + 1), (first - 1, last)]
        for low, high in steps:
            if low < 0 or high >= len(around) or taken & {ids[low], ids[high]}:
                continue
            wider = _source(number, passage, around[low : high + 1])
            if count(_shown(wider)) <= share:
                best, first, last = wider, low, high
                break
        else:
            return best


def _source(number: int, passage: Passage, run: Sequence[Passage]) -> Source:
    merged = replace(passage, text=_merged(run), span=(run[0].span[0], run[-1].span[1]), page=run[0].page)
    return Source(number, merged, tuple(each.chunk_id for each in run))


def _merged(run: Sequence[Passage]) -> str:
    """The text of neighbouring chunks, what they share once."""
    text, end = run[0].text, run[0].span[1]
    for each in run[1:]:
        shared = end - each.span[0]
        if shared > 0:
            text += each.text.encode()[shared:].decode()
        else:
            text += "\n\n" + each.text
        end = each.span[1]
    return text


def _shown(source: Source) -> str:
    passage = source.passage
    where = " > ".join([passage.name, *passage.heading_path])
    return f"[{source.number}] {where} (page {passage.page})\n{passage.text}\n\n"
