"""A collection is embedded by another model while it answers, switched in one step, and back."""

from collections.abc import Iterator

import pytest
from sqlalchemy import delete, func, select

from cairn.core import ConflictError, NotFoundError, Silent
from cairn.registry import Registry
from cairn.retrieval import reembedding
from cairn.retrieval.catalogue import change_collection, create_collection, delete_collection, find_collection
from cairn.retrieval.collection import Collection
from cairn.retrieval.search import SearchOptions, find, search
from cairn.retrieval.space_tables import CollectionSpaceRow
from cairn.retrieval.spaces import num_lacking, spaces_of
from cairn.retrieval.tables import ChunkVectorRow
from tests.retrieval.conftest import ANN, document
from tests.retrieval.exact import ExactIndexes
from tests.retrieval.two_spaces import FIRST, OTHER, TwoEmbedders

TEXTS = {
    "canoe.md": "A canoe is paddled on the river.",
    "glider.md": "A glider sails on the wind.",
    "long.md": "The raft " + "drifts slowly " * 20 + "home.",
}
SETTINGS = {"embedder": OTHER, "fusion": "reciprocal"}


@pytest.fixture
def models() -> TwoEmbedders:
    return TwoEmbedders()


@pytest.fixture
def collection(registry: Registry, models: TwoEmbedders, indexes: ExactIndexes) -> Iterator[Collection]:
    create_collection(registry, "notes", owner="ann", labels=["everyone"])
    with models.open(registry, indexes) as opened:
        for source, text in TEXTS.items():
            opened.put(document(source, text))
        yield opened


def names(collection: Collection, query: str) -> list[str]:
    return [hit.passage.name for hit in find(collection, query, ANN, SearchOptions(limit=1))]


def roles(collection: Collection) -> dict[str, str]:
    with collection.database.session(read_only=True) as session:
        found = spaces_of(session, collection.info.collection_id)
    return {role: space.embedder for role, space in found.items()}


def lacking(collection: Collection) -> dict[str, int]:
    collection_id = collection.info.collection_id
    with collection.database.session(read_only=True) as session:
        return {
            role: num_lacking(session, collection_id, space.space_id)
            for role, space in spaces_of(session, collection_id).items()
        }


def begin_and_fill(collection: Collection, models: TwoEmbedders) -> reembedding.Filled:
    space = reembedding.begin(collection, models.other, SETTINGS)
    return reembedding.fill(collection, space, models.other)


def test_switched_and_back(
    collection: Collection, registry: Registry, models: TwoEmbedders, indexes: ExactIndexes
) -> None:
    elsewhere = models.open(registry, ExactIndexes())  # as another process has it
    done = begin_and_fill(collection, models)
    assert (done.num_chunks, done.num_cut) == (3, 1)
    assert collection.encoders is models.first
    new = collection.put(document("kayak.md", "A kayak is paddled at sea."))
    assert lacking(collection) == {"active": 0, "next": 0}
    reembedding.switch(collection)
    assert roles(collection) == {"active": OTHER, "previous": FIRST}
    config = find_collection(registry.database, "notes").config
    assert (config.embedder, config.fusion) == (OTHER, "reciprocal")
    for each in (collection, elsewhere):
        assert names(each, "kayak") == ["kayak.md"]
        assert each.encoders is models.other
        assert each.info.config.fusion == "reciprocal"
        assert each.index().count() == 4
    elsewhere.put(document("raft.md", "A raft drifts home."))
    collection.delete([new.document_id])
    assert lacking(collection) == {"active": 0, "previous": 0}
    reembedding.roll_back(elsewhere)
    assert roles(collection) == {"active": FIRST, "next": OTHER}
    assert find_collection(registry.database, "notes").config.fusion == "calibrated"
    assert names(collection, "raft drifts home") == ["raft.md"]
    assert names(collection, "kayak") != ["kayak.md"]
    assert collection.encoders is models.first
    reembedding.drop(registry, collection.info.collection_id, indexes)
    assert roles(collection) == {"active": FIRST}
    assert [entry.action for entry in registry.audit.entries() if "collection." in entry.action] == [
        "collection.switch",
        "collection.rollback",
    ]
    with collection.database.session(read_only=True) as session:
        assert session.scalar(select(func.count()).select_from(ChunkVectorRow)) == 4
    elsewhere.close()


def test_it_goes_on_where_it_was_interrupted(
    collection: Collection, models: TwoEmbedders, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(Silent):
        def advance(self, amount: float = 1) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(reembedding, "_STEP", 2)
    space = reembedding.begin(collection, models.other, SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        reembedding.fill(collection, space, models.other, Impatient())
    assert lacking(collection) == {"active": 0, "next": 1}
    assert names(collection, "canoe") == ["canoe.md"]
    again = reembedding.begin(collection, models.other, SETTINGS)
    assert again == space
    assert reembedding.fill(collection, again, models.other).num_chunks == 1
    assert reembedding.fill(collection, again, models.other).num_chunks == 0


def test_what_lacks_is_filled_before_a_switch(
    collection: Collection, registry: Registry, models: TwoEmbedders
) -> None:
    begin_and_fill(collection, models)
    models.is_missing = True  # a process without the other model adds something
    collection.put(document("kayak.md", "A kayak is paddled at sea."))
    assert lacking(collection) == {"active": 0, "next": 1}
    with pytest.raises(NotFoundError):
        reembedding.switch(collection)
    assert names(collection, "kayak") == ["kayak.md"]
    models.is_missing = False
    reembedding.switch(collection)
    assert lacking(collection) == {"active": 0, "previous": 0}
    assert names(collection, "kayak") == ["kayak.md"]


def test_an_index_waits_for_vectors_that_are_yet_to_come(
    collection: Collection, models: TwoEmbedders
) -> None:
    space = reembedding.begin(collection, models.other, SETTINGS)
    opened = collection.spaces.open(space.space_id, models.other)
    assert opened.index().count() == 0
    reembedding.fill(collection, space, models.other)
    assert opened.index().count() == 3
    opened.release()


def test_a_switch_while_a_document_is_on_its_way(collection: Collection, models: TwoEmbedders) -> None:
    [prepared] = collection.prepare([document("kayak.md", "A kayak is paddled at sea.")])
    begin_and_fill(collection, models)
    reembedding.switch(collection)
    collection.write(prepared)
    assert lacking(collection)["active"] == 0
    assert names(collection, "kayak") == ["kayak.md"]


def test_a_search_ends_in_the_space_it_began_in(collection: Collection, models: TwoEmbedders) -> None:
    with collection.using() as space:
        space.index()
        begin_and_fill(collection, models)
        reembedding.switch(collection)
        reembedding.drop(collection.registry, collection.info.collection_id, collection.indexes)
        assert names(collection, "canoe") == ["canoe.md"]  # follows the switch
        assert space.encoders is models.first
        vector = space.encoders.embedder.embed(["canoe"]).vectors[0]
        hits = search(collection, space, "canoe", vector, None, SearchOptions(limit=1))
        assert [hit.passage.name for hit in hits] == ["canoe.md"]


def test_what_cannot_be_done_is_said(
    collection: Collection, registry: Registry, models: TwoEmbedders
) -> None:
    with pytest.raises(NotFoundError, match="no next space"):
        reembedding.switch(collection)
    with pytest.raises(NotFoundError, match="no previous space"):
        reembedding.roll_back(collection)
    with pytest.raises(ConflictError, match="is embedded by all-minilm-l6-v2 already"):
        reembedding.begin(collection, models.first, {"embedder": FIRST})
    space = reembedding.begin(collection, models.other, SETTINGS)
    with registry.database.writing() as session:
        session.execute(delete(CollectionSpaceRow))
    with pytest.raises(ConflictError, match="was dropped"):
        reembedding.fill(collection, space, models.other)


def test_deleting_takes_all_spaces(
    collection: Collection, models: TwoEmbedders, indexes: ExactIndexes
) -> None:
    begin_and_fill(collection, models)
    reembedding.switch(collection)
    delete_collection(collection.registry, "notes", indexes)
    assert not indexes.opened
    with collection.database.session(read_only=True) as session:
        assert session.scalar(select(func.count()).select_from(ChunkVectorRow)) == 0


def test_a_changed_setting_survives_a_switch(collection: Collection, models: TwoEmbedders) -> None:
    begin_and_fill(collection, models)
    change_collection(collection.registry, "notes", config={"candidates": 7})
    reembedding.switch(collection)
    assert find_collection(collection.database, "notes").config.candidates == 7
