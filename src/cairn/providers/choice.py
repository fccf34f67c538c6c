"""One choice of a reply: token ids in, events out. Detokenising, stop strings and tool calls meet here."""

from collections.abc import Sequence

from cairn.core.chat import (
    ChatEvent,
    ChoiceEnd,
    FinishReason,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
)
from cairn.providers.detokenizer import Detokenizer
from cairn.providers.stops import StopMatcher
from cairn.providers.tool_calls import ToolCallParser


class Choice:
    """The text side of one sampled sequence, and the token ids it was made of."""

    def __init__(
        self, index: int, detokenizer: Detokenizer, stops: Sequence[str], parser: ToolCallParser | None
    ) -> None:
        self.index = index
        self.token_ids: list[int] = []
        self.reason: FinishReason | None = None
        self._detokenizer = detokenizer
        self._stops = StopMatcher(stops)
        self._parser = parser
        self._logprobs: list[TokenLogprob] = []
        self._num_calls = 0

    def push(
        self,
        token_id: int,
        *,
        logprob: TokenLogprob | None = None,
        reason: FinishReason | None = None,
        stop_token_id: int | None = None,
    ) -> list[ChatEvent]:
        """The events that this token brings about; the token that ends the reply has no text."""
        assert self.reason is None, "this choice has ended"
        self.token_ids.append(token_id)
        if logprob is not None:
            self._logprobs.append(logprob)
        text = "" if stop_token_id is not None else self._detokenizer.push(token_id)
        if reason is not None:
            text += self._detokenizer.finish()
        safe, stop = self._stops.push(text)
        if stop is not None:
            return self._events(safe) + self.end("stop", stop)
        if reason is None:
            return self._events(safe)
        return self._events(safe + self._stops.finish()) + self.end(reason, stop_token_id)

    def end(self, reason: FinishReason, stop: str | int | None = None) -> list[ChatEvent]:
        """Close the choice; what the tool parser still held comes out first."""
        events = self._wrap(self._parser.finish()) if self._parser else []
        if self._num_calls and reason == "stop":
            reason = "tool_calls"
        self.reason = reason
        if self._logprobs:
            events.append(self._text(""))
        return [*events, ChoiceEnd(self.index, reason, stop)]

    def _events(self, text: str) -> list[ChatEvent]:
        if not text:
            return []
        return self._wrap(self._parser.push(text)) if self._parser else [self._text(text)]

    def _wrap(self, found: Sequence[str | ToolCall]) -> list[ChatEvent]:
        events: list[ChatEvent] = []
        for piece in found:
            if isinstance(piece, str):
                events.append(self._text(piece))
            else:
                events.append(ToolCallDelta(self.index, self._num_calls, piece))
                self._num_calls += 1
        return events

    def _text(self, text: str) -> TextDelta:
        logprobs, self._logprobs = tuple(self._logprobs), []
        return TextDelta(self.index, text, logprobs)
