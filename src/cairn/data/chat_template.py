"""Chat templates: a conversation as the text a model was trained on, in the Hugging Face dialect.

A template is untrusted (it comes with a checkpoint), so it runs in Jinja's immutable sandbox, its steps and
the size of what it makes bounded (`template_limits`). The dialect: `messages`, `tools`,
`add_generation_prompt`, special tokens by name, `tojson`, `raise_exception`, `strftime_now`, loop controls,
and `{% generation %}` around what the model says. Output equals transformers' `apply_chat_template`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2.ext import Extension
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser

from cairn.core.chat import ImagePart, Message, TextPart, ToolDefinition
from cairn.core.errors import ConfigError, InvalidRequestError
from cairn.data.template_limits import LimitedEnvironment, limited

# Noncharacters: no text for interchange holds them, so two that the input lacks can mark spans.
_MARKS = [chr(code) for code in range(0xFDD0, 0xFDF0)]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered conversation, with what a tokenizer must know about it (places in characters)."""

    text: str
    spans: tuple[tuple[int, int], ...]
    """Inside `{% generation %}`: what the model itself says."""
    cuts: tuple[int, ...] = ()
    """Places inside control tokens that came in with a message, so are text and nothing more."""


class ChatTemplate:
    """A Jinja chat template; compiled once, then a pure function of its arguments and the date."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._template = _compile(source)
        self.has_generation = re.search(r"\{%[-+]?\s*generation\b", source) is not None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChatTemplate) and other.source == self.source

    def __hash__(self) -> int:
        return hash(self.source)

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolDefinition] = (),
        add_generation_prompt: bool = False,
        **options: Any,
    ) -> str:
        """The conversation as text. `options` reach the template (`bos_token`, `enable_thinking`, ...)."""
        return self.render_spans(
            messages, tools=tools, add_generation_prompt=add_generation_prompt, **options
        ).text

    def render_spans(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolDefinition] = (),
        add_generation_prompt: bool = False,
        control_tokens: re.Pattern[str] | None = None,
        **options: Any,
    ) -> Rendered:
        """`render` with its spans, and cuts in whatever matches `control_tokens` in messages and tools."""
        conversation = {
            "messages": [message_dict(message) for message in messages],
            "tools": [tool_dict(tool) for tool in tools] or None,
        }
        try:
            opening, closing, cut = marks = _free_marks(conversation)
            if control_tokens is not None:
                conversation = _cut(conversation, control_tokens, cut)
            variables = {
                "bos_token": "",
                "eos_token": "",
                "documents": None,
                **options,
                **conversation,
                "add_generation_prompt": add_generation_prompt,
            }
            with limited():
                text = self._template.render(variables, _marks=(opening, closing))
        except jinja2.TemplateError as error:
            raise InvalidRequestError(
                f"the chat template refuses this conversation: {error.message}",
                remedy="check the order of roles, or use another template",
                param="messages",
            ) from None
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise InvalidRequestError(
                f"the chat template failed on this conversation: {error}", param="messages"
            ) from None
        return _without_marks(text, marks)


def message_dict(message: Message) -> dict[str, Any]:
    """A message as templates see it: the OpenAI shape with tool arguments parsed."""
    value: dict[str, Any] = {"role": message.role, "content": _content(message)}
    if message.tool_calls:
        value["tool_calls"] = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": _parsed(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        value["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        value["name"] = message.name
    return value


def tool_dict(tool: ToolDefinition) -> dict[str, Any]:
    """A tool in the OpenAI shape."""
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def _content(message: Message) -> str | list[dict[str, str]]:
    if not any(isinstance(part, ImagePart) for part in message.content):
        return message.text
    return [
        {"type": "text", "text": part.text}
        if isinstance(part, TextPart)
        else {"type": "image", "url": part.url}
        for part in message.content
    ]


def _parsed(arguments: str) -> Any:
    """Arguments as a value; text that is no JSON (a model made it) stays text."""
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _free_marks(conversation: Mapping[str, Any]) -> tuple[str, str, str]:
    used = set(json.dumps(conversation, ensure_ascii=False, default=str))
    free = [mark for mark in _MARKS if mark not in used]
    if len(free) < 3:
        raise InvalidRequestError("the conversation holds every Unicode noncharacter", param="messages")
    return free[0], free[1], free[2]


def _cut(value: Any, pattern: re.Pattern[str], mark: str) -> Any:
    """Put `mark` after the first character of every match in every string of a JSON value."""
    if isinstance(value, str):
        return pattern.sub(lambda match: match[0][:1] + mark + match[0][1:], value)
    if isinstance(value, dict):
        return {_cut(key, pattern, mark): _cut(each, pattern, mark) for key, each in value.items()}
    if isinstance(value, list):
        return [_cut(each, pattern, mark) for each in value]
    return value


def _without_marks(text: str, marks: tuple[str, str, str]) -> Rendered:
    """Take the marks out again; their places are the spans and cuts."""
    opening, closing, _ = marks
    pieces: list[str] = []
    starts: list[int] = []
    spans: list[tuple[int, int]] = []
    cuts: list[int] = []
    length = 0
    for piece in re.split(f"([{''.join(marks)}])", text):
        if piece == opening:
            starts.append(length)
        elif piece == closing and starts:
            spans.append((starts.pop(), length))
        elif piece in marks:
            cuts.append(length)
        else:
            pieces.append(piece)
            length += len(piece)
    return Rendered("".join(pieces), tuple(spans), tuple(cuts))


class _Generation(Extension):
    """`{% generation %}`: marks what the model itself says."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it as a plain set)

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_mark", [jinja2.nodes.ContextReference()])
        return CallBlock(call, [], [], body).set_lineno(line)

    def _mark(self, context: jinja2.runtime.Context, caller: Any) -> str:
        opening, closing = context["_marks"]
        return f"{opening}{caller()}{closing}"


@lru_cache(maxsize=64)
def _compile(source: str) -> jinja2.Template:
    environment = LimitedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.limit_filters()
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    try:
        return environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(
            f"the chat template is not valid Jinja: line {error.lineno}: {error.message}",
            remedy="mend that line of the template",
        ) from None


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Not Jinja's own: that escapes <, >, & and ' for HTML, which no model was trained on.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


# ChatML with tools in the style of Hermes and Qwen: definitions in the system turn, calls as JSON in tags.
DEFAULT_TEMPLATE = ChatTemplate(
    """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages and messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- 'You can call these functions:\\n' }}
    {%- for tool in tools %}
        {{- (tool.function if tool.function is defined else tool) | tojson + '\\n' }}
    {%- endfor %}
    {{- 'To call one, reply with <tool_call>{"name": ..., "arguments": {...}}</tool_call>.<|im_end|>\\n' }}
{%- elif messages and messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- generation %}
        {{- message.content }}
        {%- for call in message.tool_calls or [] %}
            {%- set function = call.function if call.function is defined else call %}
            {{- '\\n' if message.content or not loop.first else '' }}
            {{- '<tool_call>{"name": ' + function.name | tojson + ', "arguments": ' }}
            {{- function.arguments if function.arguments is string else function.arguments | tojson }}
            {{- '}</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}
            {{- '<|im_start|>user\\n' }}
        {%- endif %}
        {{- '<tool_response>' + message.content + '</tool_response>' }}
        {{- '<|im_end|>\\n' if loop.last or messages[loop.index0 + 1].role != 'tool' else '\\n' }}
    {%- elif message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role != 'system' %}
        {{- raise_exception('unknown role ' + message.role) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
)
