"""Responses that are kept: a conversation over them, what others see of it, and how they go."""

from typing import Any

import openai
import pytest
from sqlalchemy import update

from cairn.registry import Registry
from cairn.server.responses.stored import delete_expired
from cairn.server.responses.tables import ResponseRow
from tests.server.conftest import PATIENCE, REPLY, Running
from tests.server.responses.test_responses import ASK, responses_of


@pytest.fixture
def stranger(server: Running) -> openai.OpenAI:
    """Somebody else's client."""
    key = server.state.identity.create_key("stranger")
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=PATIENCE)


def test_a_conversation_goes_on(server: Running, registry: Registry) -> None:
    client: Any = server.client()
    first = client.responses.create(**ASK, instructions="be brief")
    second = client.responses.create(**(ASK | {"input": "and then?"}), previous_response_id=first.id)
    raw = client.responses.with_raw_response.create(
        **(ASK | {"input": [{"role": "user", "content": "and at last?"}]}), previous_response_id=second.id
    )
    messages = registry.receipt(raw.headers["x-cairn-receipt"]).request["messages"]
    said = [(message["role"], message["content"]) for message in messages]
    assert said == [
        ("user", "where to?"),
        ("assistant", REPLY),
        ("user", "and then?"),
        ("assistant", REPLY),
        ("user", "and at last?"),
    ]  # the instructions of an earlier response are its own
    assert client.responses.retrieve(second.id).previous_response_id == first.id


def test_what_was_asked_is_listed(server: Running) -> None:
    client: Any = server.client()
    texts: Any = [{"role": "user", "content": f"part {number}"} for number in range(5)]
    response = client.responses.create(**(ASK | {"input": texts}))
    pages = client.responses.input_items.list(response.id, limit=2, order="asc")
    assert [item.content[0].text for item in pages] == [f"part {number}" for number in range(5)]
    newest = client.responses.input_items.list(response.id, limit=1).data[0]
    assert newest.content[0].text == "part 4"
    with pytest.raises(openai.BadRequestError, match="not in this list"):
        client.responses.input_items.list(response.id, after="msg_none")


def test_it_is_its_makers_alone(server: Running, stranger: openai.OpenAI) -> None:
    response = responses_of(server).create(**ASK)
    for ask in (
        lambda: stranger.responses.retrieve(response.id),
        lambda: stranger.responses.delete(response.id),
        lambda: stranger.responses.cancel(response.id),
        lambda: stranger.responses.input_items.list(response.id),
        lambda: stranger.responses.create(**ASK, previous_response_id=response.id),
    ):
        with pytest.raises(openai.NotFoundError):
            ask()
    assert responses_of(server).retrieve(response.id).output_text == REPLY


def test_what_is_not_to_be_kept_is_not(server: Running) -> None:
    client: Any = server.client()
    response = client.responses.create(**ASK, store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_deleted_is_deleted(server: Running) -> None:
    client: Any = server.client()
    response = client.responses.create(**ASK)
    with pytest.raises(openai.BadRequestError, match="has ended as completed"):
        client.responses.cancel(response.id)
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(**ASK, previous_response_id=response.id)


def test_what_is_old_goes_by_itself(server: Running, registry: Registry) -> None:
    client: Any = server.client()
    old, new = (client.responses.create(**ASK).id for _ in range(2))
    with registry.database.writing() as session:
        session.execute(update(ResponseRow).where(ResponseRow.response_id == old).values(created_at=0.0))
    assert delete_expired(registry.database, 30) == 1
    assert delete_expired(registry.database, 30) == 0
    assert client.responses.retrieve(new).id == new
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(old)
