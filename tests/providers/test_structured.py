"""Constrained replies: documents, demanded calls in every format, receipts that replay."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from cairn.core.chat import (
    ChatEvent,
    ChatRequest,
    ChoiceEnd,
    SamplingParams,
    TextDelta,
    ToolCallDelta,
    ToolDefinition,
    text_message,
)
from cairn.core.errors import InvalidRequestError
from cairn.core.grammar import Grammar
from cairn.data import ChatTemplate, Tokenizer
from cairn.providers import CompletionRequest, LocalProvider, load_local_provider
from cairn.providers.grammars import grammars_of
from cairn.providers.receipts import sampling_from_json, sampling_json
from cairn.providers.tool_calls import FORMATS, ToolFormat
from cairn.providers.tool_grammar import call_grammar
from cairn.registry import Registry
from tests.data.conftest import SPECIAL, gpt2_like, llama3_like, sentencepiece_like
from tests.engine.json_checker import is_valid
from tests.providers.scripted import Scripted, tiny_tokenizer
from tests.providers.tiny_model import tiny_artifact

Make = Callable[..., Scripted]
STONES: dict[str, Any] = {
    "type": "object",
    "properties": {"stones": {"type": "integer", "minimum": 0, "maximum": 99}, "high": {"type": "boolean"}},
    "required": ["stones", "high"],
    "additionalProperties": False,
}
WAY: dict[str, Any] = {"properties": {"to": {"enum": ["north", "søuth"]}}, "required": ["to"]}
COUNT = ToolDefinition("count", "counts stones", STONES)
MARK = ToolDefinition("mark-the.way", "", WAY | {"additionalProperties": False})
NOTHING = ToolDefinition("rest", "takes nothing", {"additionalProperties": False})
TOOLS = (COUNT, MARK, NOTHING)
FOREIGN: dict[str, Callable[[], Any]] = {
    "gpt2": gpt2_like,
    "llama3": llama3_like,
    "llama2": partial(sentencepiece_like, prefix_space=True),
    "gemma": partial(sentencepiece_like, prefix_space=False),
}
DOCUMENT = Grammar.json_schema(STONES, param="response_format")


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Scripted] = []

    def build(reply: str | Sequence[int], **options: Any) -> Scripted:
        made.append(Scripted(reply, **options))
        return made[-1]

    yield build
    for each in made:
        each.stop()


def chat(grammar: Grammar | None = None, *, temperature: float = 0, n: int = 1, **fields: Any) -> ChatRequest:
    sampling = SamplingParams(temperature=temperature, grammar=grammar, n=n, seed=5)
    request = ChatRequest(model="scripted", messages=(text_message("user", "hi"),), sampling=sampling)
    return replace(request, **fields)


async def events_of(provider: LocalProvider, request: ChatRequest) -> list[ChatEvent]:
    return [event async for event in provider.stream(request)]


def text_of(events: Sequence[object], index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta) and event.index == index)


def calls_of(events: Sequence[object], index: int = 0) -> list[tuple[str, Any]]:
    deltas = [event for event in events if isinstance(event, ToolCallDelta) and event.index == index]
    return [(delta.call.name, json.loads(delta.call.arguments)) for delta in deltas]


async def test_a_model_that_would_rather_talk_writes_the_document(make: Make) -> None:
    events = await events_of(make("I would rather talk.").provider, chat(DOCUMENT))
    assert is_valid(json.loads(text_of(events)), STONES)


async def test_a_model_that_writes_the_document_is_not_disturbed(make: Make) -> None:
    reply = '{\n  "stones": 12,\n  "high": true\n}'
    scripted = make(reply)
    events = await events_of(scripted.provider, chat(DOCUMENT))
    assert text_of(events) == reply
    assert events[-2] == ChoiceEnd(0, "stop")


async def test_a_stop_string_cuts_a_document_as_it_cuts_any_text(make: Make) -> None:
    scripted = make('{"stones": 12, "high": true}')
    request = chat(sampling=SamplingParams(temperature=0, grammar=DOCUMENT, stop=("high",)))
    events = await events_of(scripted.provider, request)
    assert text_of(events) == '{"stones": 12, "'
    assert events[-2] == ChoiceEnd(0, "stop", "high")


def check_call(name: str, arguments: Any) -> None:
    tool = next(tool for tool in TOOLS if tool.name == name)
    assert isinstance(arguments, dict)
    assert is_valid(arguments, {"type": "object", **tool.parameters})


def template_of(tool_format: ToolFormat) -> ChatTemplate:
    """A template that teaches this format, in few tokens."""
    return ChatTemplate("{# tools: " + tool_format.signature + " #}{{ messages[0].content }}<|im_end|>")


HERMES = template_of(next(each for each in FORMATS if each.name == "hermes"))


@pytest.mark.parametrize("tool_format", FORMATS, ids=lambda each: each.name)
@pytest.mark.parametrize("choice", [*(tool.name for tool in TOOLS), "required"])
async def test_demanded_calls(make: Make, tool_format: ToolFormat, choice: str) -> None:
    scripted = make("no, let us talk", template=template_of(tool_format))
    request = chat(tools=TOOLS, tool_choice=choice, parallel_tool_calls=False)
    events = await events_of(scripted.provider, request)
    (call,) = calls_of(events)
    check_call(*call)
    assert choice in ("required", call[0])
    assert text_of(events) == ""
    assert isinstance(events[-2], ChoiceEnd)
    assert events[-2].reason == "tool_calls"


@pytest.mark.parametrize("tool_format", FORMATS, ids=lambda each: each.name)
async def test_several_demanded_calls(make: Make, tool_format: ToolFormat) -> None:
    written = tool_format.written
    first = (
        f'{written.first}rest{written.middle}{{}}{written.next}count{written.middle}{{"stones": 3, "high": '
    )
    scripted = make(f"{first}true}}{written.last}", template=template_of(tool_format))
    many = await events_of(scripted.provider, chat(tools=TOOLS, tool_choice="required"))
    assert calls_of(many) == [("rest", {}), ("count", {"stones": 3, "high": True})]
    request = chat(tools=TOOLS, tool_choice="required", parallel_tool_calls=False)
    assert calls_of(await events_of(scripted.provider, request)) == [("rest", {})]
    assert calls_of(await events_of(scripted.provider, chat(tools=TOOLS, tool_choice="rest"))) == [
        ("rest", {})
    ]


async def test_marks_are_written_as_their_tokens(make: Make) -> None:
    scripted = make("no", template=HERMES)
    await events_of(scripted.provider, chat(tools=TOOLS, tool_choice="rest"))
    (output,) = scripted.receipts[0].outputs
    assert output[0] == scripted.tokenizer.token_id("<tool_call>")
    assert output[-1] == scripted.tokenizer.token_id("</tool_call>")


async def test_a_document_or_a_call(make: Make) -> None:
    call = '<tool_call>{"name": "rest", "arguments": {}}</tool_call>'
    request = chat(DOCUMENT, tools=TOOLS)
    assert calls_of(await events_of(make(call, template=HERMES).provider, request)) == [("rest", {})]
    document = '{"stones": 1, "high": false}'
    assert text_of(await events_of(make(document, template=HERMES).provider, request)) == document
    # A mark in the midst of a document is part of it, the white space around it too.
    text = json.dumps(f"a {call} b")
    words = Grammar.json_schema({"type": "string"})
    assert text_of(await events_of(make(text, template=HERMES).provider, chat(words, tools=TOOLS))) == text


async def test_an_offered_tool_leaves_the_reply_free(make: Make) -> None:
    events = await events_of(make("let us talk", template=HERMES).provider, chat(tools=TOOLS))
    assert text_of(events) == "let us talk"


async def test_contradictions_are_refused(make: Make) -> None:
    request = chat(Grammar("regex", "a+"), tools=TOOLS, tool_choice="required")
    with pytest.raises(InvalidRequestError, match="contradict"):
        await events_of(make("x", template=HERMES).provider, request)
    bad = ToolDefinition("bad", "", {"not": {}})
    with pytest.raises(InvalidRequestError, match="cannot be followed") as caught:
        await events_of(make("x", template=HERMES).provider, chat(tools=(bad,), tool_choice="required"))
    assert caught.value.param == "tools"
    few = ToolDefinition("few", "", {"minProperties": 2})
    with pytest.raises(InvalidRequestError, match="minProperties"):
        await events_of(make("x", template=HERMES).provider, chat(tools=(few,), tool_choice="required"))


async def test_random_weights_obey_and_replay(registry: Registry) -> None:
    tiny_artifact(registry)
    provider = load_local_provider(registry, "tiny")
    try:
        for temperature in (0.0, 1.0, 2.0):
            events = await events_of(provider, chat(DOCUMENT, temperature=temperature, n=3))
            assert all(is_valid(json.loads(text_of(events, index)), STONES) for index in range(3))
            events = await events_of(
                provider, chat(tools=(MARK,), tool_choice="required", temperature=temperature, n=2)
            )
            for index in range(2):
                for name, arguments in calls_of(events, index):
                    check_call(name, arguments)
        receipts = registry.receipts(10)
        assert len(receipts) == 6
        for receipt in receipts:
            assert receipt.sampling["grammar"]["text"]
            replayed = await provider.replay(receipt)
            assert replayed.is_same, replayed.difference
    finally:
        provider.engine.stop()


async def test_completions_too(registry: Registry) -> None:
    tiny_artifact(registry)
    provider = load_local_provider(registry, "tiny")
    try:
        sampling = SamplingParams(grammar=Grammar("regex", "[a-z]{3} [0-9]+!"), seed=1, max_tokens=60)
        request = CompletionRequest(model="tiny", prompt="stones: ", sampling=sampling)
        text = text_of([event async for event in provider.complete(request)])
        assert re.fullmatch("[a-z]{3} [0-9]+!", text) or len(text) > 20
    finally:
        provider.engine.stop()


@pytest.mark.parametrize(
    "grammar", [None, DOCUMENT, Grammar("json_object"), Grammar("regex", "a|é"), Grammar.choice(["a", "é"])]
)
def test_a_grammar_survives_its_receipt(grammar: Grammar | None) -> None:
    sampling = SamplingParams(grammar=grammar, stop=("x",))
    assert sampling_from_json(json.loads(json.dumps(sampling_json(sampling)))) == sampling


def test_a_receipt_from_before_grammars_is_read() -> None:
    values = sampling_json(SamplingParams())
    del values["grammar"]
    assert sampling_from_json(values) == SamplingParams()


def test_rows_beyond_the_vocabulary_are_never_allowed() -> None:
    tokenizer = tiny_tokenizer()
    end = tokenizer.token_id("<|im_end|>")
    assert end is not None
    size = tokenizer.vocab_size + 70
    compiler = grammars_of(tokenizer, vocab_size=size, eos_token_ids=[end])
    assert compiler is not None
    assert not allowed_of(compiler.compile(Grammar("regex", "(.|\\n)+")), size)[tokenizer.vocab_size :].any()


def allowed_of(matcher: Any, size: int) -> Any:
    bits = np.zeros(-(-size // 32), np.int32)
    matcher.fill(bits)
    return np.unpackbits(bits.view(np.uint8), bitorder="little")[:size]


@pytest.mark.parametrize("family", ["gpt2", "llama3", "llama2", "gemma"])
def test_tokenizers_of_other_families(family: str) -> None:
    """Random walks through what is allowed, whatever the tokenizer does with spaces and bytes."""
    tokenizer = Tokenizer(FOREIGN[family](), SPECIAL[family])
    assert tokenizer.eos_token_id is not None
    size = tokenizer.vocab_size
    compiler = grammars_of(tokenizer, vocab_size=size, eos_token_ids=[tokenizer.eos_token_id])
    assert compiler is not None
    schema = {"type": "array", "items": {"enum": ["a b", " the é", "🙂", 12]}, "minItems": 2, "maxItems": 4}
    random = np.random.default_rng(0)
    for _ in range(20):
        matcher, data = compiler.compile(Grammar.json_schema(schema)), b""
        while not matcher.is_complete:
            token_id = int(random.choice(np.flatnonzero(allowed_of(matcher, size))))
            assert token_id not in tokenizer.special_tokens.values()
            data += tokenizer.token_bytes(token_id)
            matcher.advance(token_id)
        assert is_valid(json.loads(data), schema)


def test_a_name_is_escaped(make: Make) -> None:
    odd = ToolDefinition('a"\\b', "", {})
    tokenizer: Tokenizer = tiny_tokenizer()
    grammar = call_grammar(FORMATS[1], [odd], tokenizer, is_many=False)
    end = tokenizer.token_id("<|im_end|>")
    assert end is not None
    compiler = grammars_of(tokenizer, vocab_size=tokenizer.vocab_size, eos_token_ids=[end])
    assert compiler is not None
    matcher = compiler.compile(grammar)
    text = '<tool_call>{"name": ' + json.dumps(odd.name) + ', "arguments": {}}</tool_call>'
    for token_id in tokenizer.encode(text, allow_special=True):
        assert allowed_of(matcher, tokenizer.vocab_size)[token_id]
        matcher.advance(token_id)
    assert matcher.is_complete
