"""The context holds what there is room for, once, under numbers that lead back."""

from cairn.retrieval.collection import Collection
from cairn.retrieval.context import build_context
from cairn.retrieval.search import SearchOptions, find
from tests.retrieval.conftest import ANN, BOB, document

SENTENCES = [f"The {word} river runs through the valley number {n}." for n, word in enumerate("abcdefghij")]


def count(text: str) -> int:
    return len(text.split())


def put_long(collection: Collection) -> None:
    body = "\n\n".join(" ".join([sentence] * 5) for sentence in SENTENCES)
    collection.put(document("rivers.md", f"# Rivers\n\n{body}\n\n# Lakes\n\nThe lake is deep."))
    collection.put(document("canoe.md", "# Canoes\n\nA canoe is light."))


def test_sources_are_numbered_and_lead_back(collection: Collection) -> None:
    put_long(collection)
    hits = find(collection, "canoe light lake deep", ANN, SearchOptions(limit=2))
    context = build_context(collection, hits, ANN, budget=200, count=count)
    assert [source.number for source in context.sources] == [1, 2]
    for source in context.sources:
        assert f"[{source.number}] {source.passage.name}" in context.text
        assert source.passage.text in context.text
    assert context.source(1) == context.sources[0]
    assert context.source(3) is None
    assert context.source(0) is None


def test_a_passage_grows_into_its_section_as_far_as_there_is_room(collection: Collection) -> None:
    put_long(collection)
    [hit] = find(collection, "e river number 4", ANN, SearchOptions(limit=1, depth="lexical"))
    alone = build_context(collection, [hit], ANN, budget=60, count=count)
    wide = build_context(collection, [hit], ANN, budget=300, count=count)
    assert alone.num_tokens <= 60
    assert 150 < wide.num_tokens <= 300
    [source] = wide.sources
    assert len(source.chunk_ids) > 1
    assert hit.passage.chunk_id in source.chunk_ids
    original = collection.parsed(hit.passage.document_id, ANN).text.encode()
    assert original[slice(*source.passage.span)].decode() == source.passage.text
    assert "lake" not in source.passage.text
    [unexpanded] = build_context(collection, [hit], ANN, budget=300, count=count, expand=False).sources
    assert unexpanded.passage == hit.passage


def test_what_stands_there_already_is_not_repeated(collection: Collection) -> None:
    put_long(collection)
    hits = find(collection, "river valley", ANN, SearchOptions(limit=10))
    context = build_context(collection, hits, ANN, budget=2000, count=count)
    ids = [chunk_id for source in context.sources for chunk_id in source.chunk_ids]
    assert len(ids) == len(set(ids))


def test_what_was_closed_since_the_search_does_not_get_in(collection: Collection) -> None:
    put_long(collection)
    hits = find(collection, "canoe", BOB, SearchOptions())
    closed = next(hit.passage for hit in hits if hit.passage.name == "canoe.md")
    collection.relabel([closed.document_id], ["user:ann"])
    context = build_context(collection, hits, BOB, budget=500, count=count)
    assert "canoe" not in context.text
    assert all(source.passage.name == "rivers.md" for source in context.sources)


def test_no_room_no_source(collection: Collection) -> None:
    put_long(collection)
    hits = find(collection, "canoe", ANN, SearchOptions())
    context = build_context(collection, hits, ANN, budget=3, count=count)
    assert (context.text, context.sources, context.num_tokens) == ("", (), 0)
