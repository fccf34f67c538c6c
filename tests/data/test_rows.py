"""Rows of small files of every kind, the part that is held out, and conversations on disk."""

import gzip
import json
from pathlib import Path

import pytest

from cairn.core import ConfigError
from cairn.core.chat import Message, ToolCall, ToolDefinition, text_message
from cairn.data import Conversation, read_conversations, read_instructions, split_rows, write_conversations
from cairn.data.rows import read_rows, write_rows

ROWS = [{"a": "one\u2028line", "b": "2"}, {"a": "é", "b": ""}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.json", json.dumps(ROWS)),
        ("r.json", json.dumps({"canary": "x", "examples": ROWS})),
        ("r.jsonl", "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)),
        ("r.jsonl", json.dumps(ROWS)),
        ("r.csv", "\ufeffa,b\r\n" + "\r\n".join(f"{row['a']},{row['b']}" for row in ROWS)),
    ],
)
def test_kinds_of_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert read_rows(tmp_path / name) == ROWS
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert read_rows(packed) == ROWS


def test_written_rows_are_read_again(tmp_path: Path) -> None:
    assert write_rows(ROWS, tmp_path / "r.jsonl") == 2
    assert read_rows(tmp_path / "r.jsonl") == ROWS


@pytest.mark.parametrize(("name", "data"), [("r.jsonl", b"{"), ("r.json", b'{}\n{"a"}'), ("r.csv", b"\xff")])
def test_a_broken_file_is_named(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=f"{name} is not valid"):
        read_rows(tmp_path / name)


def test_the_last_share_is_held_out() -> None:
    rows = list(range(21))
    assert [*split_rows(rows, "train"), *split_rows(rows, "held_out")] == rows
    assert split_rows(rows, "held_out") == [18, 19, 20]
    assert split_rows(rows, "held_out", 0) == []


def test_instructions_of_files(tmp_path: Path) -> None:
    rows = [{"instruction": f"q{i}", "input": "x" if i else "", "output": f" a{i} "} for i in range(9)]
    path = tmp_path / "q.jsonl"
    write_rows([*rows, {"instruction": "no answer", "output": " "}], path)
    learned = read_instructions([path], share=0.2, source="tests")
    held_out = read_instructions([path], "held_out", share=0.2)
    assert [each.messages[0].text for each in held_out] == ["q8\n\nx"]
    assert [message.text for message in learned[0].messages] == ["q0", "a0"]
    assert (len(learned), learned[0].source) == (8, "tests")


def test_a_row_that_is_no_instruction_is_named(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    write_rows([{"instruction": "q", "output": "a"}, {"question": 1}], path)
    with pytest.raises(ConfigError, match=r"q\.jsonl: row 2 is no instruction"):
        read_instructions([path], share=0)


def test_a_conversation_survives_its_row(tmp_path: Path) -> None:
    tool = ToolDefinition("add", "Adds.", {"type": "object", "properties": {"a": {"type": "number"}}})
    call = Message("assistant", tool_calls=(ToolCall("call_0", "add", json.dumps({"a": 1})),))
    conversation = Conversation((text_message("user", "1?"), call), (tool,), "tests")
    assert write_conversations([conversation, conversation], tmp_path / "c.jsonl") == 2
    assert list(read_conversations(tmp_path / "c.jsonl")) == [conversation, conversation]
