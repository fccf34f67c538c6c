"""The monitor measures in the background, alarms below the bound, and a check mends what is wrong."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cairn.core import NotFoundError
from cairn.data.parsing import ParsedDocument, ParserPool
from cairn.registry import Registry
from cairn.retrieval import monitor
from cairn.retrieval.asked import delete_queries, kept_queries
from cairn.retrieval.catalogue import change_collection, delete_collection
from cairn.retrieval.checking import check, rebuild_documents
from cairn.retrieval.collection import Collection
from cairn.retrieval.index import Filter, Match
from cairn.retrieval.monitor import Monitor
from cairn.retrieval.recall import LEAST_SAMPLES, Recall, note_recall, recalls
from cairn.retrieval.search import CollectionRetriever, SearchOptions, find
from tests.retrieval.conftest import ANN, document, parsed
from tests.retrieval.exact import ExactIndex, ExactIndexes

NUM_DOCUMENTS = 20


class Forgetful(ExactIndex):
    """Its search finds every second of the nearest."""

    is_forgetful = True

    def search(self, vector: NDArray[np.float32], limit: int, where: Filter) -> list[Match]:
        found = self.exact(vector, 2 * limit, where)
        return found[::2] if self.is_forgetful else found[:limit]


class ForgetfulIndexes(ExactIndexes):
    def open(self, key: str, dimensions: int) -> ExactIndex:
        self.opened[key] = Forgetful(dimensions)
        return self.opened[key]


@pytest.fixture
def indexes() -> ExactIndexes:
    return ForgetfulIndexes()


@pytest.fixture
def filled(collection: Collection) -> Collection:
    collection.put_all([document(f"{n}.md", f"Boat number {n} is a raft.") for n in range(NUM_DOCUMENTS)])
    return collection


def index_of(collection: Collection) -> Forgetful:
    index = collection.index()
    assert isinstance(index, Forgetful)
    return index


def change(collection: Collection, **config: float) -> None:
    collection.info = change_collection(collection.registry, "notes", config=config)


async def ask(collection: Collection, queries: Sequence[str]) -> Recall | None:
    for query in queries:
        await CollectionRetriever(collection).find(query, ANN, SearchOptions())
        collection.monitor.settle()  # of too many at once the monitor leaves some out
    return recalls(collection.database).get(collection.info.collection_id)


async def test_recall_is_sampled_and_its_alarm_comes_and_goes(
    filled: Collection, caplog: pytest.LogCaptureFixture
) -> None:
    change(filled, recall_share=1.0)
    with caplog.at_level(logging.WARNING, "cairn.retrieval.monitor"):
        found = await ask(filled, ["a raft"] * (LEAST_SAMPLES - 1))
        assert found is not None
        assert (found.recall, found.num_samples, found.is_low) == (0.5, LEAST_SAMPLES - 1, False)
        assert caplog.records == []
        found = await ask(filled, ["a raft", "a boat"])
        assert found is not None
        assert found.is_low
        [said] = [record.getMessage() for record in caplog.records]
        assert "'notes' finds 0.500 of the nearest passages, less than 0.950" in said
        caplog.clear()
        index_of(filled).is_forgetful = False
        found = await ask(filled, ["a raft"] * 200)
        assert found is not None
        assert (found.num_samples, found.is_low) == (200, False)
        assert [record.getMessage()[-6:] for record in caplog.records] == [" again"]


async def test_a_share_of_the_queries_is_sampled(filled: Collection) -> None:
    change(filled, recall_share=0.25)
    chances = iter([0.9, 0.1, 0.25, 0.2])
    filled.monitor = Monitor(filled.database, filled.info.collection_id, lambda: next(chances))
    found = await ask(filled, ["a raft"] * 4)
    assert found is not None
    assert found.num_samples == 2
    filled.monitor.close()
    chances = iter([0.0])
    assert await ask(filled, ["a raft"]) == found


async def test_queries_are_kept_only_where_it_is_wanted(filled: Collection) -> None:
    collection_id = filled.info.collection_id
    await ask(filled, ["before"])
    assert kept_queries(filled.database, collection_id) == []
    change(filled, keep_queries=3, recall_share=0)
    await ask(filled, [f"raft {n}" for n in range(5)])
    assert kept_queries(filled.database, collection_id) == ["raft 4", "raft 3", "raft 2"]
    find(filled, "an evaluation's", ANN, SearchOptions())
    filled.monitor.settle()
    assert len(kept_queries(filled.database, collection_id)) == 3
    delete_queries(filled.database, collection_id)
    assert kept_queries(filled.database, collection_id) == []
    await ask(filled, ["raft"])
    delete_collection(filled.registry, "notes", filled.indexes)
    await ask(filled, ["raft"])
    assert kept_queries(filled.database, collection_id) == []


async def test_what_fails_in_the_background_hurts_no_query(
    filled: Collection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    change(filled, recall_share=1.0)

    def broken(*_: object) -> float:
        raise RuntimeError("broken")

    monkeypatch.setattr(monitor, "recall_of", broken)
    assert await ask(filled, ["a raft", "a boat"]) is None
    assert caplog.text.count("cannot be measured") == 2
    with filled.using() as space:
        assert space.num_holders == 2  # the collection, and this


def test_a_check_tells_what_is_wrong_and_a_rebuild_mends_it(filled: Collection) -> None:
    index = index_of(filled)
    index.is_forgetful = False
    found = check(filled, [], is_given=False)
    assert found.is_sound
    assert (found.num_passages, found.queries, found.recall) == (NUM_DOCUMENTS, "passages", 1.0)
    lost = next(iter(index.entries))
    entry = index.entries.pop(lost)
    index.entries[10_000] = replace(entry, chunk_id=10_000)
    found = check(filled, ["a raft"], is_given=True)
    assert (found.num_missing, found.num_extra, found.queries, found.is_sound) == (1, 1, "given", False)
    filled.rebuild()
    index_of(filled).is_forgetful = False
    assert check(filled, ["a raft"], is_given=False).is_sound


def test_a_check_replaces_the_samples(filled: Collection) -> None:
    note_recall(filled.database, filled.info.collection_id, filled.space_id, [1.0] * 50)
    found = check(filled, ["a raft", " "], is_given=True)
    assert (found.recall, found.num_samples) == (0.5, 1)
    assert recalls(filled.database)[filled.info.collection_id].num_samples == 1


def test_documents_are_made_anew_from_what_is_kept(filled: Collection, registry: Registry) -> None:
    from sqlalchemy import update

    from cairn.retrieval.tables import ChunkRow, ChunkVectorRow

    def passages() -> list[tuple[str, str]]:
        return [
            (info.source, chunk.text)
            for info in filled.documents(None)
            for chunk in filled.chunks(info.document_id, None)
        ]

    before = passages()
    filled.relabel([filled.documents(None)[0].document_id], ["user:ann"])
    with registry.database.writing() as session:
        session.execute(update(ChunkRow).values(text="lost"))
        session.execute(update(ChunkVectorRow).values(vector=np.eye(1, 32, dtype="<f4").tobytes()))
    done = rebuild_documents(filled)
    assert (len(done.documents), done.skipped) == (NUM_DOCUMENTS, [])
    assert passages() == before
    assert [info.labels for info in filled.documents(None)] == [("user:ann",)] + [("everyone",)] * (
        NUM_DOCUMENTS - 1
    )
    index_of(filled).is_forgetful = False
    assert find(filled, "Boat number 7 is a raft", ANN, SearchOptions(limit=1))[0].passage.name == "7.md"
    assert check(filled, [], is_given=False).is_sound


def test_a_rebuild_keeps_the_sizes_that_a_document_was_given(filled: Collection) -> None:
    text = "\n\n".join(f"The harbour has a jetty number {at} of old wood." for at in range(12))
    small = replace(document("small.md", text), chunk_tokens=20, overlap_tokens=0)
    small_id = filled.put(small).document_id
    filled.put(document("large.md", text))

    def sizes() -> list[int]:
        return [len(filled.chunks(info.document_id, None)) for info in filled.documents(None)]

    before = sizes()
    assert before[-1] > 2 * before[-2]
    filled.rename(small_id, "small again.md")
    rebuild_documents(filled)
    assert sizes() == before


def test_a_rebuild_leaves_what_changed_meanwhile(filled: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(target: object, path: object, name: str) -> ParsedDocument:
        if name == "3.md":
            filled.put(document("3.md", "It was replaced."))
        if name == "4.md":
            filled.delete([info.document_id for info in filled.documents(None) if info.source == "4.md"])
        return parsed(f"Anew: {name}")

    parsers = ParserPool(1)
    monkeypatch.setattr(parsers, "parse_to", meanwhile)
    done = rebuild_documents(filled, parsers=parsers)
    assert done.skipped == ["3.md", "4.md"]
    sources = {info.source: info.document_id for info in filled.documents(None)}
    assert "4.md" not in sources
    assert filled.chunks(sources["3.md"], None)[0].text == "It was replaced."
    assert filled.chunks(sources["5.md"], None)[0].text == "Anew: 5.md"


def test_a_collection_that_is_gone_cannot_be_made_anew(filled: Collection) -> None:
    delete_collection(filled.registry, "notes", filled.indexes)
    assert rebuild_documents(filled).documents == []
    with pytest.raises(NotFoundError):
        filled.put(document("a.md", "The canoe."))
