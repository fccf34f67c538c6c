"""The graph as a stage of search, and how it follows what becomes of documents."""

import pytest
from sqlalchemy import func, select

from cairn.core.chat import Principal
from cairn.core.retrieval import Hit
from cairn.registry import Registry
from cairn.retrieval.catalogue import change_collection, delete_collection, find_collection
from cairn.retrieval.collection import Collection
from cairn.retrieval.graph import walking
from cairn.retrieval.graph.following import Graph
from cairn.retrieval.graph.tables import GraphChunkRow, GraphRow
from cairn.retrieval.search import SearchOptions, find
from cairn.retrieval.tables import ChangeRow, ChunkRow
from tests.retrieval.conftest import ANN, BOB, document
from tests.retrieval.exact import ExactIndexes, encoders

FACTS = {
    "tower.md": "The tallest tower of the coast was built by Zacharias Quill in a summer.",
    "quill.md": "Letters show that Zacharias Quill kept bees and sold honey at markets.",
    "bees.md": "Wild bees sleep in the winter and sing in the spring, some say.",
    "boats.md": "Boats are painted blue by custom and by law.",
}
QUESTION = "Who built the tallest tower of the coast?"
WITH, WITHOUT = SearchOptions(limit=10, graph=True), SearchOptions(limit=10, graph=False)


def fill(collection: Collection) -> None:
    for source, text in FACTS.items():
        collection.put(document(source, text))


def stage(hits: list[Hit]) -> dict[str, float]:
    return {hit.passage.name: hit.stages["graph"] for hit in hits if "graph" in hit.stages}


def kept(registry: Registry) -> set[int]:
    with registry.database.session(read_only=True) as session:
        return set(session.scalars(select(GraphChunkRow.chunk_id)))


def chunks(registry: Registry) -> set[int]:
    with registry.database.session(read_only=True) as session:
        return set(session.scalars(select(ChunkRow.chunk_id)))


def test_what_a_passage_speaks_of_leads_to_another(collection: Collection) -> None:
    fill(collection)
    hits = find(collection, QUESTION, ANN, WITH)
    masses = stage(hits)
    # Nothing of the question stands in the second passage but what the first one leads to.
    assert sorted(masses, key=masses.__getitem__, reverse=True)[:2] == ["tower.md", "quill.md"]
    before = [hit.passage.name for hit in find(collection, QUESTION, ANN, WITHOUT)]
    after = [hit.passage.name for hit in hits]
    assert after[0] == "tower.md"
    assert after.index("quill.md") <= before.index("quill.md")


def test_it_is_off_unless_the_collection_or_the_query_says_otherwise(
    collection: Collection, registry: Registry
) -> None:
    fill(collection)
    assert stage(find(collection, QUESTION, ANN, SearchOptions())) == {}
    assert kept(registry) == set()
    change_collection(registry, "notes", config={"graph": True})
    collection.info = find_collection(registry.database, "notes")
    assert stage(find(collection, QUESTION, ANN, SearchOptions()))
    assert stage(find(collection, QUESTION, ANN, WITHOUT)) == {}
    for depth in ("lexical", "dense"):
        assert stage(find(collection, QUESTION, ANN, SearchOptions(depth=depth, graph=True))) == {}


def test_only_chosen_documents_are_found(collection: Collection) -> None:
    fill(collection)
    chosen = next(info.document_id for info in collection.documents(ANN) if info.source == "quill.md")
    hits = find(collection, QUESTION, ANN, SearchOptions(graph=True, documents=frozenset({chosen})))
    assert {hit.passage.name for hit in hits} == {"quill.md"}


def test_a_changed_document_touches_its_own_rows_alone(collection: Collection, registry: Registry) -> None:
    fill(collection)
    assert collection.graph.update() == 4
    before = kept(registry)
    assert before == chunks(registry)
    assert collection.graph.update() == 0
    collection.put(document("bees.md", "Bees near Quillon sleep."))
    assert kept(registry) == before & chunks(registry)  # the old row went with its chunk
    assert collection.graph.update() == 1
    assert kept(registry) == chunks(registry)
    assert len(kept(registry) & before) == 3


def test_relabelling_and_renaming_read_nothing_again(collection: Collection) -> None:
    fill(collection)
    collection.graph.update()
    info = next(info for info in collection.documents(ANN) if info.source == "quill.md")
    collection.relabel([info.document_id], ["user:ann"])
    assert "quill.md" not in stage(find(collection, QUESTION, BOB, WITH))
    assert "quill.md" in stage(find(collection, QUESTION, ANN, WITH))
    collection.rename(info.document_id, "honey.md")
    assert collection.graph.update() == 0
    assert "honey.md" in stage(find(collection, QUESTION, ANN, WITH))


def test_nothing_is_left_of_what_was_deleted(collection: Collection, registry: Registry) -> None:
    fill(collection)
    collection.graph.update()
    collection.delete([info.document_id for info in collection.documents(ANN)])
    assert kept(registry) == set()
    assert collection.graph.view(None).keys == ()
    collection.put(document("a.md", "Zacharias Quill."))
    collection.graph.update()
    delete_collection(registry, "notes", collection.indexes)
    assert kept(registry) == set()
    with registry.database.session(read_only=True) as session:
        assert session.scalar(select(func.count()).select_from(GraphRow)) == 0


def test_a_search_waits_for_no_more_than_some(
    collection: Collection, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "_MOST_READ", 1)
    fill(collection)
    for count in (1, 2, 3, 4, 4):
        hits = find(collection, QUESTION, ANN, WITH)
        assert {hit.passage.name for hit in hits} == set(FACTS)  # the other stages know them all
        assert len(kept(registry)) == count
    # What is behind is out of the graph, whatever it was before.
    collection.relabel([info.document_id for info in collection.documents(ANN)], ["user:bob"])
    assert collection.graph.view(frozenset({"everyone"})).keys == ()


def test_another_holder_follows(collection: Collection, registry: Registry) -> None:
    fill(collection)
    with Collection.open(registry, "notes", encoders(), ExactIndexes()) as other:
        assert other.graph.update() == 4
        assert collection.graph.update() == 0
        assert collection.graph.view(None).keys == other.graph.view(None).keys != ()
        collection.put(document("bees.md", "Bees near Quillon sleep."))
        collection.graph.update()
        assert "quillon" in other.graph.view(None).keys
        assert (
            other.graph.view(None).keys == Graph(registry.database, other.info.collection_id).view(None).keys
        )


def test_an_older_backup_is_followed_from_the_start(collection: Collection, registry: Registry) -> None:
    fill(collection)
    collection.graph.update()
    keys = collection.graph.view(None).keys
    with registry.database.writing() as session:
        session.get_one(GraphRow, collection.info.collection_id).position = 0
    assert collection.graph.view(None).keys == ()
    assert collection.graph.update() == 0
    assert collection.graph.view(None).keys == keys


def test_a_question_without_words_walks_from_passages(collection: Collection) -> None:
    fill(collection)
    assert stage(find(collection, "???", Principal("eve"), WITH))
    assert stage(find(collection, "???", Principal("eve"), SearchOptions(graph=True, limit=1)))


def test_positions_never_pass_what_was_read(collection: Collection, registry: Registry) -> None:
    fill(collection)
    collection.graph.update(most=3)
    with registry.database.session(read_only=True) as session:
        position = session.get_one(GraphRow, collection.info.collection_id).position
        read = set(session.scalars(select(ChangeRow.chunk_id).where(ChangeRow.position <= position)))
    assert read == kept(registry)
    assert len(read) == 3
