"""What is searched for, and which model may write."""

import pytest

from cairn.core.chat import Message, text_message
from cairn.core.errors import InvalidRequestError
from cairn.providers.answering import can_write, question_of
from cairn.providers.grounding import grounded_messages
from cairn.registry import Registry
from cairn.retrieval.context import Context
from tests.providers.tiny_model import tiny_artifact


def turns(*texts: str) -> list[Message]:
    return [text_message("assistant" if place % 2 else "user", text) for place, text in enumerate(texts)]


def test_a_question_that_points_back_is_searched_with_the_one_before() -> None:
    first, second = "Where do bicycles stand?", "Who may use them?"
    assert question_of(turns(first)) == (first, first)
    assert question_of(turns(first, "In the cellar.", second)) == (second, f"{first}\n{second}")
    alone = "Who has the key of the cellar?"
    assert question_of(turns(first, "In the cellar.", alone)) == (alone, alone)
    assert question_of(turns("Who may use them?")) == (second, second)
    with pytest.raises(InvalidRequestError, match="no message asks anything"):
        question_of([text_message("system", "be brief")])


def test_sources_come_with_the_last_question_and_instructions_with_the_first_words() -> None:
    conversation = [text_message("system", "Be brief."), *turns("Hello", "Good day.", "Where?")]
    system, hello, reply, asked = grounded_messages(conversation, Context("[1] a.md\nHere.", (), 0))
    assert system.text.startswith("Be brief.\n\nAnswer the question from the numbered sources alone.")
    assert (hello.text, reply.text) == ("Hello", "Good day.")
    assert asked.text == "Sources:\n\n[1] a.md\nHere.\n\nQuestion: Where?"
    assert "(none)" in grounded_messages(turns("Where?"), Context("", (), 0))[-1].text


def test_a_very_small_model_does_not_write(registry: Registry) -> None:
    assert not can_write(registry, tiny_artifact(registry).digest)
    assert can_write(registry, "sha256:" + "5c" * 32)
