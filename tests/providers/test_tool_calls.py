"""Tool calls: every format whole and in pieces; what is malformed stays text."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.chat import ToolCall
from cairn.data import DEFAULT_TEMPLATE
from cairn.providers.tool_calls import FORMATS, ToolCallParser, ToolFormat, format_of, object_with_spans

HERMES = next(each for each in FORMATS if each.name == "hermes")
LLAMA = next(each for each in FORMATS if each.name == "llama3_json")
MISTRAL = next(each for each in FORMATS if each.name == "mistral")

ARGUMENTS = '{"city": "Genève", "days": [1, 2]}'
CASES = [
    (HERMES, f'<tool_call>\n{{"name": "weather", "arguments": {ARGUMENTS}}}\n</tool_call>'),
    (LLAMA, f'{{"name": "weather", "parameters": {ARGUMENTS}}}'),
    (LLAMA, f'<|python_tag|>{{"name": "weather", "parameters": {ARGUMENTS}}}'),
    (MISTRAL, f'[TOOL_CALLS][{{"name": "weather", "arguments": {ARGUMENTS}}}]'),
    (MISTRAL, f"[TOOL_CALLS]weather{ARGUMENTS}"),
    (MISTRAL, f"[TOOL_CALLS]weather[ARGS]{ARGUMENTS}"),
]


def parse(tool_format: ToolFormat, pieces: list[str]) -> tuple[str, list[tuple[str, str]]]:
    """The text shown and the calls made."""
    parser = ToolCallParser(tool_format, {"weather", "time"})
    found = [item for piece in pieces for item in parser.push(piece)] + parser.finish()
    text = "".join(item for item in found if isinstance(item, str))
    return text, [(item.name, item.arguments) for item in found if isinstance(item, ToolCall)]


@pytest.mark.parametrize(("tool_format", "text"), CASES)
def test_every_format(tool_format: ToolFormat, text: str) -> None:
    assert parse(tool_format, [text]) == ("", [("weather", ARGUMENTS)])
    assert parse(tool_format, list(text)) == ("", [("weather", ARGUMENTS)])


def test_text_then_two_calls() -> None:
    text = (
        'Let me look.\n<tool_call>{"name": "weather", "arguments": {}}</tool_call>\n'
        '<tool_call>{"name": "time", "arguments": {"zone": 1}}</tool_call>'
    )
    for pieces in ([text], list(text)):
        assert parse(HERMES, pieces) == ("Let me look.", [("weather", "{}"), ("time", '{"zone": 1}')])


def test_arguments_are_kept_as_generated() -> None:
    raw = '{ "a" :1.0,\n"b":"\\u00e9" }'
    for arguments in (raw, json.dumps(raw)):
        text = f'<tool_call>{{"name":"time","arguments":{arguments}}}</tool_call>'
        assert parse(HERMES, [text])[1] == [("time", raw)]


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "weather", "arguments": {"city": }</tool_call>',
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
        '<tool_call>{"name": 5, "arguments": {}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": [1]}</tool_call>',
        "<tool_call></tool_call>",
        "<tool_call>weather",
        '<tool_call>{"name": "weather", "arguments": {}} and more</tool_call>',
    ],
)
def test_malformed_calls_stay_text(text: str) -> None:
    assert parse(HERMES, [text]) == (text, [])
    assert parse(HERMES, list(text)) == (text, [])


def test_a_whole_call_without_its_end_mark_counts() -> None:
    assert parse(HERMES, ['<tool_call>{"name": "time", "arguments": {}}'])[1] == [("time", "{}")]


def test_a_possible_mark_is_held_back() -> None:
    parser = ToolCallParser(HERMES, {"weather"})
    assert parser.push("a <tool") == ["a"]
    assert parser.push("box>") == [" <toolbox>"]
    assert parser.push("<tool_call>{") == []


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_an_end_mark_in_an_argument_is_a_part_of_it(size: int) -> None:
    arguments = json.dumps({"text": 'a "</tool_call>" \\', "more": "</tool_call>"})
    call = f'<tool_call>{{"name": "weather", "arguments": {arguments}}}</tool_call>'
    text = call + call
    shown, calls = parse(HERMES, [text[at : at + size] for at in range(0, len(text), size)])
    assert calls == [("weather", arguments)] * 2
    assert shown == ""


def test_a_quote_that_nothing_closes_hides_no_later_call() -> None:
    broken = '<tool_call>{"name": "weather</tool_call>'
    call = '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
    shown, calls = parse(HERMES, [broken + call])
    assert (shown, len(calls)) == (broken, 1)


@given(text=st.text(alphabet='<tool_c>/{}" \nab[]TOOLCALLS'), cuts=st.lists(st.integers(0, 40)))
def test_text_without_calls_is_never_lost(text: str, cuts: list[int]) -> None:
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(edges)]
    for tool_format in FORMATS:
        shown, calls = parse(tool_format, pieces)
        assert not calls
        assert "".join(shown.split()) == "".join(text.split())


short = st.text(max_size=6)
values = st.recursive(
    st.none() | st.integers() | short, lambda each: st.lists(each, max_size=3), max_leaves=4
)


@settings(max_examples=50)
@given(st.dictionaries(short, values, max_size=4))
def test_object_with_spans_finds_every_value(value: dict[str, object]) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=1, ensure_ascii=False)):
        found = object_with_spans(text)
        assert found is not None
        raw, end = found
        assert end == len(text)
        assert {key: json.loads(each) for key, each in raw.items()} == value


def test_the_template_decides_the_format() -> None:
    assert format_of(DEFAULT_TEMPLATE.source) is HERMES
    assert format_of("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]") is MISTRAL
    assert format_of('{% if tools %}{"name": function name, "parameters": {}}{% endif %}') is LLAMA
    assert format_of("{{ messages[0].content }}") is None
