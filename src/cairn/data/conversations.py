"""Instruction sets as conversations: one small reader per set, each with the part that is held out.

Rows that cannot be read as the set promises are left out. A set with a split of its own keeps it; of the
others the last tenth is held out, by place, so that the split never depends on chance.
"""

import ast
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cairn.core.chat import Message, TextPart, ToolCall, ToolDefinition, text_message
from cairn.core.errors import ConfigError
from cairn.data.datasets import LocalDataset
from cairn.data.rows import HELD_OUT_SHARE, Split, read_rows, split_rows
from cairn.data.story_requests import story_requests
from cairn.data.texts import story_documents


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns to learn from, with the tools they may call."""

    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...] = ()
    source: str = ""


def load_conversations(local: LocalDataset, split: Split = "train") -> list[Conversation]:
    """The conversations of a set; `held_out` are those never trained on."""
    reader = _READERS.get(local.spec.name)
    if reader is None:
        raise ConfigError(
            f"data set {local.spec.name!r} holds no conversations, those that do: "
            + ", ".join(sorted(_READERS)),
            remedy="name one of these",
        )
    return reader(local.folder, split)


def exchange(user: str, assistant: str, source: str) -> Conversation:
    """One question and its answer."""
    return Conversation((text_message("user", user), text_message("assistant", assistant)), source=source)


def read_instructions(
    paths: Iterable[Path], split: Split = "train", *, share: float = HELD_OUT_SHARE, source: str = ""
) -> list[Conversation]:
    """Exchanges of files of `{instruction, input?, output}` rows; those with an empty side are left out."""
    rows = [(path.name, place, row) for path in paths for place, row in enumerate(read_rows(path), start=1)]
    pairs = [_instruction(*row) for row in split_rows(rows, split, share)]
    return [exchange(user, reply, source) for user, reply in pairs if user and reply]


def _instruction(name: str, place: int, row: Any) -> tuple[str, str]:
    try:
        user = "\n\n".join(filter(None, (row["instruction"], row.get("input", ""))))
        return user.strip(), row["output"].strip()
    except (KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"{name}: row {place} is no instruction, allowed: {{instruction, input?, output}}",
            remedy="mend that row",
        ) from None


def _instructions(path: str, source: str) -> Callable[[Path, Split], list[Conversation]]:
    """A set that is one file of instructions."""
    return lambda folder, split: read_instructions([folder / path], split, source=source)


_CALCULATION = re.compile(r"<<[^>]*>>")


def _gsm8k(folder: Path, split: Split) -> list[Conversation]:
    """Its test split is held out; calculator marks are taken out of the solutions."""
    rows = read_rows(folder / ("train.jsonl" if split == "train" else "test.jsonl"))
    solutions = [_CALCULATION.sub("", row["answer"]).partition("####") for row in rows]
    return [
        exchange(row["question"].strip(), f"{steps.strip()}\nThe answer is {result.strip()}.", "gsm8k")
        for row, (steps, _, result) in zip(rows, solutions, strict=True)
    ]


def _fairytaleqa(folder: Path, split: Split) -> list[Conversation]:
    """A section of a story with a question about it; its own validation and test splits are held out."""
    root = folder / "data-by-train-split"
    parts = ("train",) if split == "train" else ("val", "test")
    return [conversation for part in parts for conversation in _story_questions(root, part)]


def _story_questions(root: Path, part: str) -> Iterator[Conversation]:
    for path in sorted((root / "questions" / part).glob("*.csv")):
        story = root / "section-stories" / part / path.name.replace("-questions", "-story")
        sections = {row["section"]: " ".join(row["text"].split()) for row in read_rows(story)}
        for row in read_rows(path):
            text = sections.get(row["cor_section"].strip(), "")
            question, answer = row["question"].strip(), row["answer1"].strip()
            if text and question and answer:
                answer = answer[0].upper() + answer[1:] + ("" if answer[-1] in ".!?\"'" else ".")
                yield exchange(f"{text}\n\n{question}", answer, "fairytaleqa")


_OPENFUNCTION = re.compile(
    r"Question: (?P<question>.*?)\n+Function to be used: (?P<name>[\w.]+)\n"
    r"(?:Description: (?P<description>.*?)\n)?\s*Parameters:\s*\n(?P<parameters>.*?)"
    r"(?:Required: \[(?P<required>[^\]]*)\]\s*)?(?:Format your response.*)?\Z",
    re.DOTALL,
)
_PARAMETER = re.compile(r"^\d+\. ([A-Za-z_]\w*)(?: \(type: (\w+)\))? - (.*)$", re.MULTILINE)
_JSON_TYPES = {"string", "number", "integer", "boolean", "array", "object"}


def _openfunctions(folder: Path, split: Split) -> list[Conversation]:
    """A question, one tool, and the call that answers it; dots in names become underscores."""
    part = "train" if split == "train" else "test"
    rows = read_rows(folder / "openfunction" / f"openfunction_{part}.json")
    return [conversation for row in rows if (conversation := _function_call(row)) is not None]


def _function_call(row: Mapping[str, str]) -> Conversation | None:
    match = _OPENFUNCTION.search(row["instruction"])
    arguments = _call_arguments(row["output"])
    if match is None or arguments is None:
        return None
    properties = {
        name: ({"type": kind} if kind in _JSON_TYPES else {}) | {"description": description.strip()}
        for name, kind, description in _PARAMETER.findall(match["parameters"])
    }
    required = [name.strip() for name in (match["required"] or "").split(",")]
    schema = {
        "type": "object",
        "properties": properties,
        "required": [name for name in required if name in properties],
    }
    name = match["name"].replace(".", "_")
    tool = ToolDefinition(name, " ".join((match["description"] or "").split()), schema)
    call = ToolCall("call_0", name, json.dumps(arguments, ensure_ascii=False))
    messages = (text_message("user", match["question"].strip()), Message("assistant", tool_calls=(call,)))
    return Conversation(messages, (tool,), "openfunctions")


def _call_arguments(call: str) -> dict[str, Any] | None:
    """Keyword arguments of a call in Python's syntax, if they are plain values."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about stray backslashes in strings
            node = ast.parse(call.strip(), mode="eval").body
        if not isinstance(node, ast.Call) or node.args:
            return None
        values = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords if keyword.arg}
        json.dumps(values)
    except (SyntaxError, ValueError, TypeError):
        return None
    return {str(name): value for name, value in values.items()}


def _sgd(folder: Path, split: Split) -> list[Conversation]:
    """Dialogues with service calls; its own dev and test splits (with unseen services) are held out."""
    parts = ("train",) if split == "train" else ("dev", "test")
    return [conversation for part in parts for conversation in _dialogues(folder / part)]


def _dialogues(folder: Path) -> Iterator[Conversation]:
    tools = {
        service["service_name"]: tuple(_service_tools(service))
        for service in read_rows(folder / "schema.json")
    }
    for path in sorted(folder.glob("dialogues_*.json")):
        for dialogue in read_rows(path):
            offered = tuple(tool for name in dialogue["services"] for tool in tools[name])
            turns = tuple(message for turn in dialogue["turns"] for message in _dialogue_turn(turn))
            yield Conversation(turns, offered, "sgd-dialogues")


def _service_tools(service: Mapping[str, Any]) -> Iterator[ToolDefinition]:
    slots = {slot["name"]: slot for slot in service["slots"]}
    for intent in service["intents"]:
        names = [*intent["required_slots"], *intent["optional_slots"]]
        properties = {
            name: {"type": "string", "description": slots[name]["description"]}
            | ({"enum": slots[name]["possible_values"]} if slots[name]["is_categorical"] else {})
            for name in names
        }
        schema = {"type": "object", "properties": properties, "required": list(intent["required_slots"])}
        yield ToolDefinition(f"{service['service_name']}_{intent['name']}", intent["description"], schema)


def _dialogue_turn(turn: Mapping[str, Any]) -> Iterator[Message]:
    """A turn; before what the system says comes the service call it rests on, with the results."""
    if turn["speaker"] == "USER":
        yield text_message("user", turn["utterance"])
        return
    for frame in turn["frames"]:
        if call := frame.get("service_call"):
            arguments = json.dumps(call["parameters"], ensure_ascii=False)
            yield Message(
                "assistant",
                tool_calls=(ToolCall("call_0", f"{frame['service']}_{call['method']}", arguments),),
            )
            results = json.dumps(frame["service_results"], ensure_ascii=False)
            yield Message("tool", (TextPart(results),), tool_call_id="call_0")
    yield text_message("assistant", turn["utterance"])


def _stories(folder: Path, split: Split) -> list[Conversation]:
    """Stories with a request that fits them; those without a telling word are left out."""
    train, asked = (
        [document.text for document in story_documents(folder, part)] for part in ("train", split)
    )
    return [exchange(request, story, "tinystories-2mb") for request, story in story_requests(asked, train)]


_READERS: dict[str, Callable[[Path, Split], list[Conversation]]] = {
    "rasbt-instructions": _instructions("instruction-data.json", "rasbt-instructions"),
    "dolly-2k": _instructions("dolly/dolly_train.json", "dolly-2k"),
    "openfunctions": _openfunctions,
    "gsm8k": _gsm8k,
    "fairytaleqa": _fairytaleqa,
    "sgd-dialogues": _sgd,
    "tinystories-2mb": _stories,
    "tutorial": _instructions("questions.jsonl", "tutorial"),
}
