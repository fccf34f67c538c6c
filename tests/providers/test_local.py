"""The local provider on scripted replies: events, stops, tools, usage, receipts, forced calls, aborts."""

import asyncio
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.chat import (
    ChatEvent,
    ChatRequest,
    ChoiceEnd,
    ImagePart,
    Message,
    Principal,
    SamplingParams,
    StreamEnd,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolDefinition,
    text_message,
)
from cairn.core.errors import ContextLengthError, IntegrityError, InvalidRequestError, OverloadedError
from cairn.data import ChatTemplate
from cairn.engine import EngineConfig, Request, ShareConfig, TokenStream
from cairn.providers import CompletionRequest, PromptEcho
from cairn.providers.receipts import sampling_from_json, sampling_json
from tests.providers.scripted import CONTEXT, Scripted

Make = Callable[..., Scripted]
WEATHER = ToolDefinition("weather", "looks out of the window", {"type": "object"})
GREEDY = SamplingParams(temperature=0)


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Scripted] = []

    def build(reply: str | Sequence[int], **options: object) -> Scripted:
        made.append(Scripted(reply, **options))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for each in made:
        each.stop()


def chat(sampling: SamplingParams = GREEDY, **fields: object) -> ChatRequest:
    request = ChatRequest(model="scripted", messages=(text_message("user", "hi"),), sampling=sampling)
    return replace(request, **fields)  # type: ignore[arg-type]


async def events_of(scripted: Scripted, request: ChatRequest) -> list[ChatEvent]:
    return [event async for event in scripted.provider.stream(request)]


def text_of(events: Sequence[object], index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta) and event.index == index)


async def test_a_reply_with_usage_and_receipt(make: Make) -> None:
    scripted = make("stones 🙂 é")
    request = chat()
    events = await events_of(scripted, request)
    assert text_of(events) == "stones 🙂 é"
    assert all("�" not in event.text for event in events if isinstance(event, TextDelta))
    end = scripted.tokenizer.token_id("<|im_end|>")
    assert events[-2] == ChoiceEnd(0, "stop", end)
    closing = events[-1]
    assert isinstance(closing, StreamEnd)
    (receipt,) = scripted.receipts
    assert receipt.receipt_id == closing.receipt_id
    assert closing.usage.prompt_tokens == len(receipt.prompt_token_ids)
    assert closing.usage.completion_tokens == len(receipt.outputs[0])
    assert receipt.outputs == [[*scripted.runner.script, end]]
    assert receipt.sampling["seed"] is not None
    assert receipt.request["messages"] == [{"role": "user", "content": "hi"}]
    assert json.loads(json.dumps(receipt.sampling)) == receipt.sampling


async def test_prefix_cache_is_reported(make: Make) -> None:
    scripted = make("x")
    request = chat(messages=(text_message("user", "the same long question again and again"),))
    await events_of(scripted, request)
    closing = (await events_of(scripted, request))[-1]
    assert isinstance(closing, StreamEnd)
    assert closing.usage.cached_tokens > 0


@pytest.mark.parametrize("stop", ["mark the", "mark", "🙂"])
async def test_stop_strings(make: Make, stop: str) -> None:
    text = "stones 🙂 mark the way"
    scripted = make(text)
    events = await events_of(scripted, chat(SamplingParams(temperature=0, stop=(stop,))))
    assert text_of(events) == text[: text.index(stop)]
    assert events[-2] == ChoiceEnd(0, "stop", stop)
    # The engine was told: it did not go on to the end of the script.
    assert len(scripted.receipts[0].outputs[0]) < len(scripted.runner.script) + 1


@settings(max_examples=25, deadline=None)
@given(text=st.text(min_size=1, max_size=12), stop=st.text(min_size=1, max_size=3))
def test_stop_strings_of_any_kind(text: str, stop: str) -> None:
    scripted = Scripted(text)
    try:
        sampling = SamplingParams(temperature=0, stop=(stop,))
        shown = text_of(asyncio.run(events_of(scripted, chat(sampling))))
        assert shown == text.split(stop)[0]
    finally:
        scripted.stop()


async def test_choices_are_told_apart(make: Make) -> None:
    scripted = make("stones")
    events = await events_of(scripted, chat(SamplingParams(temperature=0, n=3, logprobs=2)))
    assert [text_of(events, index) for index in range(3)] == ["stones"] * 3
    assert sorted(event.index for event in events if isinstance(event, ChoiceEnd)) == [0, 1, 2]
    assert len(scripted.receipts[0].outputs) == 3
    logprobs = [token for e in events if isinstance(e, TextDelta) and e.index == 0 for token in e.logprobs]
    assert [token.token_id for token in logprobs] == scripted.receipts[0].outputs[0]
    assert all(len(token.top) == 2 for token in logprobs)
    assert b"".join(token.raw_bytes for token in logprobs[:-1]) == b"stones"


async def test_length_is_a_reason(make: Make) -> None:
    events = await events_of(make("stones and stones"), chat(SamplingParams(temperature=0, max_tokens=2)))
    assert isinstance(events[-2], ChoiceEnd)
    assert events[-2].reason == "length"


async def test_tool_calls(make: Make) -> None:
    reply = 'I look.\n<tool_call>{"name": "weather", "arguments": {"city": "Bern"}}</tool_call>'
    events = await events_of(make(reply), chat(tools=(WEATHER,)))
    (delta,) = [event for event in events if isinstance(event, ToolCallDelta)]
    assert (delta.call.name, delta.call.arguments) == ("weather", '{"city": "Bern"}')
    assert text_of(events) == "I look."
    assert isinstance(events[-2], ChoiceEnd)
    assert events[-2].reason == "tool_calls"


async def test_without_tools_a_call_is_text(make: Make) -> None:
    reply = '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
    assert text_of(await events_of(make(reply), chat())) == reply
    scripted = make(reply)
    assert text_of(await events_of(scripted, chat(tools=(WEATHER,), tool_choice="none"))) == reply


async def test_what_the_model_cannot_take_is_refused(make: Make) -> None:
    plain = ChatTemplate("{{ messages[0].content }}<|im_end|>")
    with pytest.raises(InvalidRequestError, match="knows no tool calls"):
        await events_of(make("x", template=plain), chat(tools=(WEATHER,)))
    image = Message("user", (ImagePart("data:image/png;base64,"),))
    with pytest.raises(InvalidRequestError, match="reads text only"):
        await events_of(make("x"), chat(messages=(image,)))
    with pytest.raises(ContextLengthError, match="tokens"):
        await events_of(make("x"), chat(messages=(text_message("user", "stone " * CONTEXT),)))


@pytest.mark.parametrize("name", ["messages", "tools", "self", "tokenizer", "control_tokens"])
async def test_template_options_cannot_replace_the_request(make: Make, name: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"chat_template_kwargs holds {name}"):
        await events_of(make("x"), chat(template_options={name: []}))
    assert text_of(await events_of(make("x"), chat(template_options={"enable_thinking": False}))) == "x"


async def test_tool_results_are_rendered(make: Make) -> None:
    scripted = make("fine")
    history = (
        text_message("user", "weather?"),
        Message("assistant", tool_calls=(ToolCall("c1", "weather", '{"city": "Bern"}'),)),
        replace(text_message("tool", "sunny"), tool_call_id="c1"),
    )
    await events_of(scripted, chat(messages=history, tools=(WEATHER,)))
    prompt = scripted.tokenizer.decode(scripted.receipts[0].prompt_token_ids)
    assert "<tool_response>sunny</tool_response>" in prompt
    assert '"name": "weather"' in prompt


async def test_leaving_aborts_and_still_stores_the_receipt(make: Make) -> None:
    scripted = make("stones mark the way " * 5)
    stream = scripted.provider.stream(chat())
    async for event in stream:
        if isinstance(event, TextDelta):
            break
    await stream.aclose()
    (receipt,) = scripted.receipts
    assert receipt.finish_reasons == ["abort"]
    assert receipt.outputs[0] == scripted.runner.script[: len(receipt.outputs[0])]
    assert await asyncio.to_thread(scripted.engine._idle.wait, 30)


async def test_the_engine_knows_who_asks_and_what_is_theirs(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = (
        ShareConfig(user="ada", weight=3, kv_share=0.5),
        ShareConfig(role="batch", weight=0.5, priority=1),
        ShareConfig(weight=2),
    )
    scripted = make("x", config=EngineConfig(shares=shares))
    asked: list[Request] = []
    generate = scripted.engine.generate

    def note(request: Request) -> TokenStream:
        asked.append(request)
        return generate(request)

    monkeypatch.setattr(scripted.engine, "generate", note)
    for principal in (
        Principal("ada", roles=frozenset({"batch"})),
        Principal("bob", roles=frozenset({"batch"})),
        Principal("cyd"),
        None,
    ):
        await events_of(scripted, chat(principal=principal))
    assert [(each.tenant, each.weight, each.priority, each.kv_share) for each in asked] == [
        ("ada", 3, 0, 0.5),
        ("bob", 0.5, 1, None),
        ("cyd", 2, 0, None),
        ("", 2, 0, None),
    ]
    loads = {each.tenant: each for each in scripted.provider.load().tenants}
    assert set(loads) == {"ada", "bob", "cyd", ""}
    assert all(each.tokens > 0 and each.waiting == each.running == 0 for each in loads.values())


async def test_overload_is_raised_before_any_event(make: Make) -> None:
    scripted = make("x", config=EngineConfig(max_num_seqs=1, max_waiting=0))
    scripted.runner.is_gated = True
    first = asyncio.create_task(events_of(scripted, chat()))
    while scripted.engine._idle.is_set():
        assert not first.done()
        await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await events_of(scripted, chat())
    scripted.runner.is_gated = False
    scripted.runner.gate.release()
    assert text_of(await first) == "x"


async def test_completion_with_echo_and_prompt_scores(make: Make) -> None:
    scripted = make("way")
    sampling = SamplingParams(temperature=0, max_tokens=1, logprobs=1, prompt_logprobs=1)
    request = CompletionRequest(model="scripted", prompt="the stones", sampling=sampling, echo=True)
    events = [event async for event in scripted.provider.complete(request)]
    echo = events[0]
    assert isinstance(echo, PromptEcho)
    assert echo.text == "the stones"
    assert [token.token_id for token in echo.tokens] == scripted.tokenizer.encode("the stones")
    assert math.isnan(echo.tokens[0].logprob)
    assert all(token.logprob <= 0 for token in echo.tokens[1:])
    assert scripted.receipts[0].kind == "completion"


async def test_scoring_alone_generates_nothing(make: Make) -> None:
    scripted = make("way")
    sampling = SamplingParams(temperature=0, max_tokens=0, prompt_logprobs=0)
    ids = tuple(scripted.tokenizer.encode("the stones"))
    request = CompletionRequest(model="scripted", prompt=ids, sampling=sampling, echo=True)
    echo, choice_end, closing = [event async for event in scripted.provider.complete(request)]
    assert isinstance(echo, PromptEcho)
    assert echo.text == "the stones"
    assert choice_end == ChoiceEnd(0, "length")
    assert isinstance(closing, StreamEnd)
    assert closing.usage.completion_tokens == 0


async def test_replay_of_another_artifact_is_refused(make: Make) -> None:
    scripted = make("x")
    await events_of(scripted, chat())
    with pytest.raises(IntegrityError, match="was made by"):
        await scripted.provider.replay(replace(scripted.receipts[0], artifact="sha256:" + "0" * 64))


async def test_replay_says_where_it_differs(make: Make) -> None:
    scripted = make("stones")
    await events_of(scripted, chat(SamplingParams(temperature=0, n=2)))
    (receipt,) = scripted.receipts
    assert (await scripted.provider.replay(receipt)).is_same
    outputs = [list(tokens) for tokens in receipt.outputs]
    outputs[1][2] += 1
    found = await scripted.provider.replay(replace(receipt, outputs=outputs))
    assert found.difference is not None
    assert (found.difference.choice, found.difference.position) == (1, 2)
    assert found.difference.recorded == outputs[1][2]


@given(
    st.builds(
        SamplingParams,
        temperature=st.floats(0, 2),
        seed=st.none() | st.integers(0, 2**31),
        stop=st.lists(st.text(min_size=1), max_size=2).map(tuple),
        stop_token_ids=st.lists(st.integers(0, 9), max_size=2).map(tuple),
        logit_bias=st.dictionaries(st.integers(0, 9), st.floats(-100, 100), max_size=2),
    )
)
def test_sampling_survives_json(sampling: SamplingParams) -> None:
    assert sampling_from_json(json.loads(json.dumps(sampling_json(sampling)))) == sampling
