"""The span of an answer, in the words of OpenTelemetry's GenAI conventions."""

from collections import defaultdict
from time import perf_counter
from typing import Any

from cairn.core.chat import ChatRequest, ChoiceEnd, StreamEnd, TextDelta, ToolCallDelta
from cairn.providers.protocol import CompletionRequest, TextProvider
from cairn.telemetry import NULL, Span, current
from cairn.telemetry.redaction import Content
from cairn.telemetry.spans import Attributes

_PARAMETERS = (
    ("max_tokens", "gen_ai.request.max_tokens"),
    ("temperature", "gen_ai.request.temperature"),
    ("top_p", "gen_ai.request.top_p"),
    ("seed", "gen_ai.request.seed"),
)


class Answering:
    """One answer as its span tells it. Does nothing where nothing is recorded."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self._started = perf_counter()
        self._has_begun = False
        self._reasons: dict[int, str] = {}
        self._texts: defaultdict[int, list[str]] = defaultdict(list)

    def see(self, event: object) -> None:
        """What a piece of the answer adds to the span."""
        if isinstance(event, TextDelta | ToolCallDelta):
            if not self._has_begun:
                self._has_begun = True
                self.span.set("gen_ai.response.time_to_first_chunk", perf_counter() - self._started)
            if self.span.records_content:
                said = event.text if isinstance(event, TextDelta) else _call_text(event)
                self._texts[event.index].append(said)
        elif isinstance(event, ChoiceEnd):
            self._reasons[event.index] = event.reason

    def end(self, event: StreamEnd) -> None:
        """The answer is whole."""
        if not self.span:
            return
        self.span.attributes |= {
            "gen_ai.usage.input_tokens": event.usage.prompt_tokens,
            "gen_ai.usage.output_tokens": event.usage.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": event.usage.cached_tokens,
        }
        if event.receipt_id:
            self.span.set("cairn.receipt", event.receipt_id)
            self.span.note(receipt_id=event.receipt_id)
        if event.repeats:
            self.span.set("cairn.repeats", event.repeats)
        if event.target:
            self.span.set("cairn.target", event.target)

    def fail(self, error: Exception) -> None:
        """It was not to be."""
        self.span.fail(error)
        self.span.note(error=self.span.error)

    def close(self, outcome: str) -> None:
        """Nothing more will come."""
        span = self.span
        if not span:
            return
        if outcome == "aborted":
            span.set("cairn.aborted", True)
        if self._reasons:
            span.set("gen_ai.response.finish_reasons", [self._reasons[key] for key in sorted(self._reasons)])
        if self._texts:
            said = [
                {
                    "role": "assistant",
                    "content": "".join(texts),
                    "finish_reason": self._reasons.get(index, ""),
                }
                for index, texts in sorted(self._texts.items())
            ]
            span.record("gen_ai.output.messages", Content(said))
        span.end()


def begin_answer(provider: TextProvider, request: ChatRequest | CompletionRequest) -> Answering:
    """Begin the span of an answer; its provider's spans are within it."""
    parent = current()
    if not parent:
        return _NOTHING
    operation = "chat" if isinstance(request, ChatRequest) else "text_completion"
    sampling = request.sampling
    attributes: Attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "cairn",
        "gen_ai.request.model": request.model,
        "gen_ai.response.model": provider.name,
        "gen_ai.request.stream": request.is_streamed,
    }
    if sampling.n > 1:
        attributes["gen_ai.request.choice.count"] = sampling.n
    for name, attribute in _PARAMETERS:
        if (value := getattr(sampling, name)) is not None:
            attributes[attribute] = value
    if provider.artifact_digest:
        attributes["cairn.artifact"] = provider.artifact_digest
    if provider.adapter_digest:
        attributes["cairn.adapter"] = provider.adapter_digest
    span = parent.child(f"{operation} {request.model}", attributes)
    if span.records_content:
        span.record("gen_ai.input.messages", Content(_asked(request)))
    return Answering(span)


class _Nothing(Answering):
    def end(self, event: StreamEnd) -> None: ...

    def fail(self, error: Exception) -> None: ...

    def close(self, outcome: str) -> None: ...


_NOTHING = _Nothing(NULL)


def _asked(request: ChatRequest | CompletionRequest) -> list[dict[str, Any]]:
    if isinstance(request, CompletionRequest):
        prompt = request.prompt if isinstance(request.prompt, str) else f"{len(request.prompt)} token ids"
        return [{"role": "user", "content": prompt}]
    found = []
    for message in request.messages:
        calls = "".join(f"\n{call.name} {call.arguments}" for call in message.tool_calls)
        found.append({"role": message.role, "content": message.text + calls})
    return found


def _call_text(event: ToolCallDelta) -> str:
    return f"\n{event.call.name} {event.call.arguments}"
