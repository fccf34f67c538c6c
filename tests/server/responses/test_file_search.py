"""`file_search` in responses: the search as an item, citations as annotations, and what is kept of them."""

from typing import Any

import pytest

from cairn.providers.knowledge import Library
from tests.engine.native_tiny import needs_native
from tests.server.conftest import Script, Serve
from tests.server.responses.test_responses import ASK, responses_of
from tests.server.test_file_search import embedder, library

pytestmark = needs_native
__all__ = ["embedder", "library"]  # fixtures

SAID = "Bicycles stand in the cellar [1]. Nobody knows."
SEARCH = {"type": "file_search", "vector_store_ids": ["handbook"]}
ASK_BIKES = ASK | {"input": "where do the bicycles stand?", "tools": [SEARCH]}


@pytest.fixture
def responses(serve: Serve, script: Script, library: Library) -> Any:
    return responses_of(serve(script(SAID)))


def test_what_a_response_rests_on(responses: Any) -> None:
    response = responses.create(**ASK_BIKES)
    search, message = response.output
    assert (search.type, search.status) == ("file_search_call", "completed")
    assert search.queries == ["where do the bicycles stand?"]
    [part] = message.content
    assert part.text == SAID
    [cited] = part.annotations
    assert (cited.type, cited.filename, cited.index) == ("file_citation", "bikes.md", SAID.index("[1]"))
    assert "cellar" in cited.quote
    assert [each["supported"] for each in part.sentences] == [True, False]
    kept = responses.retrieve(response.id).output[1].content[0].annotations[0]
    assert (kept.filename, kept.quote) == ("bikes.md", "")  # a document may be closed one day


def test_a_search_in_a_stream(responses: Any) -> None:
    events = list(responses.create(**ASK_BIKES, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:8] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        "response.output_item.done",
        "response.output_item.added",
    ]
    at = kinds.index("response.output_text.annotation.added")
    assert kinds[at + 1] == "response.output_text.done"
    assert events[at].annotation.filename == "bikes.md"
    assert [item.type for item in events[-1].response.output] == ["file_search_call", "message"]


def test_a_search_is_gone_on_from(responses: Any) -> None:
    first = responses.create(**ASK_BIKES)
    again = responses.create(**(ASK_BIKES | {"input": "and what else?"}), previous_response_id=first.id)
    assert again.output[1].content[0].text == SAID
    without = responses.create(**ASK_BIKES, tool_choice="none")
    assert [item.type for item in without.output] == ["message"]
