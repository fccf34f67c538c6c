"""A chat model reads for the graph: held to the passage, each passage once, statistics where it fails."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from cairn.core.chat import Principal
from cairn.providers.graph_reading import GraphModel, grounded_extract
from cairn.providers.receipts import is_whole
from cairn.registry import Registry
from cairn.retrieval.catalogue import create_collection
from cairn.retrieval.collection import Collection
from cairn.retrieval.graph.following import Graph
from cairn.retrieval.graph.reading import reread, tried
from cairn.retrieval.graph.tables import GraphChunkRow
from cairn.retrieval.graph.writing import list_communities, write_communities
from tests.providers.scripted import Scripted
from tests.retrieval.conftest import document
from tests.retrieval.exact import ExactIndexes, encoders

MET = "zacharias quill met ada byron in porto nuevo."  # without capitals statistics know no names
Open = Callable[[str], Scripted]


@pytest.fixture
def collection(registry: Registry) -> Iterator[Collection]:
    create_collection(registry, "letters", owner="ann", labels=["everyone"])
    with Collection.open(registry, "letters", encoders(), ExactIndexes()) as opened:
        yield opened


@pytest.fixture
def scripted() -> Iterator[Open]:
    opened: list[Scripted] = []

    def open_one(reply: str) -> Scripted:
        opened.append(Scripted(reply))
        return opened[-1]

    yield open_one
    for each in opened:
        each.stop()


def model_of(scripted: Scripted, collection: Collection) -> GraphModel:
    return GraphModel(scripted.provider, collection.info.collection_id, Principal("ann"))


def said(entities: list[str], *relations: tuple[str, str, str]) -> str:
    related = [dict(zip(("subject", "words", "object"), each, strict=True)) for each in relations]
    return json.dumps({"entities": entities, "relations": related}, separators=(",", ":"))


def names(graph: Graph) -> set[str]:
    view = graph.view(None)
    return {name for name, is_name in zip(view.names, view.is_name, strict=True) if is_name}


def read_again(collection: Collection, model: GraphModel) -> tuple[int, int]:
    collection.graph.update()
    done = reread(collection.database, collection.info.collection_id, model.name, model.read)
    return done.num_read, done.num_failed


def test_each_passage_is_read_once_and_everybody_sees_what_it_names(
    collection: Collection, scripted: Open
) -> None:
    pair = ("zacharias quill", "met", "ada byron")
    reader = scripted(said(["zacharias quill", "ada byron", "mary anning"], pair))
    model = model_of(reader, collection)
    collection.put(document("one.md", MET))
    collection.put(document("two.md", "the bees of ada byron and of zacharias quill."))
    collection.graph.update()
    other = Graph(collection.database, collection.info.collection_id)  # as another process holds it
    assert names(collection.graph) == names(other) == set()
    assert read_again(collection, model) == (2, 0)
    assert names(collection.graph) == names(other) == {"zacharias quill", "ada byron"}  # no one else is there
    steps = reader.runner.num_steps
    assert read_again(collection, model) == (0, 0)
    assert reader.runner.num_steps == steps
    collection.put(document("three.md", "a letter to ada byron."))
    assert read_again(collection, model) == (1, 0)
    with collection.database.session(read_only=True) as session:
        kept = [row.extract["relations"] for row in session.scalars(select(GraphChunkRow))]
    assert sorted(map(len, kept)) == [0, 1, 1]  # where both of its ends stand


def test_where_the_model_fails_statistics_stay_and_it_is_not_asked_again(
    collection: Collection, scripted: Open
) -> None:
    collection.put(document("short.md", "They say that Zacharias Quill kept bees."))
    collection.put(document("long.md", "They say that Mary Anning kept dogs. " + "The dog is old. " * 40))
    invented = scripted(said(["nobody", "nothing at all"]))
    model = model_of(invented, collection)
    collection.graph.update()
    before = names(collection.graph)
    assert before >= {"Zacharias Quill", "Mary Anning"}
    num_chunks = collection.stats().num_chunks
    assert read_again(collection, model) == (0, num_chunks)
    assert names(collection.graph) == before
    with collection.database.session(read_only=True) as session:
        assert set(session.scalars(select(GraphChunkRow.extractor))) == {tried(model.name)}
    steps = invented.runner.num_steps
    assert read_again(collection, model) == (0, 0)
    assert invented.runner.num_steps == steps


def test_a_reply_that_is_cut_off_is_a_failure(collection: Collection, scripted: Open) -> None:
    collection.put(document("one.md", MET))
    assert read_again(collection, model_of(scripted(said(["x" * 80] * 16)), collection)) == (0, 1)


def test_summaries_are_the_models_and_their_receipts_close_with_the_passages(
    collection: Collection, scripted: Open
) -> None:
    rain = " Rain fell."
    for number, text in enumerate(
        (
            "Zacharias Quill met Ada Byron in Porto Nuevo.",
            "In Porto Nuevo lived Ada Byron with Zacharias Quill.",
        )
    ):
        collection.put(document(f"{number}.md", text + rain))
    collection.put(document("other.md", "A dog slept." + rain))
    collection.graph.update()
    writer = scripted('{"summary":"They met."}')
    model = model_of(writer, collection)
    assert write_communities(collection, writer=model.name, summarise=model.summarise).num_written == 1
    [community] = list_communities(collection, None)
    assert (community.summary, community.writer) == ("They met.", model.name)
    again = write_communities(collection, writer=model.name, summarise=model.summarise)
    assert (again.num_written, again.num_kept) == (0, 1)
    [receipt] = writer.receipts
    given = {each for source in receipt.request["sources"] for each in source["chunk_ids"]}
    assert given == set(community.chunk_ids)
    assert receipt.request["messages"] == []
    assert is_whole(collection.database, receipt, None)
    collection.delete([collection.documents(None)[0].document_id])
    assert not is_whole(collection.database, receipt, None)
    assert list_communities(collection, None) == []


ENDS = st.tuples(st.sampled_from(["Ada Byron", "bees", "no one"]), st.sampled_from(["bees", "Ada", ""]))
ENTITIES = ["Ada Byron", "ada", "BEES", "bee", "the bees", "no one", "", "[", "Ada  Byron"]


@given(st.lists(st.sampled_from(ENTITIES)), st.lists(ENDS))
def test_nothing_is_kept_that_does_not_stand_there(entities: list[str], pairs: list[tuple[str, str]]) -> None:
    text = "Ada Byron kept bees. The bees of Ada\nByron slept."
    relations: list[Any] = [{"subject": one, "words": "w", "object": other} for one, other in pairs]
    found = grounded_extract("Bees", text, {"entities": entities, "relations": relations})
    if found is None:
        assert not {"Ada Byron", "ada", "BEES", "the bees", "Ada  Byron"} & set(entities)
        return
    keys = [each.key for each in found.mentions]
    assert len(keys) == len(set(keys))
    for each in found.mentions:
        assert each.name in {"Ada Byron", "Ada", "Bees", "bees", "The bees"}
        assert 1 <= len(each.sentences) <= each.count
    for relation in found.relations:
        assert {relation.subject, relation.object} <= set(keys)
