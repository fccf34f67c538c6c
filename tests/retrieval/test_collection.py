"""Documents go in whole, are found, replaced, renamed, closed to others and removed without a trace."""

from dataclasses import replace
from typing import cast

import pytest
from sqlalchemy import func, select

from cairn.core import ConflictError, InvalidRequestError, NotFoundError, Settings
from cairn.core.chat import Principal
from cairn.registry import Registry
from cairn.registry.tables import ArtifactUseRow
from cairn.retrieval.catalogue import (
    change_collection,
    create_collection,
    delete_collection,
    find_collection,
    find_visible,
    list_collections,
    told_names,
)
from cairn.retrieval.collection import Collection
from cairn.retrieval.encoders import Encoders
from cairn.retrieval.incoming import NewDocument
from cairn.retrieval.search import CollectionRetriever, SearchOptions, find
from cairn.retrieval.tables import ChangeRow, ChunkRow, ChunkVectorRow, DocumentRow
from tests.retrieval.conftest import ANN, BOB, document, parsed
from tests.retrieval.exact import ExactIndex, ExactIndexes, WordEmbedder, encoders


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def settings(request: pytest.FixtureRequest, tmp_path: object) -> Settings:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    return Settings(home=request.getfixturevalue("tmp_path") / "home", database_url=url)


def names(collection: Collection, query: str, reader: Principal = ANN, limit: int = 10) -> list[str]:
    return [hit.passage.name for hit in find(collection, query, reader, SearchOptions(limit=limit))]


def assert_consistent(collection: Collection) -> None:
    """The index holds exactly what the database does, and nothing dangles."""
    index = cast("ExactIndex", collection.index())
    with collection.database.session(read_only=True) as session:
        chunks = {row.chunk_id: row for row in session.scalars(select(ChunkRow))}
        documents = {row.document_id: row for row in session.scalars(select(DocumentRow))}
        vectors = set(session.scalars(select(ChunkVectorRow.chunk_id)))
        uses = {(row.digest, row.user) for row in session.scalars(select(ArtifactUseRow))}
        changes = {row.chunk_id: row.kind for row in session.scalars(select(ChangeRow))}
    assert set(index.entries) == set(chunks) == vectors
    assert {chunk_id for chunk_id, kind in changes.items() if kind == "upsert"} == set(chunks)
    for chunk_id, entry in index.entries.items():
        assert entry.document_id == chunks[chunk_id].document_id
        assert entry.allowed == frozenset(documents[entry.document_id].labels)
    assert uses == {(row.artifact, f"document {row.document_id}") for row in documents.values()}
    assert {row.artifact for row in documents.values()} == {
        artifact.digest for artifact in collection.registry.artifacts("document")
    }


def test_what_is_put_is_found(collection: Collection) -> None:
    first = collection.put(document("a.md", "# Boats\n\nA canoe is paddled on the river."))
    collection.put(document("b.md", "# Planes\n\nA glider sails on the wind."))
    hits = find(collection, "paddled canoe", ANN, SearchOptions())
    assert hits[0].passage.document_id == first.document_id
    assert hits[0].passage.text == "# Boats\n\nA canoe is paddled on the river."
    assert hits[0].passage.heading_path == ("Boats",)
    assert hits[0].passage.document_digest == first.digest
    assert set(hits[0].stages) == {"lexical", "dense", "feedback", "fused"}
    assert hits[0].score == hits[0].stages["fused"]
    assert_consistent(collection)


def test_what_models_keep_of_texts_goes_with_a_document(registry: Registry) -> None:
    told: list[str] = []
    models = replace(encoders(), forget=lambda: told.append("forget"))
    create_collection(registry, "notes", owner="ann")
    with Collection.open(registry, "notes", models, ExactIndexes()) as opened:
        info = opened.put(document("a.md", "A canoe is paddled."))
        opened.index()
        assert told == []
        opened.delete([info.document_id])
        assert told == ["forget"]


async def test_it_is_a_retriever(collection: Collection) -> None:
    collection.put(document("a.md", "A canoe is paddled."))
    [hit] = await CollectionRetriever(collection).retrieve("canoe", BOB, limit=5)
    assert hit.passage.name == "a.md"
    assert await CollectionRetriever(collection).retrieve("  ", BOB) == []


def test_a_new_text_takes_the_place_of_the_old(collection: Collection) -> None:
    before = collection.put(document("a.md", "The canoe is red."))
    after = collection.put(document("a.md", "The kayak is blue."))
    assert before.document_id == after.document_id
    assert before.digest != after.digest
    [hit] = find(collection, "canoe", ANN, SearchOptions())
    assert hit.passage.text == "The kayak is blue."
    assert [info.source for info in collection.documents(None)] == ["a.md"]
    assert_consistent(collection)


def test_unchanged_passages_are_not_embedded_again(collection: Collection, models: Encoders) -> None:
    embedder = cast("WordEmbedder", models.embedder)
    collection.put(document("a.md", "# One\n\nThe canoe.\n\n# Two\n\nThe kayak."))
    assert embedder.num_embedded == 2
    collection.put(document("a.md", "# One\n\nThe canoe.\n\n# Two\n\nThe raft."))
    assert embedder.num_embedded == 3
    collection.put(document("copy.md", "# One\n\nThe canoe.\n\n# Two\n\nThe raft."))
    assert embedder.num_embedded == 3
    assert_consistent(collection)


def test_deleting_leaves_nothing(collection: Collection) -> None:
    kept = collection.put(document("kept.md", "The kayak is blue."))
    gone = collection.put(document("gone.md", "The canoe is red."))
    shared = collection.put(document("shared.md", "The kayak is blue."))
    assert shared.artifact == kept.artifact
    collection.delete([gone.document_id, shared.document_id])
    assert names(collection, "canoe") == ["kept.md"]
    assert [each.digest for each in collection.registry.artifacts("document")] == [kept.artifact]
    with pytest.raises(NotFoundError):
        collection.document(gone.document_id, None)
    assert_consistent(collection)


def test_artifacts_of_documents_are_no_garbage(collection: Collection) -> None:
    info = collection.put(document("a.md", "The canoe."))
    assert collection.registry.gc(grace_seconds=-1) == []
    assert collection.original(info.document_id, ANN).read_bytes() == b"The canoe."
    assert collection.parsed(info.document_id, ANN) == parsed("The canoe.")
    with pytest.raises(ConflictError, match="is needed: the document file-"):
        collection.registry.remove(info.artifact)


def test_labels_open_and_close_at_once(collection: Collection) -> None:
    info = collection.put(document("a.md", "The canoe.", ["user:ann"]))
    assert names(collection, "canoe", ANN) == ["a.md"]
    assert names(collection, "canoe", BOB) == []
    with pytest.raises(NotFoundError):
        collection.chunks(info.document_id, BOB)
    collection.relabel([info.document_id], ["group:readers"])
    assert names(collection, "canoe", ANN) == []
    assert names(collection, "canoe", BOB) == ["a.md"]
    assert collection.documents(ANN) == []
    collection.relabel([info.document_id], [])
    assert names(collection, "canoe", BOB) == []
    assert_consistent(collection)


def test_a_replaced_document_keeps_its_labels(collection: Collection) -> None:
    collection.put(document("a.md", "The canoe.", ["user:ann"]))
    assert collection.put(document("a.md", "The kayak.")).labels == ("user:ann",)
    assert collection.put(document("b.md", "The raft.")).labels == ("everyone",)
    assert collection.put(document("a.md", "The kayak.", [])).labels == ()


def test_labels_that_say_nobody_are_refused(collection: Collection) -> None:
    for label in ("ann", "user:", "users:ann", "", "group: "):
        with pytest.raises(InvalidRequestError, match="says nobody"):
            collection.put(document("a.md", "The canoe.", [label]))
    assert collection.documents(None) == []


def test_a_renamed_document_is_the_same_under_another_id(collection: Collection, models: Encoders) -> None:
    embedder = cast("WordEmbedder", models.embedder)
    info = collection.put(document("a.md", "The canoe.", ["user:ann"]))
    other = collection.put(document("c.md", "The kayak."))
    num_embedded = embedder.num_embedded
    new_id = collection.rename(info.document_id, "b.md")
    assert embedder.num_embedded == num_embedded
    [hit] = find(collection, "canoe", ANN, SearchOptions(limit=1))
    assert (hit.passage.name, hit.passage.document_id) == ("b.md", new_id)
    assert collection.document(new_id, ANN).labels == ("user:ann",)
    with pytest.raises(ConflictError, match=r"'c\.md' already"):
        collection.rename(new_id, "c.md")
    assert collection.document(other.document_id, ANN).source == "c.md"
    assert_consistent(collection)


def test_pages_that_cannot_be_trusted_are_counted_and_not_indexed(collection: Collection) -> None:
    text = "The canoe is red.\fq%x canoe z#\fThe raft is grey."
    page = parsed(text, confidence=[0.9, 0.1, 0.5])
    info = collection.put(NewDocument(source="scan.pdf", original=b"%PDF", parsed=page))
    assert (info.status, info.num_pages, info.skipped_pages) == ("partial", 3, (2,))
    assert [problem.page for problem in info.problems] == [2]
    assert [chunk.page for chunk in collection.chunks(info.document_id, ANN)] == [1, 3]
    assert collection.stats().num_skipped_pages == 1
    nothing = NewDocument(source="b.pdf", original=b"%PDF", parsed=parsed("zz", confidence=[0.0]))
    assert collection.put(nothing).status == "unreadable"
    assert collection.stats().num_unreadable == 1


def test_another_holder_sees_what_was_committed(collection: Collection, registry: Registry) -> None:
    with Collection.open(registry, "notes", encoders(), ExactIndexes()) as other:
        info = collection.put(document("a.md", "The canoe."))
        assert names(other, "canoe") == ["a.md"]
        other.delete([info.document_id])
        assert names(collection, "canoe") == []


def test_an_index_from_the_future_is_made_anew(collection: Collection, registry: Registry) -> None:
    collection.put(document("a.md", "The canoe."))

    class Kept(ExactIndexes):
        def open(self, key: str, dimensions: int) -> ExactIndex:
            index = self.opened.setdefault(key, ExactIndex(dimensions))
            return index

    kept = Kept()
    with Collection.open(registry, "notes", encoders(), kept) as other:
        [index] = kept.opened.values()
        other.index()
        index.position += 1000
        index.entries = {}
    with Collection.open(registry, "notes", encoders(), kept) as other:
        assert names(other, "canoe") == ["a.md"]


def test_a_collection_is_opened_by_the_model_that_made_it(collection: Collection, registry: Registry) -> None:
    other = Encoders(embedder=WordEmbedder(), digest="sha256:other", count_tokens=lambda texts: [0])
    with pytest.raises(ConflictError, match="embedded by sha256:words"):
        Collection.open(registry, "notes", other, ExactIndexes())


def test_collections_by_name(registry: Registry, indexes: ExactIndexes) -> None:
    made = create_collection(registry, "team notes", owner="ann")
    assert made.labels == ("user:ann",)
    assert find_collection(registry.database, made.collection_id) == made
    with pytest.raises(ConflictError, match="ann has a collection 'team notes' already"):
        create_collection(registry, "team notes", owner="ann")
    with pytest.raises(InvalidRequestError, match="allowed: letters"):
        create_collection(registry, "../notes", owner="ann")
    changed = change_collection(registry, "team notes", name="notes", config={"chunk_tokens": 50})
    assert (changed.name, changed.config.chunk_tokens) == ("notes", 50)
    with Collection.open(registry, "notes", encoders(), indexes) as collection:
        collection.put(document("a.md", "The canoe."))
    assert indexes.opened
    delete_collection(registry, "notes", indexes)
    assert not indexes.opened
    assert list_collections(registry.database) == []
    assert registry.artifacts("document") == []
    with registry.database.session(read_only=True) as session:
        assert session.scalar(select(func.count()).select_from(ChunkRow)) == 0
        assert session.scalar(select(func.count()).select_from(ChangeRow)) == 0
    with pytest.raises(NotFoundError, match="no collection 'notes'"):
        find_collection(registry.database, "notes")


def test_owners_have_names_of_their_own(registry: Registry) -> None:
    database = registry.database
    open_to_all = create_collection(registry, "notes", owner="ann", labels=["everyone"])
    secret = create_collection(registry, "notes", owner="bob")
    eve, bob = Principal("eve"), Principal("bob")
    assert find_visible(database, "notes", eve) == open_to_all  # of bob's she knows nothing
    assert find_visible(database, "notes", bob) == secret
    assert find_visible(database, "ann/notes", bob) == open_to_all
    assert find_visible(database, secret.collection_id, bob) == secret
    for hidden in ("bob/notes", secret.collection_id, "ann/note", "/notes/notes"):
        with pytest.raises(NotFoundError):
            find_visible(database, hidden, eve)
    change_collection(registry, "bob/notes", labels=["everyone"])
    with pytest.raises(ConflictError, match="2 collections are called 'notes': ann/notes, bob/notes"):
        find_visible(database, "notes", eve)
    with pytest.raises(ConflictError, match="are called"):
        find_collection(database, "notes")
    assert find_collection(database, "notes", owner="ann") == open_to_all
    assert find_visible(database, "bob/notes", eve).collection_id == secret.collection_id
    other = create_collection(registry, "papers", owner="bob")
    with pytest.raises(ConflictError, match="bob has a collection 'notes' already"):
        change_collection(registry, other.collection_id, name="notes")
    names = told_names(list_collections(database))
    assert sorted(names.values()) == ["ann/notes", "bob/notes", "papers"]


def test_a_document_cannot_enter_a_collection_that_is_gone(collection: Collection) -> None:
    delete_collection(collection.registry, "notes", collection.indexes)
    with pytest.raises(NotFoundError, match="is gone"):
        collection.put(document("a.md", "The canoe."))
