"""`/v1/completions`: one or many prompts as text or token ids, with echo and log-probabilities.

`echo` with `logprobs` scores the prompt itself, as evaluation harnesses ask for it: every list of a choice's
`logprobs` then begins with the prompt's tokens, the first of which has no value.
"""

import asyncio
import codecs
import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from cairn.core.chat import ChoiceEnd, Principal, StreamEnd, TextDelta, TokenLogprob, Usage
from cairn.core.errors import InvalidRequestError
from cairn.providers.protocol import CompletionEvent, CompletionRequest, PromptEcho, TextProvider
from cairn.registry import new_receipt_id
from cairn.server.auth import Caller
from cairn.server.openai_types import TextCompletion, TextCompletionRequest, refuse
from cairn.server.replies import (
    Head,
    ending_json,
    fingerprint,
    metered,
    streamed,
    tell_target,
    usage_json,
)
from cairn.server.requests import given_of, new_completion_id, prompts_of, to_sampling
from cairn.server.state import ServerState, state_of
from cairn.server.streaming import DONE, STREAMED, EventStream, answer, frame, text_frames_like
from cairn.server.usage.admission import Admission, Ticket, about_tokens

router = APIRouter(prefix="/v1", tags=["openai"])

_DEFAULT_TOKENS = 16  # OpenAI's
_QUEUED_EVENTS = 64

Numbered = tuple[int, CompletionEvent]
Prompts = Mapping[str, str | tuple[int, ...]]
"""Each by the receipt its answer will have."""


@router.post("/completions", response_model=TextCompletion, responses=STREAMED)
async def text_completions(
    request: Request, caller: Caller, admission: Admission, body: TextCompletionRequest
) -> Response:
    """Continue one or many prompts."""
    state = state_of(request)
    _refuse_unserved(body)
    prompts = {new_receipt_id(): prompt for prompt in prompts_of(body, state.config.max_prompts)}
    headers = {"x-cairn-receipt": ",".join(prompts)}
    headers |= await admission.admit(
        body.model,
        prompt_tokens=about_tokens(list(prompts.values())),
        completion_tokens=_DEFAULT_TOKENS if body.max_tokens is None else body.max_tokens,
        num_choices=len(prompts) * (body.n or 1),
        receipt_id=next(iter(prompts)),
    )
    begin = partial(_begin, state, caller, admission, body, prompts, headers)
    if body.stream:
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        frames = streamed(
            state.models,
            body.model,
            lambda provider: text_frames(*begin(provider), body.n or 1, with_usage=with_usage),
        )
        return EventStream(frames, config=state.config, headers=headers)

    async def whole() -> dict[str, Any]:
        async with state.models.use(body.model) as provider:
            return await collect_text(*begin(provider), body.n or 1)

    return await answer(whole(), request, config=state.config, headers=headers)


def _begin(
    state: ServerState,
    caller: Principal,
    admission: Ticket,
    body: TextCompletionRequest,
    prompts: Prompts,
    headers: dict[str, str],
    provider: TextProvider,
) -> tuple[AsyncGenerator[Numbered, None], Head]:
    """The events of an answer, and what all its chunks repeat."""
    if len(prompts) == 1:
        tell_target(provider, headers)
    asked = _requests(body, caller, provider, prompts)
    streams = []
    for each in asked:
        counted = admission.counted()
        replied = provider.complete(replace(each, meter=counted.tell))
        streams.append(metered(replied, state.metrics, provider, counted, each))
    events = merged(streams)
    head = Head(
        id=new_completion_id("cmpl"),
        object="text_completion",
        model=body.model,
        system_fingerprint=fingerprint(provider),
    )
    return events, head


async def merged(streams: Sequence[AsyncGenerator[CompletionEvent, None]]) -> AsyncGenerator[Numbered, None]:
    """Events of many streams as they come, each with the number of its stream. One failure ends them all."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for each in only:
                yield 0, each
        return
    queue: asyncio.Queue[tuple[int, CompletionEvent | Exception | None]] = asyncio.Queue(_QUEUED_EVENTS)

    async def feed(number: int, stream: AsyncGenerator[CompletionEvent, None]) -> None:
        try:
            async for event in stream:
                await queue.put((number, event))
            await queue.put((number, None))
        except Exception as error:  # noqa: BLE001 (raised again below, in the reader's task)
            await queue.put((number, error))
        finally:
            await stream.aclose()

    tasks = [asyncio.create_task(feed(number, stream)) for number, stream in enumerate(streams)]
    num_open = len(tasks)
    try:
        while num_open:
            number, event = await queue.get()
            if isinstance(event, Exception):
                raise event
            if event is None:
                num_open -= 1
            else:
                yield number, event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _TextChoice:
    """A choice being put together; keeps the running text offset of its tokens."""

    def __init__(self) -> None:
        self.text = ""
        self.reason: str | None = None
        self.lists: dict[str, list[Any]] = _empty_lists()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def add(self, text: str, tokens: Sequence[TokenLogprob]) -> None:
        self.text += text
        for token in tokens:
            has_value = not math.isnan(token.logprob)
            self.lists["tokens"].append(token.token)
            self.lists["token_logprobs"].append(token.logprob if has_value else None)
            self.lists["top_logprobs"].append(_top(token) if has_value else None)
            self.lists["text_offset"].append(self._offset)
            self._offset += len(self._decoder.decode(token.raw_bytes))

    def take(self, index: int) -> dict[str, Any]:
        """The choice as far as it has come since the last call."""
        logprobs = self.lists if self.lists["tokens"] else None
        taken = {"index": index, "text": self.text, "logprobs": logprobs, "finish_reason": self.reason}
        self.text, self.lists = "", _empty_lists()
        return taken


async def collect_text(events: AsyncGenerator[Numbered, None], head: Head, n: int) -> dict[str, Any]:
    """Events as one answer."""
    choices: dict[int, _TextChoice] = {}
    endings: list[StreamEnd] = []
    try:
        async for number, event in events:
            if isinstance(event, StreamEnd):
                endings.append(event)
            else:
                _apply(choices, number, n, event)
    finally:
        await events.aclose()
    return head.as_json() | {
        "choices": [choices[index].take(index) for index in sorted(choices)],
        "usage": usage_json(_total(endings)),
        "cairn": ending_json(endings[0]),
    }


async def text_frames(
    events: AsyncGenerator[Numbered, None], head: Head, n: int, *, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    """Events as chunks. The end of a choice waits for what follows: the last one carries the receipt."""
    common = head.as_json() | ({"usage": None} if with_usage else {})
    choices: dict[int, _TextChoice] = {}
    plain: dict[int, Callable[[str], bytes]] = {}
    endings: list[StreamEnd] = []
    held: dict[str, Any] | None = None
    try:
        async for number, event in events:
            if isinstance(event, StreamEnd):
                endings.append(event)
                continue
            if held is not None:
                yield frame(held)
                held = None
            if isinstance(event, TextDelta) and not event.logprobs:
                index = number * n + event.index
                if index not in plain:
                    plain[index] = text_frames_like(partial(_plain, common, index))
                yield plain[index](event.text)
                continue
            for index in _apply(choices, number, n, event):
                chunk = common | {"choices": [choices[index].take(index)]}
                if isinstance(event, ChoiceEnd):
                    held = chunk
                else:
                    yield frame(chunk)
        assert held is not None, "a stream has at least one choice"
        if with_usage:
            yield frame(held)
            held = common | {"choices": [], "usage": usage_json(_total(endings))}
        yield frame(held | {"cairn": ending_json(endings[0])})
        yield DONE
    finally:
        await events.aclose()


def _plain(common: Mapping[str, Any], index: int, text: str) -> dict[str, Any]:
    choice = {"index": index, "logprobs": None, "finish_reason": None, "text": text}
    return {**common, "choices": [choice]}


def _apply(choices: dict[int, _TextChoice], number: int, n: int, event: CompletionEvent) -> list[int]:
    """Put an event into its choices, `i*n+j` for choice `j` of prompt `i`; returns which ones changed."""
    if isinstance(event, PromptEcho):
        indices = list(range(number * n, number * n + n))
        for index in indices:
            choices.setdefault(index, _TextChoice()).add(event.text, event.tokens)
        return indices
    assert isinstance(event, TextDelta | ChoiceEnd), "plain completion makes no calls"
    index = number * n + event.index
    choice = choices.setdefault(index, _TextChoice())
    if isinstance(event, TextDelta):
        choice.add(event.text, event.logprobs)
    else:
        choice.reason = event.reason
    return [index]


def _requests(
    body: TextCompletionRequest, caller: Principal, provider: TextProvider, prompts: Prompts
) -> list[CompletionRequest]:
    extra: dict[str, Any] = {
        "max_tokens": _DEFAULT_TOKENS if body.max_tokens is None else body.max_tokens,
        "logprobs": body.logprobs,
        "prompt_logprobs": body.logprobs if body.echo else None,
    }
    sampling = to_sampling(body, provider.sampling_defaults, **extra)
    return [
        CompletionRequest(
            model=body.model,
            prompt=prompt,
            sampling=sampling,
            echo=body.echo,
            principal=caller,
            request_id=receipt_id,
            given=given_of(body),
            is_streamed=bool(body.stream),
        )
        for receipt_id, prompt in prompts.items()
    ]


def _refuse_unserved(body: TextCompletionRequest) -> None:
    if body.suffix:
        raise InvalidRequestError(
            "suffix is not supported: this model continues text, it does not fill gaps", param="suffix"
        )
    if body.best_of not in (None, body.n or 1):
        raise refuse("best_of", body.best_of, "the value of n")
    if body.stream_options is not None and not body.stream:
        raise InvalidRequestError("stream_options needs stream: true", param="stream_options")


def _top(token: TokenLogprob) -> dict[str, float]:
    """Alternatives by their text, the token itself included; of two with equal text the likelier counts."""
    top: dict[str, float] = {}
    for each in (*token.top, token):
        top[each.token] = max(each.logprob, top.get(each.token, -math.inf))
    return top


def _empty_lists() -> dict[str, list[Any]]:
    return {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}


def _total(endings: Sequence[StreamEnd]) -> Usage:
    return sum((ending.usage for ending in endings), Usage(0, 0))
