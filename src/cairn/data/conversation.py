"""A conversation as token ids, with a loss mask that covers what the model itself has to say.

The mask covers exactly the assistant's tokens and the token that ends its turn. Where the chat
template marks them with `{% generation %}`, those spans count; where it does not, they are found by
rendering the conversation turn by turn. The prompt part is always tokenised as it is when serving,
never merged with the reply; when that or the span cannot be exact, it is an error, not a guess.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn.core.chat import Message, ToolDefinition, text_message
from cairn.core.errors import ConfigError, InvalidRequestError
from cairn.data.chat_template import ChatTemplate, Rendered
from cairn.data.tokenizer import Tokenizer

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """Token ids of a conversation, and which of them are learned (`loss_mask` [T] of bool)."""

    input_ids: NDArray[np.int64]
    loss_mask: NDArray[np.bool_]


def encode_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    tools: Sequence[ToolDefinition] = (),
    *,
    add_generation_prompt: bool = True,
    **options: Any,
) -> list[int]:
    """Token ids of a conversation for serving: the ids `render_for_training` puts before the next reply.

    Control tokens written in a message are encoded as the text they are.
    """
    conversation = _Conversation(tokenizer, messages, tools, options)
    rendered = conversation.render(len(messages), add_generation_prompt)
    try:
        spans = conversation.spans(rendered)
    except ConfigError:
        spans = []  # no loss mask is needed here, only the text
    return list(_encode(tokenizer, rendered, spans, is_training=False)[0])


def render_for_training(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    tools: Sequence[ToolDefinition] = (),
    **options: Any,
) -> TrainingExample:
    """Token ids and loss mask of a conversation; `ConfigError` when the mask cannot be exact."""
    conversation = _Conversation(tokenizer, messages, tools, options)
    rendered = conversation.render(len(messages), add_generation_prompt=False)
    ids, places = _encode(tokenizer, rendered, conversation.spans(rendered), is_training=True)
    mask = np.zeros(len(ids), dtype=np.bool_)
    for start, stop in places:
        mask[start : _end_of_turn(tokenizer, ids, start, stop)] = True
    return TrainingExample(np.asarray(ids, dtype=np.int64), mask)


def end_of_turn_id(tokenizer: Tokenizer) -> int:
    """The token with which the chat template ends a reply; serving stops at it."""
    example = render_for_training(tokenizer, [text_message("user", "a"), text_message("assistant", "b")])
    return int(example.input_ids[example.loss_mask][-1])


@dataclass(frozen=True, slots=True)
class _Conversation:
    tokenizer: Tokenizer
    messages: Sequence[Message]
    tools: Sequence[ToolDefinition]
    options: dict[str, Any]

    @property
    def template(self) -> ChatTemplate:
        if self.tokenizer.chat_template is None:
            raise ConfigError(
                "this tokenizer has no chat template",
                remedy="add a chat_template.jinja beside tokenizer.json, or use plain completion",
            )
        return self.tokenizer.chat_template

    def render(self, num_messages: int, add_generation_prompt: bool) -> Rendered:
        """The first `num_messages` turns."""
        named = {"bos_token": self.tokenizer.bos_token or "", "eos_token": self.tokenizer.eos_token or ""}
        return self.template.render_spans(
            self.messages[:num_messages],
            tools=self.tools,
            add_generation_prompt=add_generation_prompt,
            control_tokens=self.tokenizer.control_pattern,
            **named | self.options,
        )

    def spans(self, rendered: Rendered) -> list[Span]:
        """What the assistant says, its end token included where that is known from the text."""
        if self.template.has_generation:
            return [span for span in rendered.spans if span[0] < span[1]]
        places = [i for i, message in enumerate(self.messages) if message.role == "assistant"]
        return [self._span_of_turn(i, rendered.text) for i in places]

    def _span_of_turn(self, place: int, whole: str) -> Span:
        """Render up to the reply and past it: the difference is the reply."""
        before = self.render(place, add_generation_prompt=True).text
        after = self.render(place + 1, add_generation_prompt=False).text
        end = _last_control_token(self.tokenizer, after, len(before))
        if not after.startswith(before) or end is None or whole[:end] != after[:end]:
            raise ConfigError(
                f"the loss mask of message {place} cannot be exact: the chat template "
                + ("writes no end token after it" if end is None else "renders it differently as history"),
                remedy="put what the assistant says, with its end token, in {% generation %} ... "
                "{% endgeneration %} in the chat template",
            )
        return len(before), end


def _last_control_token(tokenizer: Tokenizer, text: str, start: int) -> int | None:
    """Where the last control token ends, if only white space follows it."""
    matches = list(tokenizer.control_pattern.finditer(text, start))
    if not matches or text[matches[-1].end() :].strip():
        return None
    return matches[-1].end()


def _end_of_turn(tokenizer: Tokenizer, ids: list[int], start: int, stop: int) -> int:
    """Move `stop` to just after the end token: over white space behind it, or forward onto it."""
    control = set(tokenizer.special_tokens.values())
    last = stop
    while (
        last > start and not tokenizer.decode(ids[last - 1 : last]).strip() and ids[last - 1] not in control
    ):
        last -= 1
    if last > start and ids[last - 1] in control:
        return last
    return stop + 1 if stop < len(ids) and ids[stop] in control else stop


def _encode(
    tokenizer: Tokenizer, rendered: Rendered, spans: list[Span], *, is_training: bool
) -> tuple[list[int], list[Span]]:
    """Token ids, and where in them the spans lie.

    Where text can be encoded in pieces, it is cut at every span, so that a prompt has the same tokens with
    and without its reply behind it. Elsewhere (a tokenizer that puts a space before every text) the whole
    is encoded, and a span that no token boundary meets is an error in training.
    """
    if tokenizer.is_concatenative:
        return _encode_pieces(tokenizer, rendered, spans)
    if rendered.cuts:
        raise InvalidRequestError(
            "a message holds one of the model's control tokens, which its tokenizer cannot take as text",
            remedy="remove it from the message",
            param="messages",
        )
    ids, offsets = tokenizer.encode_with_offsets(rendered.text, allow_special=True)
    places = [_place(offsets, span) for span in spans]
    if is_training:
        for (start, _), place in zip(spans, places, strict=True):
            prompt = tokenizer.encode(rendered.text[:start], allow_special=True)
            if place is None or prompt != ids[: place[0]]:
                raise ConfigError(
                    "the loss mask cannot be exact: the tokenizer joins the prompt with the reply",
                    remedy="change the chat template so that the prompt takes the space before the reply",
                )
    return ids, [place for place in places if place is not None]


def _encode_pieces(
    tokenizer: Tokenizer, rendered: Rendered, spans: list[Span]
) -> tuple[list[int], list[Span]]:
    borders = sorted({0, len(rendered.text), *rendered.cuts, *(edge for span in spans for edge in span)})
    ids: list[int] = []
    index_of = {0: 0}
    for start, stop in pairwise(borders):
        ids += tokenizer.encode(rendered.text[start:stop], allow_special=True)
        index_of[stop] = len(ids)
    return ids, [(index_of[start], index_of[stop]) for start, stop in spans]


def _place(offsets: Sequence[Span], span: Span) -> Span | None:
    """The tokens that make up exactly this span of characters, or None."""
    start, stop = span
    inside = [i for i, (left, right) in enumerate(offsets) if left < stop and right > start]
    if not inside or offsets[inside[0]][0] < start or offsets[inside[-1]][1] > stop:
        return None
    return inside[0], inside[-1] + 1
