"""Instructions of a recipe's sources: which are learned, which are held out, and what is too long."""

import json
from dataclasses import dataclass
from pathlib import Path

from cairn.data import (
    Conversation,
    LocalDataset,
    find_dataset,
    load_conversations,
    read_instructions,
)
from cairn.data.chat_template import tool_dict
from cairn.data.rows import Split
from cairn.lifecycle.recipe import InstructionSource
from cairn.registry.manifest import MANIFEST_NAME


@dataclass(frozen=True, slots=True)
class ConversationSplit:
    """Conversations to train on, and those that are never trained on."""

    train: list[Conversation]
    held_out: list[Conversation]


def read_source(source: InstructionSource, raw: Path | list[Path]) -> ConversationSplit:
    """The conversations of a source, those too long left out; `raw` is its folder or its files."""
    train, held_out = (
        [each for each in _read(source, raw, split) if characters(each) <= source.max_characters]
        for split in ("train", "held_out")
    )
    return ConversationSplit(_sample(train, source.limit), held_out)


def _read(source: InstructionSource, raw: Path | list[Path], split: Split) -> list[Conversation]:
    if isinstance(raw, Path) and source.dataset:
        return load_conversations(LocalDataset(find_dataset(source.dataset), raw), split)
    files = raw if isinstance(raw, list) else sorted(raw.iterdir())
    files = [path for path in files if path.name != MANIFEST_NAME]
    return read_instructions(files, split, share=source.held_out_share, source=Path(source.path).name)


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


def _sample(conversations: list[Conversation], limit: int) -> list[Conversation]:
    """At most `limit`, evenly over the set."""
    if not limit or len(conversations) <= limit:
        return conversations
    return [conversations[place * len(conversations) // limit] for place in range(limit)]
