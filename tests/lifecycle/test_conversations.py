"""Instructions of all kinds: there and back, and requests made from stories."""

import json
from pathlib import Path

import pytest

from cairn.core import ConfigError
from cairn.core.chat import Message, ToolCall, ToolDefinition, text_message
from cairn.data import Conversation
from cairn.lifecycle.conversations import (
    _document_counts,
    _subject,
    from_row,
    read_conversations,
    reply_of,
    to_row,
)
from cairn.lifecycle.recipe import InstructionSource
from cairn.lifecycle.texts import passages, plain_text


def test_a_conversation_survives_its_row() -> None:
    tool = ToolDefinition("add", "Adds.", {"type": "object", "properties": {"a": {"type": "number"}}})
    call = Message("assistant", tool_calls=(ToolCall("call_0", "add", json.dumps({"a": 1})),))
    conversation = Conversation((text_message("user", "1?"), call), (tool,), "tests")
    assert from_row(json.loads(json.dumps(to_row(conversation)))) == conversation
    assert reply_of(conversation) == 'add({"a": 1})'


def test_a_file_is_split_by_place(tmp_path: Path) -> None:
    rows = [{"instruction": f"q{i}", "input": "x" if i else "", "output": f"a{i}"} for i in range(10)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    split = read_conversations(InstructionSource(path="q.jsonl", held_out_share=0.2), tmp_path)
    assert [each.messages[0].text for each in split.held_out] == ["q8\n\nx", "q9\n\nx"]
    assert split.train[0].messages[0].text == "q0"
    short = read_conversations(InstructionSource(path="q.jsonl", limit=3), tmp_path)
    assert [each.messages[1].text for each in short.train] == ["a0", "a3", "a6"]


@pytest.mark.parametrize(
    ("text", "problem"), [("{", "not valid JSON"), ('{"question": 1}', "row 1 is no instruction")]
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "q.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        read_conversations(InstructionSource(path="q.jsonl"), tmp_path)


def test_a_story_is_asked_for_by_its_telling_nouns() -> None:
    others = ["One day a boy saw the sun. The boy was glad." for _ in range(40)]
    story = "There was a fox and an old crow. The fox liked the crow. One day a boy came. The boy ran."
    counts = _document_counts([*others, story])
    assert _subject(story, counts) == "a crow and a fox"
    assert _subject(others[0], counts) == ""


def test_passages_join_to_the_text_again() -> None:
    text = "\n\n".join(f"Paragraph {number}. " + "word " * number for number in range(60)).strip()
    pieces = passages(text, 300)
    assert len(pieces) > 5
    assert "\n\n".join(pieces) == text
    assert passages("", 300) == [""]


def test_a_book_becomes_plain_paragraphs() -> None:
    front = "# Title: A Book\n\n## Author: Somebody\n\n## Year: 1900\n\n-------\n\n"
    book = front + "##  Chapter 1 \n\nIt was. \n\n\nSo."
    assert plain_text(book) == "Chapter 1\n\nIt was.\n\nSo."
