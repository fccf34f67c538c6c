"""Conversations on disk: one JSON line each, messages and tools in the OpenAI shape."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cairn.core.chat import Message, TextPart, ToolCall, ToolDefinition
from cairn.data.chat_template import message_dict, tool_dict
from cairn.data.conversations import Conversation
from cairn.data.rows import write_rows


def write_conversations(conversations: Iterable[Conversation], path: Path) -> int:
    """One line a conversation; returns how many."""
    return write_rows(map(conversation_row, conversations), path)


def read_conversations(path: Path) -> Iterator[Conversation]:
    """What `write_conversations` wrote, in order."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield conversation_of(json.loads(line))


def conversation_row(conversation: Conversation) -> dict[str, Any]:
    """A conversation as JSON."""
    return {
        "messages": [message_dict(message) for message in conversation.messages],
        "tools": [tool_dict(tool) for tool in conversation.tools],
        "source": conversation.source,
    }


def conversation_of(row: Mapping[str, Any]) -> Conversation:
    """The inverse of `conversation_row`."""
    tools = tuple(ToolDefinition(**tool["function"]) for tool in row["tools"])
    return Conversation(tuple(map(_message, row["messages"])), tools, row["source"])


def _message(row: Mapping[str, Any]) -> Message:
    calls = tuple(
        ToolCall(call["id"], call["function"]["name"], json.dumps(call["function"]["arguments"]))
        for call in row.get("tool_calls", ())
    )
    content = (TextPart(row["content"]),) if row["content"] else ()
    return Message(row["role"], content, calls, row.get("tool_call_id"), row.get("name"))
