"""The local provider: chat template, token ids, engine, text again, and a receipt that replays.

Every request gets a concrete seed and its receipt is stored before the last event, also when the
reader leaves half-way: what was said can be made again. Text is encoded and receipts are written in threads,
so that one long prompt does not hold up everybody's streams.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from time import perf_counter_ns
from typing import Any, Literal

from cairn.core.chat import (
    ChatEvent,
    ChatRequest,
    ImagePart,
    Principal,
    SamplingParams,
    StreamEnd,
    TokenLogprob,
    Usage,
)
from cairn.core.errors import IntegrityError, InvalidRequestError
from cairn.core.grammar import Grammar
from cairn.core.ids import random_bits
from cairn.data import Tokenizer, encode_chat
from cairn.engine import AsyncEngine, PromptLogprob, PromptOutput, Request, ShareConfig, Timing, TokenOutput
from cairn.providers.choice import Choice
from cairn.providers.detokenizer import Detokenizer, bytes_of
from cairn.providers.protocol import CompletionEvent, CompletionRequest, Load, PromptEcho, TenantLoad
from cairn.providers.receipt_writer import SaveReceipt
from cairn.providers.receipts import message_json, sampling_json
from cairn.providers.replay import Replay, compile_ahead, replay_tokens
from cairn.providers.timing import tell_timing
from cairn.providers.tool_calls import ToolCallParser, ToolFormat, format_of
from cairn.providers.tool_grammar import call_grammar
from cairn.registry import Receipt, new_receipt_id
from cairn.telemetry import Span, current

_SEED_BITS = 31  # so that every JSON reader keeps it exactly
_NOT_OPTIONS = frozenset({"self", "tokenizer", "messages", "tools", "control_tokens", "_marks"})
"""What a chat template is given otherwise than by a request's options."""
_BEHIND = 1000
"""Added to the priority of what nobody waits for; shares give at most 100."""
_INLINE_CHARACTERS = 4000
"""Shorter texts are encoded without the cost of a thread switch."""


@dataclass(slots=True, kw_only=True)
class _Reply:
    """One reply being made: what goes in, what its receipt will say."""

    kind: Literal["chat", "completion"]
    model: str
    prompt: tuple[int, ...]
    sampling: SamplingParams
    receipt_id: str
    principal: Principal | None
    request: Mapping[str, Any]
    meter: Callable[[Usage], None] | None
    trace_id: str = field(default_factory=lambda: current().trace_id)
    tool_format: ToolFormat | None = None
    tool_names: frozenset[str] = frozenset()
    choices: list[Choice] = field(default_factory=list)
    num_cached: int = 0

    @property
    def usage(self) -> Usage:
        """What was computed so far; a prompt counts once the engine has taken it."""
        return Usage(
            prompt_tokens=len(self.prompt),
            completion_tokens=sum(len(choice.token_ids) for choice in self.choices),
            cached_tokens=self.num_cached,
        )


class LocalProvider:
    """The `ChatProvider` of one artifact on one engine. The engine must be started."""

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        tokenizer: Tokenizer,
        name: str,
        artifact_digest: str,
        eos_token_ids: Sequence[int],
        save_receipt: SaveReceipt,
        sampling_defaults: Mapping[str, Any] | None = None,
        runner: Mapping[str, Any] | None = None,
        adapter_digest: str = "",
    ) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.name = name
        self.artifact_digest = artifact_digest
        self.eos_token_ids = tuple(eos_token_ids)
        self.sampling_defaults = dict(sampling_defaults or {})
        self.runner = dict(runner or {})
        self.adapter_digest = adapter_digest
        self._save_receipt = save_receipt
        template = tokenizer.chat_template
        self._tool_format = format_of(template.source) if template else None

    def adapted(self, name: str, digest: str) -> "LocalProvider":
        """The same model on the same engine with an adapter, which the engine holds under its digest."""
        other = copy(self)
        other.name, other.adapter_digest = name, digest
        return other

    def models(self) -> tuple[str, ...]:
        """The name it was loaded under."""
        return (self.name,)

    @property
    def context_length(self) -> int:
        """Most tokens of a prompt and its reply."""
        return self.engine.engine.max_model_len

    def count_tokens(self, text: str) -> int:
        """Tokens of a text."""
        return len(self.tokenizer.encode(text))

    async def count_prompt(self, request: ChatRequest) -> int:
        """Tokens of what the model is given for a chat, as `stream` would give it."""
        return len((await self._prepare_chat(request)).prompt)

    @property
    def resident_bytes(self) -> int:
        """Memory of the weights, the key-value cache and the adapters."""
        return self.engine.engine.num_bytes + self.engine.engine.adapters.num_bytes

    @property
    def spare_bytes(self) -> int:
        """Memory of adapters that nobody uses."""
        return self.engine.engine.adapters.idle_bytes

    def trim(self, num_bytes: int) -> int:
        """Let adapters go that nobody uses, the longest unused first."""
        return self.engine.engine.adapters.trim(num_bytes)

    @property
    def is_healthy(self) -> bool:
        """Whether the engine takes requests."""
        return self.engine.is_healthy

    def close(self) -> None:
        """Stop the engine and free its memory; open streams end with an error."""
        self.engine.stop()
        self.engine.engine.close()

    def load(self) -> Load:
        """How busy the engine is."""
        stats = self.engine.stats()
        return Load(
            running=stats.num_running,
            waiting=stats.num_waiting,
            seconds_per_request=self.engine.seconds_per_request,
            blocks_used=stats.num_used_blocks,
            blocks_total=stats.num_blocks,
            tokens_guessed=stats.num_drafted_tokens,
            tokens_guessed_right=stats.num_accepted_tokens,
            tenants=tuple(
                TenantLoad(each.tenant, each.num_waiting, each.num_running, each.num_computed_tokens)
                for each in stats.tenants
            ),
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """Events of the reply; closing the iterator aborts the generation and stores what was said."""
        self._check_room(request.principal)
        with current().child("encode prompt"):
            reply = await self._prepare_chat(request)
        async with aclosing(self._run(reply)) as events:
            async for event in events:
                assert not isinstance(event, PromptEcho), "chats have no echo"
                yield event

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[CompletionEvent, None]:
        """Events of the continuation of a plain prompt; the first is its echo when asked for."""
        self._check_room(request.principal)
        with current().child("encode prompt"):
            prompt = await self._prompt_ids(request.prompt)
        reply = _Reply(
            kind="completion",
            model=request.model,
            prompt=prompt,
            sampling=_with_seed(request.sampling),
            receipt_id=request.request_id or new_receipt_id(),
            principal=request.principal,
            request=request.record,
            meter=request.meter,
        )
        if request.echo and request.sampling.prompt_logprobs is None:
            yield PromptEcho(self._echo_text(request.prompt), ())
        async with aclosing(self._run(reply)) as events:
            async for event in events:
                if isinstance(event, PromptEcho):
                    event = PromptEcho(self._echo_text(request.prompt), event.tokens)
                yield event

    async def replay(self, receipt: Receipt) -> Replay:
        """Make an answer again from its receipt, and compare."""
        made_by = (receipt.artifact, receipt.adapter)
        if made_by != (self.artifact_digest, self.adapter_digest):
            raise IntegrityError(
                f"receipt {receipt.receipt_id} was made by {' with '.join(filter(None, made_by))}, "
                f"loaded is {' with '.join(filter(None, (self.artifact_digest, self.adapter_digest)))}",
                remedy="load the artifact that the receipt names",
            )
        return await replay_tokens(self.engine, receipt, self.eos_token_ids)

    async def _prepare_chat(self, request: ChatRequest) -> _Reply:
        if any(isinstance(part, ImagePart) for message in request.messages for part in message.content):
            raise InvalidRequestError(
                f"{request.model} reads text only, a message holds an image", param="messages"
            )
        if taken := sorted(_NOT_OPTIONS & request.template_options.keys()):
            raise InvalidRequestError(
                f"chat_template_kwargs holds {', '.join(taken)}, which the request itself says",
                remedy="leave it out there",
                param="chat_template_kwargs",
            )
        tools = request.tools if request.tool_choice != "none" else ()
        tool_format = self._tool_format if tools else None
        if tools and tool_format is None:
            raise InvalidRequestError(
                f"{request.model} knows no tool calls: its chat template has no place for tools",
                remedy="leave tools out, or use a model that was trained to call them",
                param="tools",
            )
        grammar = self._grammar(request, tool_format)
        if tool_format is not None and request.sampling.grammar is not None:
            # The reply is a document or calls: a mark in the midst of a document is part of it.
            tool_format = replace(tool_format, at_beginning_only=True)

        def encode() -> tuple[int, ...]:
            return tuple(encode_chat(self.tokenizer, request.messages, tools, **request.template_options))

        size = sum(len(message.text) for message in request.messages)
        return _Reply(
            kind="chat",
            model=request.model,
            prompt=await _maybe_in_thread(encode, size),
            sampling=_with_seed(replace(request.sampling, grammar=grammar)),
            receipt_id=request.request_id or new_receipt_id(),
            principal=request.principal,
            request={
                "messages": [message_json(message) for message in request.messages],
                "tools": [asdict(tool) for tool in request.tools],
                "tool_choice": request.tool_choice,
                **request.record,
            },
            meter=request.meter,
            tool_format=tool_format,
            tool_names=frozenset(tool.name for tool in tools),
        )

    def _grammar(self, request: ChatRequest, tool_format: ToolFormat | None) -> Grammar | None:
        """What the reply must be: what was asked for, a demanded call, or either where both are offered."""
        asked = request.sampling.grammar
        is_json = asked is not None and asked.kind in ("json_schema", "json_object")
        if tool_format is None or (request.tool_choice == "auto" and not is_json):
            return asked
        if asked is not None and not is_json:
            raise InvalidRequestError(
                f"a {asked.kind} and tool_choice {request.tool_choice!r} contradict each other",
                remedy="leave one of them out",
                param=asked.param,
            )
        is_any = request.tool_choice in ("auto", "required")
        return call_grammar(
            tool_format,
            [tool for tool in request.tools if is_any or tool.name == request.tool_choice],
            self.tokenizer,
            is_many=is_any and request.parallel_tool_calls,
            document=asked if request.tool_choice == "auto" else None,
        )

    async def _prompt_ids(self, prompt: str | tuple[int, ...]) -> tuple[int, ...]:
        if not isinstance(prompt, str):
            return prompt
        ids = await _maybe_in_thread(lambda: self.tokenizer.encode(prompt, add_bos=True), len(prompt))
        if not ids and self.tokenizer.bos_token_id is not None:
            return (self.tokenizer.bos_token_id,)  # the empty prompt: from the beginning of a text
        return tuple(ids)

    def _echo_text(self, prompt: str | tuple[int, ...]) -> str:
        return prompt if isinstance(prompt, str) else self.tokenizer.decode(prompt)

    def _line(self, principal: Principal | None) -> tuple[str, ShareConfig]:
        """The tenant that somebody's requests wait as, and its share."""
        user_id = principal.user_id if principal else ""
        share = self.engine.engine.config.share_of(user_id, principal.roles if principal else frozenset())
        # A line of its own, so that it is not for what waits there that somebody's chat is late.
        is_background = principal is not None and principal.is_background
        return f"{user_id} (background)" if is_background else user_id, share

    def _check_room(self, principal: Principal | None) -> None:
        """Refuse at once what the engine would refuse: under load most of what comes is refused."""
        tenant, share = self._line(principal)
        self.engine.check_room(tenant, share.weight)

    async def _run(self, reply: _Reply) -> AsyncGenerator[CompletionEvent, None]:
        """Generate, hand on, and store the receipt whatever happens after the engine took the request."""
        visible = reply.tool_format.marks if reply.tool_format else frozenset()
        reply.choices = [self._choice(reply, index, visible) for index in range(reply.sampling.n)]
        await compile_ahead(self.engine, reply.sampling)
        is_background = reply.principal is not None and reply.principal.is_background
        tenant, share = self._line(reply.principal)
        span = current()
        timing = Timing() if span else None
        asked = perf_counter_ns()
        outputs = self.engine.generate(
            Request(
                reply.receipt_id,
                reply.prompt,
                reply.sampling,
                self.eos_token_ids,
                adapter=self.adapter_digest,
                priority=share.priority + (_BEHIND if is_background else 0),
                tenant=tenant,
                weight=share.weight,
                kv_share=share.kv_share,
                timing=timing,
            )
        )
        try:
            async for output in outputs:
                if isinstance(output, PromptOutput):
                    yield PromptEcho("", tuple(self._prompt_token(token) for token in output.logprobs))
                    continue
                reply.num_cached = output.num_cached_tokens
                choice = reply.choices[output.index]
                for event in self._push(choice, output):
                    yield event
                if choice.reason and all(each.reason for each in reply.choices):
                    break
        finally:
            if reply.meter is not None:
                reply.meter(reply.usage)
            # Shielded: the reader may have been cancelled, the receipt is stored all the same.
            await asyncio.shield(asyncio.create_task(self._close(outputs, reply, span)))
            if timing is not None:
                tell_timing(span, timing, asked, reply.usage)
        yield StreamEnd(reply.usage, reply.receipt_id)

    async def _close(self, outputs: Any, reply: _Reply, span: Span) -> None:
        await outputs.aclose()
        with span.child("store receipt"):
            await self._save_receipt(self._receipt(reply))

    def _choice(self, reply: _Reply, index: int, visible: frozenset[str]) -> Choice:
        parser = ToolCallParser(reply.tool_format, reply.tool_names) if reply.tool_format else None
        detokenizer = Detokenizer(self.tokenizer, visible=visible)
        return Choice(index, detokenizer, reply.sampling.stop, parser)

    def _push(self, choice: Choice, output: TokenOutput) -> list[ChatEvent]:
        if choice.reason is not None:
            return []  # ended by a stop string; its siblings still run
        if output.token_id is None:
            return choice.end(output.finish_reason or "abort")
        logprob = None
        if output.logprob is not None:
            logprob = self._token(output.token_id, output.logprob, output.top_logprobs)
        return choice.push(
            output.token_id,
            logprob=logprob,
            reason=output.finish_reason,
            stop_token_id=output.stop_token_id,
        )

    def _prompt_token(self, found: PromptLogprob) -> TokenLogprob:
        return self._token(
            found.token_id, math.nan if found.logprob is None else found.logprob, found.top_logprobs
        )

    def _token(self, token_id: int, logprob: float, top: Sequence[tuple[int, float]] = ()) -> TokenLogprob:
        raw = bytes_of(self.tokenizer, token_id)
        alternatives = tuple(self._token(other, value) for other, value in top)
        return TokenLogprob(token_id, token_text(raw), raw, logprob, alternatives)

    def _receipt(self, reply: _Reply) -> Receipt:
        return Receipt(
            receipt_id=reply.receipt_id,
            created_at=time.time(),
            kind=reply.kind,
            model=reply.model,
            artifact=self.artifact_digest,
            adapter=self.adapter_digest,
            prompt_token_ids=list(reply.prompt),
            sampling=sampling_json(reply.sampling),
            outputs=[choice.token_ids for choice in reply.choices],
            finish_reasons=[choice.reason or "abort" for choice in reply.choices],
            runner=self.runner,
            user_id=reply.principal.user_id if reply.principal else "",
            request=reply.request,
            trace_id=reply.trace_id,
        )


def token_text(raw: bytes) -> str:
    """A token's bytes as text; bytes that are no characters are spelled out, as OpenAI does."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def _with_seed(sampling: SamplingParams) -> SamplingParams:
    if sampling.seed is not None:
        return sampling
    return replace(sampling, seed=random_bits(_SEED_BITS))


async def _maybe_in_thread(work: Callable[[], Sequence[int]], size: int) -> tuple[int, ...]:
    if size <= _INLINE_CHARACTERS:
        return tuple(work())
    return tuple(await asyncio.to_thread(work))
