"""A recipe's sources: instructions of files, texts of files, passages."""

import json
from pathlib import Path

import pytest

from cairn.core import ConfigError
from cairn.core.chat import Message, ToolCall, text_message
from cairn.data import Conversation
from cairn.lifecycle import texts
from cairn.lifecycle.conversations import read_source, reply_of
from cairn.lifecycle.filters import passages
from cairn.lifecycle.recipe import InstructionSource, TextSource


def test_the_last_turn_as_a_person_would_read_it() -> None:
    call = Message("assistant", tool_calls=(ToolCall("call_0", "add", json.dumps({"a": 1})),))
    assert reply_of(Conversation((text_message("user", "1?"), call))) == 'add({"a": 1})'


def test_a_file_is_split_by_place_and_sampled_evenly(tmp_path: Path) -> None:
    rows = [{"instruction": f"q{i}", "input": "x" if i else "", "output": f"a{i}"} for i in range(10)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "manifest.json").write_text("{}")
    split = read_source(InstructionSource(path="q.jsonl", held_out_share=0.2), tmp_path)
    assert [each.messages[0].text for each in split.held_out] == ["q8\n\nx", "q9\n\nx"]
    assert split.train[0].messages[0].text == "q0"
    short = read_source(InstructionSource(path="q.jsonl", limit=3), tmp_path)
    assert [each.messages[1].text for each in short.train] == ["a0", "a3", "a6"]


@pytest.mark.parametrize(
    ("text", "problem"), [("{", "not valid JSON"), ('{"question": 1}', "row 1 is no instruction")]
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "q.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        read_source(InstructionSource(path="q.jsonl"), tmp_path)


def test_texts_of_files_are_plain_and_named_without_their_folder(tmp_path: Path) -> None:
    for place in range(4):
        (tmp_path / f"{place}.md").write_text(f"# Chapter\n\nText {place}.")
    split = texts.read_source(TextSource(path="*.md", held_out_every=2, limit=1), tmp_path)
    assert [(each.text, each.source.path) for each in split.train] == [("Chapter\n\nText 0.", "0.md")]
    assert [each.source.path for each in split.held_out] == ["1.md", "3.md"]


def test_passages_join_to_the_text_again() -> None:
    text = "\n\n".join(f"Paragraph {number}. " + "word " * number for number in range(60)).strip()
    pieces = passages(text, 300)
    assert len(pieces) > 5
    assert "\n\n".join(pieces) == text
    assert passages("", 300) == [""]
