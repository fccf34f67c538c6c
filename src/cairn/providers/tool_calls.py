"""Tool calls out of generated text, in the format the model's chat template teaches.

A table of formats; the one whose mark the template contains is used. Text that may be the beginning of a
call waits until it is known. A call that is not what the format says, or names no known tool, stays
text: a model's mistake is shown, not hidden. Arguments are handed on exactly as generated. A call that the
request demands is written under a grammar (`tool_grammar`) and is always whole.
"""

import json
import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from cairn.core.chat import ToolCall
from cairn.providers.stops import suffix_that_begins

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"\s*")
_STRING = r'"(?:[^"\\]|\\[\s\S])*(?:"|\Z|\\\Z)'
"""A JSON string, or the beginning of one."""

Parsed = tuple[str, str]  # name, arguments as JSON text


@dataclass(frozen=True, slots=True)
class CallText:
    """The text around names and arguments of calls. A line break in it may be left out."""

    first: str
    """Before the first call's name."""
    middle: str
    """Between a name and its arguments."""
    next: str
    """Between a call's arguments and the next call's name."""
    last: str
    """After the last call's arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFormat:
    """How a family of models writes a call."""

    name: str
    signature: str
    """What a chat template of this family contains."""
    start: tuple[str, ...]
    """Any of these begins a call."""
    end: str
    """Ends a call; empty: the call goes to the end of the reply."""
    at_beginning_only: bool
    """A call is the whole reply, or there is none."""
    parse: Callable[[str], list[Parsed] | None]
    """Calls in the text from the start mark (included) to the end mark (excluded); None when malformed."""
    written: CallText
    """How a demanded call is spelled."""

    @property
    def marks(self) -> frozenset[str]:
        """Texts that must be visible to the parser even when they are control tokens."""
        return frozenset(mark for mark in (*self.start, self.end, "[ARGS]") if mark)


def object_with_spans(text: str, start: int = 0) -> tuple[dict[str, str], int] | None:
    """The keys of the JSON object at `start` with the raw text of their values, and where it ends."""
    try:
        _, end = _DECODER.raw_decode(text, start)
        at = _skip(text, start)
        if text[at] != "{":
            return None
        raw: dict[str, str] = {}
        at = _skip(text, at + 1)
        while text[at] != "}":
            key, at = _DECODER.raw_decode(text, at)
            value_start = _skip(text, _skip(text, at) + 1)
            _, at = _DECODER.raw_decode(text, value_start)
            raw[key] = text[value_start:at]
            at = _skip(text, at)
            at = _skip(text, at + 1) if text[at] == "," else at
    except (ValueError, IndexError, RecursionError):
        return None
    return raw, end


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _call(raw: Mapping[str, str], arguments_key: str) -> Parsed | None:
    """Name and arguments of a call object; arguments are an object or, as OpenAI has it, a string of one."""
    arguments = raw.get(arguments_key, "{}")
    name = json.loads(raw.get("name", "null"))
    if arguments.startswith('"'):
        arguments = json.loads(arguments)
    if not isinstance(name, str) or object_with_spans(arguments) is None:
        return None
    return name, arguments


def _objects(text: str, arguments_keys: Sequence[str], separators: str) -> list[Parsed] | None:
    """One or more call objects, and nothing else but separators."""
    calls = []
    at = _skip(text, 0)
    while at < len(text):
        found = object_with_spans(text, at)
        if found is None:
            return None
        raw, at = found
        key = next((key for key in arguments_keys if key in raw), arguments_keys[0])
        call = _call(raw, key)
        if call is None:
            return None
        calls.append(call)
        while at < len(text) and (text[at].isspace() or text[at] in separators):
            at += 1
    return calls or None


def _parse_hermes(text: str) -> list[Parsed] | None:
    return _objects(text.removeprefix("<tool_call>"), ("arguments", "parameters"), "")


def _parse_llama(text: str) -> list[Parsed] | None:
    return _objects(text.removeprefix("<|python_tag|>"), ("parameters", "arguments"), ";")


def _parse_mistral(text: str) -> list[Parsed] | None:
    """`[TOOL_CALLS][{...}, ...]`, and the later `[TOOL_CALLS]name[ARGS]{...}` or `[TOOL_CALLS]name{...}`."""
    body = text.removeprefix("[TOOL_CALLS]").strip()
    if body.startswith("["):
        return _objects(body[1:-1], ("arguments",), ",") if body.endswith("]") else None
    calls = []
    for piece in text.split("[TOOL_CALLS]")[1:]:
        name, brace, rest = piece.partition("{")
        found = object_with_spans(brace + rest)
        if found is None or (brace + rest)[found[1] :].strip():
            return None
        calls.append((name.replace("[ARGS]", "").strip(), (brace + rest)[: found[1]]))
    return calls or None


FORMATS = (
    ToolFormat(
        name="mistral",
        signature="[TOOL_CALLS]",
        start=("[TOOL_CALLS]",),
        end="",
        at_beginning_only=False,
        parse=_parse_mistral,
        written=CallText('[TOOL_CALLS][{"name": "', '", "arguments": ', '}, {"name": "', "}]"),
    ),
    ToolFormat(
        name="hermes",
        signature="<tool_call>",
        start=("<tool_call>",),
        end="</tool_call>",
        at_beginning_only=False,
        parse=_parse_hermes,
        written=CallText(
            '<tool_call>\n{"name": "',
            '", "arguments": ',
            '}\n</tool_call>\n<tool_call>\n{"name": "',
            "}\n</tool_call>",
        ),
    ),
    ToolFormat(
        name="llama3_json",
        signature='"parameters": ',
        start=("<|python_tag|>", "{"),
        end="",
        at_beginning_only=True,
        parse=_parse_llama,
        written=CallText('{"name": "', '", "parameters": ', '}; {"name": "', "}"),
    ),
)


def format_of(template: str) -> ToolFormat | None:
    """The format a chat template teaches, or None when it knows no tools."""
    if "tools" not in template:
        return None
    return next((each for each in FORMATS if each.signature in template), None)


class ToolCallParser:
    """Splits one growing text into text to show and whole calls."""

    def __init__(self, tool_format: ToolFormat, tool_names: Collection[str]) -> None:
        self._format = tool_format
        self._names = frozenset(tool_names)
        self._pending = ""
        self._is_inside = False
        self._is_over = False
        self._is_last = False

    def push(self, text: str) -> list[str | ToolCall]:
        """What is certain after this text."""
        self._pending += text
        found: list[str | ToolCall] = []
        while self._advance(found):
            pass
        return found

    def finish(self) -> list[str | ToolCall]:
        """The rest: a call without its end mark counts when it is whole."""
        found: list[str | ToolCall] = []
        if self._is_inside and not self._format.parse(self._pending):
            self._is_last = True
            while self._advance(found):
                pass
        rest, self._pending = self._pending, ""
        return found + (self._calls_or_text(rest, rest) if self._is_inside else [rest] if rest else [])

    def _advance(self, found: list[str | ToolCall]) -> bool:
        """Move one piece from pending to found; False when more text is needed."""
        if self._is_inside:
            end = self._end_of_call()
            if end < 0:
                return False
            stop = end + len(self._format.end)
            found += self._calls_or_text(self._pending[:end], self._pending[:stop])
            # White space between calls belongs to the format, not to the reply.
            self._pending = self._pending[stop:].lstrip()
            self._is_inside = False
            return True
        if self._is_over:
            self._show(len(self._pending), found)
            return False
        return self._look_for_start(found)

    def _end_of_call(self) -> int:
        """Where the call under way ends, or -1. An end mark within a JSON string is a part of that string."""
        mark = self._format.end
        if not mark:
            return -1
        plain = self._pending.find(mark)
        if plain < 0 or self._is_last:  # a quote that nothing closes does not hide the mark for ever
            return plain
        pieces = re.finditer(_STRING + "|" + re.escape(mark), self._pending)
        return next((piece.start() for piece in pieces if piece[0] == mark), -1)

    def _look_for_start(self, found: list[str | ToolCall]) -> bool:
        if self._format.at_beginning_only:
            return self._look_at_beginning(found)
        starts = [at for mark in self._format.start if (at := self._pending.find(mark)) >= 0]
        if starts:
            text = self._pending[: min(starts)]
            self._pending = self._pending[min(starts) :]
            if text.strip():
                found.append(text.rstrip())
            self._is_inside = True
            return True
        held = max(suffix_that_begins(self._pending, mark) for mark in self._format.start)
        # White space before a possible call waits too: it would be part of the format.
        self._show(len(self._pending[: len(self._pending) - held].rstrip()), found)
        return False

    def _look_at_beginning(self, found: list[str | ToolCall]) -> bool:
        text = self._pending.lstrip()
        if text.startswith(self._format.start):
            self._is_inside = True
            return True
        if not any(mark.startswith(text) for mark in self._format.start):
            self._is_over = True
            self._show(len(self._pending), found)
        return False

    def _show(self, size: int, found: list[str | ToolCall]) -> None:
        if size:
            found.append(self._pending[:size])
            self._pending = self._pending[size:]

    def _calls_or_text(self, body: str, whole: str) -> list[str | ToolCall]:
        calls = self._format.parse(body.lstrip() if self._format.at_beginning_only else body)
        if not calls or any(name not in self._names for name, _ in calls):
            return [whole]
        return [ToolCall(new_call_id(), name, arguments) for name, arguments in calls]


def new_call_id() -> str:
    """Nine letters and digits, which every template accepts (Mistral's allow nothing else)."""
    return secrets.token_hex(5)[:9]
