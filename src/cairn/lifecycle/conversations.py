"""Instructions of a recipe's sources, their rows on disk, and stories turned into requests for them.

Named sets are read by `cairn.data`; a set of stories becomes "Tell me a story about ..." by each
story's most telling words (tf-idf over the set), so that no model or chance is involved.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cairn.core import ConfigError
from cairn.core.chat import Message, TextPart, ToolCall, ToolDefinition, text_message
from cairn.data import Conversation, LocalDataset, find_dataset, load_conversations, load_documents
from cairn.data.chat_template import message_dict, tool_dict
from cairn.lifecycle.recipe import InstructionSource

STORIES = "tinystories-2mb"
_WORD = re.compile(r"[a-z]{3,}")
_COMMON = 0.08
"""Words in more than this share of the stories (little, day, big) say nothing about one of them."""
_NOUN = re.compile(
    r"\b[Aa]n?(?: [a-z]+){0,2}? ([a-z]{3,})"
    r"(?=[.,!?]| (?:and|was|in|on|with|that|to|who|named|called|but|for|at|from)\b)"
)


@dataclass(frozen=True, slots=True)
class ConversationSplit:
    """Conversations to train on, and those that are never trained on."""

    train: list[Conversation]
    held_out: list[Conversation]


def read_conversations(source: InstructionSource, folder: Path) -> ConversationSplit:
    """The conversations of a source whose raw files lie in `folder`, those too long left out."""
    if source.dataset:
        local = LocalDataset(find_dataset(source.dataset), folder)
        read = story_requests if source.dataset == STORIES else load_conversations
        split = ConversationSplit(read(local, "train"), read(local, "held_out"))
    else:
        split = _files(source, folder)
    train = [each for each in split.train if characters(each) <= source.max_characters]
    held_out = [each for each in split.held_out if characters(each) <= source.max_characters]
    return ConversationSplit(_sample(train, source.limit), held_out)


def story_requests(local: LocalDataset, split: Any = "train") -> list[Conversation]:
    """Stories with a request that fits them; those without a telling word are left out."""
    # The words' weights come from the training stories, whichever part is asked for.
    counts = _document_counts([document.text for document in load_documents(local, "train")])
    asked = []
    for document in load_documents(local, split):
        if subject := _subject(document.text, counts):
            request = text_message("user", f"Tell me a story about {subject}.")
            asked.append(
                Conversation((request, text_message("assistant", document.text)), source=local.spec.name)
            )
    return asked


def characters(conversation: Conversation) -> int:
    """Length of all turns and tools."""
    turns = sum(
        len(message.text) + sum(len(call.arguments) for call in message.tool_calls)
        for message in conversation.messages
    )
    return turns + sum(len(json.dumps(tool_dict(tool))) for tool in conversation.tools)


def prompt_of(conversation: Conversation) -> str:
    """The text of its first user turn."""
    return next(message.text for message in conversation.messages if message.role == "user")


def reply_of(conversation: Conversation) -> str:
    """The last turn as a person would read it; a tool call as its JSON."""
    last = conversation.messages[-1]
    return last.text or "; ".join(f"{call.name}({call.arguments})" for call in last.tool_calls)


def to_row(conversation: Conversation) -> dict[str, Any]:
    """A conversation as JSON, in the OpenAI shape."""
    return {
        "messages": [message_dict(message) for message in conversation.messages],
        "tools": [tool_dict(tool) for tool in conversation.tools],
        "source": conversation.source,
    }


def from_row(row: dict[str, Any]) -> Conversation:
    """What `to_row` wrote."""
    tools = tuple(ToolDefinition(**tool["function"]) for tool in row["tools"])
    return Conversation(tuple(map(_message, row["messages"])), tools, row["source"])


def _message(row: dict[str, Any]) -> Message:
    calls = tuple(
        ToolCall(call["id"], call["function"]["name"], json.dumps(call["function"]["arguments"]))
        for call in row.get("tool_calls", ())
    )
    content = (TextPart(row["content"]),) if row["content"] else ()
    return Message(row["role"], content, calls, row.get("tool_call_id"), row.get("name"))


def _files(source: InstructionSource, folder: Path) -> ConversationSplit:
    """JSON lists or JSON Lines files of {instruction, input?, output}."""
    found = [
        _instruction(row, place, source)
        for path in sorted(folder.iterdir())
        for place, row in enumerate(_json_rows(path))
    ]
    kept = len(found) - math.ceil(len(found) * source.held_out_share)
    return ConversationSplit(found[:kept], found[kept:])


def _instruction(row: Any, place: int, source: InstructionSource) -> Conversation:
    try:
        user = "\n\n".join(part for part in (row["instruction"], row.get("input", "")) if part)
        turns = (text_message("user", user.strip()), text_message("assistant", row["output"].strip()))
    except (KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"{source.name}: row {place + 1} is no instruction, allowed: {{instruction, input?, output}}",
            remedy="mend that row",
        ) from None
    return Conversation(turns, source=Path(source.path).name)


def _json_rows(path: Path) -> list[Any]:
    if path.name == "manifest.json":
        return []
    text = path.read_text(encoding="utf-8")
    try:
        value = (
            json.loads(text) if text.lstrip()[:1] == "[" else [json.loads(line) for line in text.splitlines()]
        )
    except ValueError as error:
        raise ConfigError(f"{path.name} is not valid JSON: {error}", remedy="mend that line") from None
    assert isinstance(value, list)
    return value


def _sample(conversations: list[Conversation], limit: int) -> list[Conversation]:
    """At most `limit`, evenly over the set."""
    if not limit or len(conversations) <= limit:
        return conversations
    return [conversations[place * len(conversations) // limit] for place in range(limit)]


@dataclass(frozen=True, slots=True)
class _Counts:
    stories: int
    of_word: Counter[str]


def _document_counts(stories: Sequence[str]) -> _Counts:
    return _Counts(
        len(stories), Counter(word for story in stories for word in set(_WORD.findall(story.lower())))
    )


def _subject(story: str, counts: _Counts) -> str:
    """`a kayak and a lake`: the two most telling nouns of a story that occur in it more than once."""
    words = Counter(_WORD.findall(story.lower()))
    weights = {
        noun: words[noun] * math.log(counts.stories / max(counts.of_word[noun], 1))
        for noun in set(_NOUN.findall(story))
        if words[noun] > 1 and counts.of_word[noun] < _COMMON * counts.stories
    }
    best = sorted(weights, key=lambda noun: (-weights[noun], noun))[:2]
    return " and ".join(f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}" for noun in best)
