"""`RemoteProvider`: a model of another server as a `TextProvider`.

A reply that is read as it is made comes as a stream, any other in one piece. Its receipt is kept before the
last event, also when the reader leaves half-way; it names who answered, and cannot be replayed.
"""

import logging
import time
from asyncio import CancelledError, create_task, shield
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic_core import to_json

from cairn.core.chat import ChatEvent, ChatRequest, ChoiceEnd, StreamEnd, TextDelta, ToolCallDelta, Usage
from cairn.core.embedding import Embeddings, TextInput
from cairn.core.errors import InvalidRequestError, StorageError
from cairn.providers.protocol import CompletionEvent, CompletionRequest, Load, PromptEcho
from cairn.providers.receipt_writer import SaveReceipt
from cairn.providers.receipts import message_json, sampling_json
from cairn.providers.remote import anthropic_shape, openai_shape
from cairn.providers.remote.config import ProviderConfig
from cairn.providers.remote.connection import Answer, Upstream
from cairn.providers.remote.errors import (
    UnfitTargetError,
    UpstreamError,
    UpstreamGarbageError,
    UpstreamUnavailableError,
    error_of,
)
from cairn.providers.remote.events import json_events, json_object
from cairn.registry import Receipt, new_receipt_id
from cairn.telemetry import current

logger = logging.getLogger("cairn.providers")

Reader = openai_shape.ReplyReader | anthropic_shape.ReplyReader

_MOST_ERROR_BYTES = 1_000_000
_MOST_ANSWER_BYTES = 100_000_000
_CHECK_SECONDS = 10.0
_BYTES_PER_TOKEN = 4
"""Of English text in the vocabularies of today's models; for estimates where an upstream gives no count."""


@dataclass(slots=True, kw_only=True)
class _Reply:
    """One reply being read: what its receipt will say."""

    kind: Literal["chat", "completion"]
    request: ChatRequest | CompletionRequest
    reader: Reader
    receipt_id: str
    record: Mapping[str, Any]
    trace_id: str = field(default_factory=lambda: current().trace_id)
    texts: defaultdict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    reasons: dict[int, str] = field(default_factory=dict)


class RemoteProvider:
    """One model of one upstream. Providers of one upstream share its connections."""

    artifact_digest = adapter_digest = ""

    def __init__(
        self, upstream: Upstream, model: str, save_receipt: SaveReceipt, *, secret: str = ""
    ) -> None:
        self.upstream = upstream
        self.model = model
        self.name = f"{upstream.name}/{model}"
        self.sampling_defaults: Mapping[str, Any] = {}
        self._save_receipt = save_receipt
        self._secret = secret
        self._num_running = 0

    @property
    def config(self) -> ProviderConfig:
        return self.upstream.config

    @property
    def context_length(self) -> int:
        """What the routes' file says of it."""
        return self.config.context_length

    def count_tokens(self, text: str) -> int:
        """An estimate: the upstream's vocabulary is not known here."""
        return len(text.encode()) // _BYTES_PER_TOKEN + 1

    async def count_prompt(self, request: ChatRequest) -> int:
        """An estimate, for the same reason: of the texts, the calls and the tools."""
        texts = [message.text for message in request.messages]
        texts += [call.name + call.arguments for message in request.messages for call in message.tool_calls]
        texts += [f"{tool.name} {tool.description} {dict(tool.parameters)}" for tool in request.tools]
        return sum(map(self.count_tokens, texts))

    def models(self) -> tuple[str, ...]:
        """Its name."""
        return (self.name,)

    def load(self) -> Load:
        """Replies that are being read."""
        return Load(running=self._num_running)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """Events of the reply; closing the iterator ends the upstream's request."""
        reader: Reader
        if self.config.kind == "anthropic":
            path, reader = "/messages", anthropic_shape.ReplyReader(self.upstream.name)
            body = anthropic_shape.chat_body(request, self.model, self.config)
        else:
            path, reader = "/chat/completions", openai_shape.ReplyReader(self.upstream.name)
            body = openai_shape.chat_body(request, self.model, self.config)
        record = {
            "messages": [message_json(message) for message in request.messages],
            "tools": [asdict(tool) for tool in request.tools],
            "tool_choice": request.tool_choice,
            **request.record,
        }
        reply = _Reply(
            kind="chat",
            request=request,
            reader=reader,
            receipt_id=request.request_id or new_receipt_id(),
            record=record,
        )
        async with aclosing(self._replied(reply, path, body)) as events:
            async for event in events:
                yield event

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[CompletionEvent, None]:
        """Events of the continuation of a plain prompt."""
        if self.config.kind == "anthropic":
            raise UnfitTargetError(
                "an Anthropic-shaped model completes no plain prompts",
                remedy="ask it at /v1/chat/completions",
            )
        if request.sampling.prompt_logprobs is not None:
            raise UnfitTargetError(
                f"{self.name} does not score prompts", remedy="ask a local model", param="echo"
            )
        prompt = request.prompt if isinstance(request.prompt, str) else list(request.prompt)
        reply = _Reply(
            kind="completion",
            request=request,
            reader=openai_shape.ReplyReader(self.upstream.name),
            receipt_id=request.request_id or new_receipt_id(),
            record={"prompt": prompt, **request.record},
        )
        body = openai_shape.completion_body(request, self.model, self.config)
        async with aclosing(self._replied(reply, "/completions", body)) as events:
            if request.echo:
                if not isinstance(request.prompt, str):
                    raise InvalidRequestError(
                        "a remote model's token ids cannot be echoed as text",
                        remedy="send text",
                        param="echo",
                    )
                yield PromptEcho(request.prompt, ())
            async for event in events:
                yield event

    async def embed(self, texts: Sequence[TextInput], dimensions: int | None = None) -> Embeddings:
        """Vectors of texts."""
        if self.config.kind == "anthropic":
            raise UnfitTargetError("an Anthropic-shaped provider embeds no texts")
        body: dict[str, Any] = {"model": self.model, "input": list(texts), "encoding_format": "float"}
        if dimensions is not None:
            body["dimensions"] = dimensions
        value = await self._whole("/embeddings", body)
        try:
            rows = sorted(value["data"], key=lambda row: int(row["index"]))
            vectors = np.array([row["embedding"] for row in rows], dtype=np.float32)
            if vectors.ndim != 2 or len(vectors) != len(texts):
                raise ValueError(f"{len(texts)} texts have vectors of shape {vectors.shape}")
            return Embeddings(vectors, int((value.get("usage") or {}).get("prompt_tokens") or 0))
        except (TypeError, KeyError, ValueError) as error:
            raise UpstreamGarbageError(
                f"provider {self.upstream.name!r} sent embeddings of another shape: {error}"
            ) from None

    async def check(self) -> list[str]:
        """Names of the upstream's models: whether it is there, and takes the key."""
        async with self.upstream.ask(
            "/models", None, first_seconds=_CHECK_SECONDS, whole_seconds=_CHECK_SECONDS
        ) as answer:
            if answer.status != 200:
                raise await self._error(answer)
            value = json_object(self.upstream.name, await answer.read(_MOST_ANSWER_BYTES))
        return [str(each["id"]) for each in value.get("data", ()) if isinstance(each, dict) and "id" in each]

    async def _replied(
        self, reply: _Reply, path: str, body: dict[str, Any]
    ) -> AsyncGenerator[ChatEvent, None]:
        has_begun = False
        if span := current():
            span.attributes |= self.upstream.described
        self._num_running += 1
        try:
            async with aclosing(self._events(reply, path, body)) as events:
                async for event in events:
                    has_begun = True
                    if isinstance(event, TextDelta):
                        reply.texts[event.index].append(event.text)
                    elif isinstance(event, ToolCallDelta):
                        reply.texts[event.index].append(f"\n{event.call.name} {event.call.arguments}")
                    elif isinstance(event, ChoiceEnd):
                        reply.reasons[event.index] = event.reason
                    yield event
        except (GeneratorExit, CancelledError, UpstreamError):
            if has_begun:
                await self._save_cut(reply)
            raise
        finally:
            self._num_running -= 1
            if has_begun and reply.request.meter is not None:
                reply.request.meter(reply.reader.usage or self._estimated(reply))
        usage = reply.reader.usage or self._estimated(reply)
        await self._save_receipt(self._receipt(reply))
        yield StreamEnd(usage, reply.receipt_id)

    async def _save_cut(self, reply: _Reply) -> None:
        """Store the receipt of what was said before a cut; where that fails, why it was cut is told."""
        try:
            # Shielded: the reader may have been cancelled, the receipt is stored all the same.
            await shield(create_task(self._save_receipt(self._receipt(reply))))
        except StorageError as error:
            logger.error(
                "receipt %s of a reply that was cut off is lost: %s", reply.receipt_id, error.message
            )

    async def _events(
        self, reply: _Reply, path: str, body: dict[str, Any]
    ) -> AsyncGenerator[ChatEvent, None]:
        reader = reply.reader
        if not reply.request.is_streamed:
            events = reader.read(await self._whole(path, body))
            self._check_whole(reply)
            for event in events:
                yield event
        else:
            seconds = self.config.first_token_seconds
            async with self.upstream.ask(path, to_json(body), first_seconds=seconds) as answer:
                if answer.status != 200:
                    raise await self._error(answer)
                async with (
                    aclosing(answer.chunks(seconds)) as chunks,
                    aclosing(json_events(self.upstream.name, chunks)) as values,
                ):
                    async for value in values:
                        if "error" in value and "choices" not in value:
                            raise self._said(500, value)
                        for event in reader.read(value):
                            yield event
            self._check_whole(reply)

    def _check_whole(self, reply: _Reply) -> None:
        if not reply.reader.is_complete or reply.reader.num_ended < reply.request.sampling.n:
            raise UpstreamUnavailableError(
                f"provider {self.upstream.name!r} broke off its answer", remedy="ask again"
            )

    async def _whole(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        seconds = self.config.whole_seconds
        async with self.upstream.ask(path, to_json(body), first_seconds=seconds) as answer:
            if answer.status != 200:
                raise await self._error(answer)
            value = json_object(self.upstream.name, await answer.read(_MOST_ANSWER_BYTES))
        if value.get("error") and "choices" not in value:
            raise self._said(500, value)
        return value

    async def _error(self, answer: Answer) -> UpstreamError:
        """The error of an answer that is none."""
        retry_after = _seconds(answer.headers.get("retry-after", ""))
        data = await answer.read(_MOST_ERROR_BYTES)
        try:
            value = json_object(self.upstream.name, data)
        except UpstreamGarbageError:
            value = {}
        return self._said(answer.status, value, retry_after)

    def _said(self, status: int, value: dict[str, Any], retry_after: float | None = None) -> UpstreamError:
        error = value.get("error")
        said = error if isinstance(error, dict) else {"message": error or value.get("message") or ""}
        message, code = str(said.get("message") or "no reason given"), said.get("code")
        if status == 500:  # or an error within a stream, where vLLM gives a code and Anthropic a type
            status = anthropic_shape.STATUS_OF.get(str(said.get("type")), status)
            status = code if isinstance(code, int) and 400 <= code < 600 else status
        if self._secret:
            message = message.replace(self._secret, "***")
        return error_of(self.upstream.name, status, message, code=str(code or ""), retry_after=retry_after)

    def _estimated(self, reply: _Reply) -> Usage:
        """Of an upstream that gives no counts."""
        request = reply.request
        if isinstance(request, ChatRequest):
            asked = "".join(message.text for message in request.messages)
        else:
            asked = request.prompt if isinstance(request.prompt, str) else ""
        said = "".join("".join(parts) for parts in reply.texts.values())
        return Usage(self.count_tokens(asked), self.count_tokens(said))

    def _receipt(self, reply: _Reply) -> Receipt:
        texts = ["".join(reply.texts[index]) for index in range(reply.request.sampling.n)]
        return Receipt(
            receipt_id=reply.receipt_id,
            created_at=time.time(),
            kind=reply.kind,
            model=reply.request.model,
            artifact="",
            prompt_token_ids=[],
            sampling=sampling_json(reply.request.sampling),
            outputs=[[] for _ in texts],
            finish_reasons=[reply.reasons.get(index, "abort") for index in range(len(texts))],
            runner={"name": "remote", "provider": self.upstream.name, "model": self.model}
            | {f"upstream_{name}": value for name, value in reply.reader.made_by.items()},
            user_id=reply.request.principal.user_id if reply.request.principal else "",
            request={**reply.record, "replies": texts},
            trace_id=reply.trace_id,
        )


def make_upstream(name: str, config: ProviderConfig) -> tuple[Upstream, str]:
    """The connections to a provider, with its key from the environment, and that key."""
    key = config.key(name)
    headers: dict[str, str] = {}
    if config.kind == "anthropic":
        headers = {"anthropic-version": anthropic_shape.VERSION} | ({"x-api-key": key} if key else {})
    elif key:
        headers = {"authorization": f"Bearer {key}"}
    return Upstream(name, config, headers), key


def make_remote_provider(
    name: str, config: ProviderConfig, model: str, save_receipt: SaveReceipt
) -> RemoteProvider:
    """A model of an upstream with connections of its own."""
    upstream, key = make_upstream(name, config)
    return RemoteProvider(upstream, model, save_receipt, secret=key)


def _seconds(text: str) -> float | None:
    """`Retry-After` in seconds; a date is not read, as clocks differ."""
    try:
        return max(0.0, float(text))
    except ValueError:
        return None
