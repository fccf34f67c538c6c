"""The grammar of a demanded tool call: the format's spelling around arguments that follow the tool's schema.

Marks that are tokens of the model are demanded as those tokens: the call is written as it was trained.
"""

import json
import re
from collections.abc import Sequence

from cairn.core.chat import ToolDefinition
from cairn.core.grammar import Grammar
from cairn.data import Tokenizer
from cairn.engine.guidance import json_with_options
from cairn.providers.tool_calls import ToolFormat


def call_grammar(
    tool_format: ToolFormat,
    tools: Sequence[ToolDefinition],
    tokenizer: Tokenizer,
    *,
    is_many: bool,
    document: Grammar | None = None,
) -> Grammar:
    """Replies that are a call of one of `tools`, several if `is_many`, or the JSON `document` if given."""
    written = tool_format.written

    def spelled(text: str) -> str:
        return _spelled(text, tool_format.marks, tokenizer)

    more = f" ({spelled(written.next)} call)*" if is_many else ""
    lines = [
        "%llguidance {}",
        "start: calls | document" if document else "start: calls",
        f"calls: {spelled(written.first)} call{more} {spelled(written.last)}",
        "call: " + " | ".join(f"call_{place}" for place in range(len(tools))),
    ]
    for place, tool in enumerate(tools):
        name = _literal(json.dumps(tool.name)[1:-1] + written.middle)
        # A call's arguments are an object, whatever else a schema leaves open.
        arguments = json_with_options({"type": "object", **tool.parameters}, f"tools[{place}]")
        lines.append(f"call_{place}: {name} %json {arguments}")
    if document is not None:
        schema = {"type": "object"} if document.kind == "json_object" else json.loads(document.text)
        lines.append(f"document: %json {json_with_options(schema, document.param)}")
    return Grammar("ebnf", "\n".join(lines), document.param if document else "tools")


def _spelled(text: str, marks: frozenset[str], tokenizer: Tokenizer) -> str:
    """Text as terms of a Lark grammar: tokens for marks, line breaks that may be left out, literals."""
    ids = {mark: tokenizer.token_id(mark) for mark in marks}
    tokens = {mark: f"<[{token_id}]>" for mark, token_id in ids.items() if token_id is not None}
    cuts = "|".join(map(re.escape, ("\n", *tokens)))
    pieces = [piece for piece in re.split(f"({cuts})", text) if piece]
    return " ".join('"\\n"?' if piece == "\n" else tokens.get(piece) or _literal(piece) for piece in pieces)


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
