"""Questions that were answered before and mean the same, by the packaged encoder.

What may be compared at all is a *scope*: everything that decides an answer beside the words of the last
message, who asks and what they may included. Within one, the likest question counts if it is at least `LIKE`
and no number and no negation is in one alone, which encoders hardly see. `LIKE` was set on the training
questions of FeedbackQA by `benchmarks.gateway.similar`.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cairn.core.bounded_cache import BoundedCache
from cairn.core.chat import ChatRequest, Message, TextPart
from cairn.engine.runner import FloatArray
from cairn.providers.protocol import TextProvider

LIKE = 0.94
"""The least whole hundredth at which at most 1 % of the training questions are answered as another one."""
MOST_CHARACTERS = 500
"""Longer questions are not compared: an encoder sees one part of them and blurs the rest."""
_MOST_IN_SCOPE = 1000
_QUESTION_BYTES = 400
_WORD = re.compile(r"[^\W_]+")
_NEGATIONS = frozenset(
    {"no", "not", "never", "nor", "neither", "none", "nobody", "nothing", "without", "cannot"}
)

Embed = Callable[[str], Awaitable[FloatArray | None]]
"""A unit vector of a question; None where there is no encoder, or the question is too long for it."""


def question_of(provider: TextProvider, chat: ChatRequest) -> tuple[bytes, str] | None:
    """Scope and words of a question; None where the last message is no short text of the user's."""
    last = chat.messages[-1]
    if chat.principal is None or last.role != "user" or last.tool_calls:
        return None
    if len(last.content) != 1 or not isinstance(part := last.content[0], TextPart):
        return None
    if not 0 < len(part.text.strip()) <= MOST_CHARACTERS:
        return None
    who = chat.principal
    more = (
        sorted(who.groups),
        sorted(who.roles),
        None if who.scopes is None else sorted(who.scopes),
        None if who.models is None else sorted(who.models),
        chat.model,
        last.name,
    )
    return digest_of(provider, chat, chat.messages[:-1], *more), part.text


def digest_of(provider: TextProvider, chat: ChatRequest, messages: Sequence[Message], *more: object) -> bytes:
    """Of everything that decides the answer to somebody's messages, and of more."""
    parts = (
        chat.principal.user_id if chat.principal else "",
        provider.artifact_digest,
        provider.adapter_digest,
        messages,
        chat.sampling,
        chat.tools,
        chat.tool_choice,
        chat.parallel_tool_calls,
        chat.template_options,
        *more,
    )
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()


def marks(text: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """What two questions must have in common to the letter: words with digits, in order, and negations."""
    words = _WORD.findall(text.lower().replace("’", "'").replace("n't", " not"))
    return tuple(each for each in words if any(map(str.isdigit, each))), _NEGATIONS.intersection(words)


@dataclass(frozen=True, slots=True)
class Found:
    """An answered question that means the same."""

    key: bytes
    """Under which its answer is held."""
    similarity: float


@dataclass(slots=True)
class _Scope:
    vectors: FloatArray
    keys: list[bytes]
    marks: list[Any]
    next: int = 0
    """Where the next question goes, in place of the oldest once all places are taken."""


class Similar:
    """The questions whose answers are held: at most `max_bytes`, and a thousand in each scope."""

    def __init__(self, max_bytes: int, *, like: float = LIKE) -> None:
        self._like = like
        self._scopes = BoundedCache[bytes, _Scope](max_bytes)

    def find(self, scope: bytes, text: str, vector: FloatArray) -> Found | None:
        """The likest question of a scope, where it is like enough."""
        held = self._scopes.get(scope)
        if held is None:
            return None
        scores = held.vectors[: len(held.keys)] @ vector
        given = marks(text)
        for place in np.argsort(-scores):
            if scores[place] < self._like:
                return None
            if held.marks[place] == given:
                return Found(held.keys[place], min(1.0, float(scores[place])))
        return None

    def add(self, scope: bytes, text: str, vector: FloatArray, key: bytes) -> None:
        """Hold a question whose answer is held under `key`."""
        held = self._scopes.get(scope)
        if held is None:
            held = _Scope(np.zeros((1, len(vector)), np.float32), [], [])
        if held.next == len(held.vectors) and held.next < _MOST_IN_SCOPE:
            wider = np.zeros((min(_MOST_IN_SCOPE, 2 * held.next), len(vector)), np.float32)
            wider[: held.next] = held.vectors
            held.vectors = wider
        place = held.next % _MOST_IN_SCOPE
        held.vectors[place] = vector
        if place == len(held.keys):
            held.keys.append(key)
            held.marks.append(marks(text))
        else:
            held.keys[place], held.marks[place] = key, marks(text)
        held.next = place + 1
        self._scopes.put(scope, held, held.vectors.nbytes + _QUESTION_BYTES * len(held.keys))

    @property
    def num_bytes(self) -> int:
        """Memory that questions take."""
        return self._scopes.num_bytes
