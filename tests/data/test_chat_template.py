"""The template dialect against transformers' own rendering, and what a template cannot do."""

import json
from pathlib import Path
from typing import Any

import pytest

from cairn.core import ConfigError, InvalidRequestError
from cairn.core.chat import ImagePart, Message, TextPart, ToolCall, ToolDefinition, text_message
from cairn.data import DEFAULT_TEMPLATE, ChatTemplate, Tokenizer
from cairn.data.chat_template import message_dict, tool_dict


def one_line(template: str) -> str:
    """A template written over several lines, without the line breaks."""
    return "".join(line.strip() for line in template.splitlines())


CHATML = one_line(r"""
    {% for message in messages %}
    {{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
""")
CHATML_GENERATION = one_line(r"""
    {%- for message in messages %}{%- if message['role'] == 'assistant' %}
    {{- '<|im_start|>assistant\n' }}
    {% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}
    {%- else %}{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}
    {%- endif %}
    {%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}
""")
LLAMA3 = one_line(r"""
    {% set loop_messages = messages %}{% for message in loop_messages %}
    {% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'
    + message['content'] | trim + '<|eot_id|>' %}
    {% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}
    {% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}
""")
MISTRAL = one_line(r"""
    {{ bos_token }}{% for message in messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
    {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}
    {% if message['role'] == 'user' %}{{ ' [INST] ' + message['content'] + ' [/INST]' }}
    {% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}
    {% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}
""")
GEMMA = one_line(r"""
    {{ bos_token }}{% if messages[0]['role'] == 'system' %}
    {{ raise_exception('System role not supported') }}{% endif %}
    {% for message in messages %}
    {% if (message['role'] == 'assistant') %}{% set role = 'model' %}
    {% else %}{% set role = message['role'] %}{% endif %}
    {{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}
    {% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}
""")
FAMILIES = {
    "chatml": (CHATML, "gpt2"),
    "chatml-generation": (CHATML_GENERATION, "gpt2"),
    "llama3": (LLAMA3, "llama3"),
    "mistral": (MISTRAL, "llama2"),
    "gemma": (GEMMA, "gemma"),
    "default": (DEFAULT_TEMPLATE.source, "gpt2"),
}
TURNS = [
    text_message("user", "  Hello there!\n"),
    text_message("assistant", "Hi. “How” are you? "),
    text_message("user", "Fine — and you? 日本"),
    text_message("assistant", "I am\n\nwell."),
]


def theirs(folder: Path, template: str) -> Any:
    """transformers' tokenizer with this template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("num_turns", [1, 3, 4])
def test_renders_as_transformers_does(foreign_folders: dict[str, Path], family: str, num_turns: int) -> None:
    template, kind = FAMILIES[family]
    ours = Tokenizer.load(foreign_folders[kind])
    peer = theirs(foreign_folders[kind], template)
    for add_generation_prompt in (False, True):
        rendered = ChatTemplate(template).render(
            TURNS[:num_turns],
            add_generation_prompt=add_generation_prompt,
            bos_token=ours.bos_token,
            eos_token=ours.eos_token,
        )
        expected = peer.apply_chat_template(
            [message_dict(message) for message in TURNS[:num_turns]],
            add_generation_prompt=add_generation_prompt,
            tokenize=False,
        )
        assert rendered == expected


def test_tools_render_as_transformers_does(foreign_folders: dict[str, Path]) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string", "description": "a <b> & 'c' é"}}}
    tools = [ToolDefinition("weather", "What it is like outside", schema), ToolDefinition("time")]
    turns = [
        text_message("system", "Be brief."),
        text_message("user", "Weather in Rome and Oslo?"),
        Message(
            "assistant",
            (TextPart("Let me look."),),
            (ToolCall("1", "weather", '{"city": "Rome"}'), ToolCall("2", "weather", '{"city": "Oslo"}')),
        ),
        Message("tool", (TextPart("sunny"),), tool_call_id="1"),
        Message("tool", (TextPart("snow"),), tool_call_id="2"),
        text_message("assistant", "Sunny and snow."),
        text_message("system", "Now be long."),
    ]
    expected = theirs(foreign_folders["gpt2"], DEFAULT_TEMPLATE.source).apply_chat_template(
        [message_dict(turn) for turn in turns], tools=[tool_dict(tool) for tool in tools], tokenize=False
    )
    rendered = DEFAULT_TEMPLATE.render(turns, tools=tools)
    assert rendered == expected
    assert rendered.count("<tool_call>{") == 3  # two calls and the explanation
    assert (
        '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>\n<tool_call>' in rendered
    )
    assert (
        "<|im_start|>user\n<tool_response>sunny</tool_response>\n<tool_response>snow</tool_response><|im_end|>"
        in rendered
    )
    assert json.dumps(schema, ensure_ascii=False) in rendered


def test_arguments_that_are_no_json_stay_text() -> None:
    turns = [Message("assistant", tool_calls=(ToolCall("1", "f", '{"broken'),))]
    assert '"arguments": {"broken}</tool_call>' in DEFAULT_TEMPLATE.render(turns)


def test_dialect() -> None:
    template = ChatTemplate(
        "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}"
        "{{ i }}{% endfor %} {{ {'a': '<é>'} | tojson }} {{ [1] | tojson(indent=1) }}"
        " {{ strftime_now('%Y') | length }} {{ flag }}{{ missing }}"
    )
    assert template.render([], flag="on") == '023 {"a": "<é>"} [\n 1\n] 4 on'


def test_images_become_parts() -> None:
    template = ChatTemplate("{% for part in messages[0].content %}{{ part.type }} {% endfor %}")
    message = Message("user", (TextPart("a"), ImagePart("data:,")))
    assert template.render([message]) == "text image "


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{% for i in range(99999999) %}{% endfor %}",
    ],
)
def test_templates_are_fenced(source: str) -> None:
    with pytest.raises(InvalidRequestError, match="the chat template"):
        ChatTemplate(source).render([text_message("user", "x")])


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10**10 }}",
        "{% set x = 10**10 %}{{ 'a' * x }}",
        "{{ [1] * 10**10 }}",
        "{{ 10 ** (10 ** 10) }}",
        "{% set n = namespace(x=9) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}",
        "{% set n = namespace(x='aaaa') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x='aaaa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x=1) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
        "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}"
        "{{ n.x | tojson }}",
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
        "{% for i in range(90000) %}{% for j in range(90000) %}x{% endfor %}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}",
        "{{ 'a'.center(10**10) }}",
        "{{ 'a'.ljust(10**10) }}",
        "{{ 'a' | center(10**9) }}",
        "{{ 'a' | indent(10**9, true) }}",
        "{{ [1, [2]] | tojson(indent=10**9) }}",
        "{{ '%9999999999d' % 1 }}",
        "{{ '%*d' % (9999999999, 1) }}",
        "{{ '{:9999999999}'.format(1) }}",
        "{{ '{:{}}'.format(1, 9999999999) }}",
        "{{ '%9999999999d' | format(1) }}",
        "{% set x = 'a' * 100000 %}{{ x.replace('a', x) }}",
        "{% set x = 'a' * 100000 %}{{ x | replace('a', x) }}",
        "{% set x = 'a' * 100000 %}{{ x.join([x] * 100000) }}",
        "{{ ([messages[0]] * 1000000) | map(attribute='content') | join }}",
        "{% set x = '\t' * 100000 %}{{ x.expandtabs(100000) }}",
        "{% set x = [0] * 100000 %}{{ ([x] * 100000) | sum(start=[]) }}",
        "{{ lipsum(100000) }}",
    ],
)
def test_a_template_cannot_take_all_memory_or_time(source: str) -> None:
    with pytest.raises(InvalidRequestError):
        ChatTemplate(source).render([text_message("user", "hi" * 100)])


def test_long_conversations_are_within_the_limits() -> None:
    messages = [text_message(("user", "assistant")[i % 2], f"{i} " * 2000) for i in range(2000)]
    for template in (DEFAULT_TEMPLATE, ChatTemplate(CHATML), ChatTemplate(LLAMA3)):
        assert len(template.render(messages, bos_token="<s>")) > 10_000_000


def test_errors_have_a_remedy() -> None:
    with pytest.raises(ConfigError, match=r"not valid Jinja: line 2"):
        ChatTemplate("ok\n{% for %}")
    with pytest.raises(InvalidRequestError, match="roles must alternate"):
        ChatTemplate(MISTRAL).render([text_message("assistant", "x")], eos_token="</s>")
    with pytest.raises(InvalidRequestError, match="failed on this conversation"):
        ChatTemplate("{{ messages[0].content + 1 }}").render([text_message("user", "x")])


def test_what_is_nested_too_deeply_is_refused() -> None:
    parameters: dict[str, Any] = {}
    for _ in range(3000):
        parameters = {"a": parameters}
    with pytest.raises(InvalidRequestError, match="failed on this conversation"):
        ChatTemplate("{{ tools | tojson }}").render(
            [text_message("user", "x")], tools=[ToolDefinition("f", "", parameters)]
        )


def test_arguments_nested_too_deeply_stay_text() -> None:
    deep = "[" * 100_000
    message = Message("assistant", tool_calls=(ToolCall("c", "f", deep),))
    assert message_dict(message)["tool_calls"][0]["function"]["arguments"] == deep
