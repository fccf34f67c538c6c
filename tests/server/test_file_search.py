"""`file_search` in chat: answers from collections, what they rest on, and for whom."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
from typer.testing import CliRunner

from cairn.cli import app
from cairn.core import Settings
from cairn.core.errors import NotFoundError
from cairn.core.retrieval import Span
from cairn.data.parsing import parse_bytes
from cairn.providers.importing import import_checkpoint
from cairn.providers.knowledge import Library
from cairn.registry import Registry
from cairn.retrieval import CollectionConfig, NewDocument, create_collection
from cairn.server.models import ModelPool
from tests.engine.native_tiny import needs_native
from tests.providers.tiny_encoder import embedder_folder
from tests.providers.tiny_model import tiny_artifact
from tests.server.conftest import Running, Script, Serve

pytestmark = needs_native
TEXTS = {
    "leave.md": ("# Leave\n\nEverybody has thirty days of holiday a year.\n", ["everyone"]),
    "bikes.md": ("# Bikes\n\nBicycles stand in the cellar.\n", ["everyone"]),
    "pay.md": ("# Pay\n\nThe salary of a mason is 4000 a month.\n", ["user:ann"]),
}


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return embedder_folder(tmp_path_factory.mktemp("models") / "embedder")


@pytest.fixture
def library(registry: Registry, embedder: Path) -> Iterator[Library]:
    """A handbook that is open to all but for one page, and a diary that is Ann's alone."""
    import_checkpoint(registry, embedder)
    config = CollectionConfig(embedder="embedder")
    with Library(registry, weights="float32") as opened:
        create_collection(registry, "handbook", owner="admin", labels=[], config=config)
        create_collection(registry, "diary", owner="ann", config=config)
        for name, (text, labels) in TEXTS.items():
            put(opened, "handbook", name, text, labels)
        put(opened, "diary", "monday.md", "Ann mends the roof on Monday.", ["user:ann"])
        yield opened


def put(library: Library, collection: str, name: str, text: str, labels: list[str] | None = None) -> str:
    data = text.encode()
    document = NewDocument(source=name, original=data, parsed=parse_bytes(data, name), labels=labels)
    return library.collection(collection).put(document).document_id


def sources(part: Any) -> list[dict[str, Any]]:
    """The annotations of a message or delta; the client takes those of a message for objects of its own."""
    return [each if isinstance(each, dict) else each.to_dict() for each in part.annotations or ()]


def key_of(server: Running, user: str) -> str:
    return server.state.identity.create_key(user)


def ask(client: openai.OpenAI, question: str, *collections: str, **options: Any) -> Any:
    search = {"type": "file_search", "vector_store_ids": list(collections or ("handbook",))}
    body: dict[str, Any] = {
        "model": "scripted",
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "tools": [search],
    }
    return client.chat.completions.create(**body | options)


def test_a_model_writes_and_each_sentence_is_held_against_its_source(
    serve: Serve, script: Script, library: Library, registry: Registry
) -> None:
    said = "Bicycles stand in the cellar [1]. 🙂 The moon is made of cheese [1]. Nobody knows."
    server = serve(script(said))
    answer = ask(server.client(), "where do the bicycles stand?")
    message = answer.choices[0].message
    assert message.content == said
    [cited] = sources(message)
    info = library.collection("handbook").info
    document = next(each for each in library.collection("handbook").documents(None) if "bikes" in each.source)
    assert cited | {"chunk_id": 0} == {
        "type": "file_citation",
        "number": 1,
        "index": said.index("[1]"),
        "file_id": document.document_id,
        "filename": "bikes.md",
        "collection": info.name,
        "collection_id": info.collection_id,
        "document_id": document.document_id,
        "chunk_id": 0,
        "page": 1,
        "heading": ["Bikes"],
        "start": 0,
        "end": 38,
        "quote": "# Bikes\n\nBicycles stand in the cellar.",
    }
    sentences = [said[each["start"] : each["end"]] for each in message.sentences]
    assert " ".join(sentences) == said
    assert [each["supported"] for each in message.sentences] == [True, False, False]
    assert [each["sources"] for each in message.sentences] == [[1], [1], []]
    assert message.search["query"] == "where do the bicycles stand?"
    assert message.search["collections"] == ["handbook"]
    best, *others = message.search["found"]
    assert best["quote"] == "# Bikes Bicycles stand in the cellar."
    assert {name: best[name] for name in ("number", "document_id", "chunk_id", "filename")} == {
        name: cited[name] for name in ("number", "document_id", "chunk_id", "filename")
    }
    assert [each["number"] for each in others] == list(range(2, 2 + len(others)))
    assert {each["filename"] for each in others} <= {"leave.md"}  # what is open to who asks

    receipt = registry.receipt(answer.cairn["receipt"])
    assert receipt.request["messages"] == [{"role": "user", "content": "where do the bicycles stand?"}]
    given = receipt.request["sources"]
    assert given[0]["document_id"] == document.document_id
    assert given[0]["document_digest"] == document.digest
    assert given[0]["chunk_ids"] == [cited["chunk_id"]]
    assert "cellar" not in str(receipt.request["sources"])

    # Its prompt is shown as long as all of it may be read.
    path = f"/api/receipts/{receipt.receipt_id}"
    assert server.http().get(path).json()["prompt_token_ids"] == receipt.prompt_token_ids
    library.collection("handbook").relabel([document.document_id], ["user:ann"])
    closed = server.http().get(path).json()
    assert (closed["prompt_token_ids"], closed["outputs"]) == ([], receipt.outputs)


def test_what_is_deleted_is_in_no_view_of_a_receipt(
    serve: Serve,
    script: Script,
    library: Library,
    registry: Registry,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CAIRN_HOME", str(settings.home))
    server = serve(script("In the cellar [1]."))
    receipt_id = ask(server.client(), "where do the bicycles stand?").cairn["receipt"]
    stored = registry.receipt(receipt_id)
    whole = stored.prompt_token_ids
    assert len(whole) > 10

    def views() -> list[list[int]]:
        told = json.loads(CliRunner().invoke(app, ["receipt", "show", receipt_id, "--json"]).stdout)
        asked = server.http().get(f"/api/receipts/{receipt_id}").json()
        return [told["prompt_token_ids"], asked["prompt_token_ids"]]

    assert views() == [whole, whole]
    bikes = next(each for each in library.collection("handbook").documents(None) if each.source == "bikes.md")
    library.collection("handbook").delete([bikes.document_id])
    assert views() == [[], []]
    plain = CliRunner().invoke(app, ["receipt", "show", receipt_id])
    assert "not shown: a passage in it is gone" in plain.stdout
    again = CliRunner().invoke(app, ["replay", receipt_id])
    assert isinstance(again.exception, NotFoundError)
    # Of another text under the same name nothing is shown either: it is not what was given.
    put(library, "handbook", "bikes.md", TEXTS["bikes.md"][0], ["everyone"])
    assert views() == [[], []]


def test_a_stream_ends_with_what_it_rests_on(serve: Serve, script: Script, library: Library) -> None:
    client = serve(script("Bicycles stand in the cellar [1].")).client()
    whole = ask(client, "where do the bicycles stand?").choices[0].message
    chunks = list(ask(client, "where do the bicycles stand?", stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.content
    [last] = [chunk for chunk in chunks if getattr(chunk.choices[0].delta, "annotations", None)]
    assert sources(last.choices[0].delta) == sources(whole)
    assert last.choices[0].delta.sentences == whole.sentences
    assert chunks.index(last) == len(chunks) - 2
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_who_may_not_see_a_collection_is_told_that_there_is_none(
    serve: Serve, script: Script, library: Library
) -> None:
    server = serve(script("It is so [1]."))
    ann = server.client().with_options(api_key=key_of(server, "ann"))
    bob = server.client().with_options(api_key=key_of(server, "bob"))
    diary = library.collection("diary").info.collection_id
    for ref in ("diary", diary):
        assert ask(ann, "who mends the roof?", ref).choices[0].message.annotations
        with pytest.raises(openai.NotFoundError) as refused:
            ask(bob, "who mends the roof?", ref)
        with pytest.raises(openai.NotFoundError) as unknown:
            ask(bob, "who mends the roof?", "nowhere")
        assert refused.value.message.replace(ref, "nowhere") == unknown.value.message
    with pytest.raises(openai.NotFoundError):
        ask(bob, "who mends the roof?", "handbook", "diary", stream=True)
    question = "what is the salary of a mason?"
    assert "pay.md" in files(ask(ann, question))
    assert not files(ask(bob, question)) & {"pay.md", "monday.md"}
    # What is closed while the server runs is closed from the next question on.
    pay = next(each for each in library.collection("handbook").documents(None) if each.source == "pay.md")
    library.collection("handbook").relabel([pay.document_id], [])
    assert "pay.md" not in files(ask(ann, question))


def files(answer: Any) -> set[str]:
    return {each["filename"] for each in sources(answer.choices[0].message)}


def test_several_collections_are_asked_at_once(serve: Serve, script: Script, library: Library) -> None:
    server = serve(script("Ann mends the roof on Monday [1] [2] [3] [9]."))
    ann = server.client().with_options(api_key=key_of(server, "ann"))
    answer = ask(ann, "who mends the roof on Monday?", "handbook", "diary", "diary")
    cited = sources(answer.choices[0].message)
    assert [each["number"] for each in cited] == [1, 2, 3]
    assert {each["collection"] for each in cited} == {"handbook", "diary"}


class Fixed:
    """A reader that knows one answer."""

    artifact_digest = "sha256:" + "7e" * 32

    def read(self, question: str, passages: Sequence[str], *, limit: int = 1) -> list[Span]:
        words = "thirty days of holiday"
        for place, passage in enumerate(passages):
            if words in passage and "holiday" in question:
                start = passage.index(words)
                return [Span(place, start, start + len(words), words, 0.9)]
        return [Span(0, 0, 1, "#", 0.2)]


def test_a_small_model_leaves_the_answer_to_the_reader(
    serve: Serve, pool: ModelPool, library: Library, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Library, "reader", lambda _: Fixed())
    tiny_artifact(registry, name="scripted")
    server = serve(models=pool)
    answer = ask(server.client(), "How many days of holiday does everybody have?", n=2)
    for choice in answer.choices:
        [cited] = sources(choice.message)
        mark = f" [{cited['number']}]"
        assert choice.message.content == cited["quote"] + mark
        assert cited["index"] == len(cited["quote"]) + 1
        whole = TEXTS["leave.md"][0].encode()
        assert whole[cited["start"] : cited["end"]].decode() == cited["quote"]
        assert [each["supported"] for each in choice.message.sentences] == [True]
    monkeypatch.setattr("cairn.server.models.memory_for_models", lambda _: 10**10)
    held = server.state.library.resident_bytes
    assert 0 < held == 10**10 - pool.memory().budget  # what collections hold is not given to models
    receipt = registry.receipt(answer.cairn["receipt"])
    assert receipt.kind == "reading"
    assert receipt.artifact == Fixed.artifact_digest
    assert receipt.request["answer"]["source"] == cited["number"]

    # The same, as a stream; what only a model can do is refused by name.
    chunks = list(ask(server.client(), "How many days of holiday does everybody have?", stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == answer.choices[0].message.content
    with pytest.raises(openai.BadRequestError, match="knows no response_format"):
        ask(server.client(), "How many?", response_format={"type": "json_object"})

    unclear = ask(server.client(), "Who was the emperor of Brazil?").choices[0].message
    closest, other = sources(unclear)
    assert unclear.content == f"No passage answers this clearly. The closest: “{closest['quote']}” [1] [2]"
    assert (closest["number"], other["number"]) == (1, 2)
    assert unclear.content[closest["index"] :] == "[1] [2]"
    assert unclear.content[other["index"] :] == "[2]"
    whole = TEXTS[closest["filename"]][0].encode()
    assert whole[closest["start"] : closest["end"]].decode() == closest["quote"]
    assert unclear.sentences == []
    monkeypatch.setattr(Library, "reader", lambda _: None)
    alone = ask(server.client(), "How many days of holiday?").choices[0].message
    assert alone.content == "The closest passages: [1] [2]"


def test_nothing_found_is_said_plainly(
    serve: Serve, script: Script, library: Library, registry: Registry
) -> None:
    create_collection(registry, "empty", owner="admin", config=CollectionConfig(embedder="embedder"))
    answer = ask(serve(script("never said")).client(), "anything?", "empty")
    message = answer.choices[0].message
    assert (message.content, message.annotations) == ("Nothing in empty fits this question.", [])
    assert registry.receipt(answer.cairn["receipt"]).request["sources"] == []


def test_what_is_asked_for_wrongly(serve: Serve, script: Script, library: Library) -> None:
    client = serve(script("without passages")).client()
    search = {"type": "file_search", "vector_store_ids": ["handbook"]}
    for tools, said in (
        ([search, search], "twice"),
        ([search | {"vector_store_ids": []}], "vector_store_ids"),
        ([search | {"max_num_results": 0}], "max_num_results"),
        ([{"type": "web_search"}], "web_search"),
    ):
        with pytest.raises(openai.BadRequestError, match=said):
            ask(client, "anything?", tools=tools)
    untouched = ask(client, "bicycles?", tool_choice="none").choices[0].message
    assert untouched.content == "without passages"
    assert not hasattr(untouched, "annotations") or untouched.annotations is None
    for choice in ("required", {"type": "file_search"}):
        assert ask(client, "bicycles?", tool_choice=choice).choices[0].message.annotations == []
