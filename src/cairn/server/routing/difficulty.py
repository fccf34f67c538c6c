"""How hard a request looks, from 0 to 1, by what can be seen without a model.

It is a guess and says so: a long text, code, several questions, demanding words, tools and a long
conversation each add to it. Measure on your own requests before you trust a threshold.
"""

import re
from collections.abc import Sequence

from cairn.core.chat import ChatRequest, ImagePart, TextDelta
from cairn.providers.protocol import CompletionEvent

_CODE = re.compile(
    r"```|^\s*(?:def|class|import|function|SELECT|#include|public|const|let|var)\b|[{};]\s*$", re.M
)
_DEMANDING = re.compile(
    r"\b(?:prove|derive|explain|why|analy[sz]e|compare|design|implement|refactor|debug|optimi[sz]e|calculate|"
    r"compute|translate|summari[sz]e|step by step|reason)\b",
    re.I,
)
_LONG_CHARACTERS = 4000
_MANY_TURNS = 10


def difficulty(request: ChatRequest) -> float:
    """The score of a conversation's last question and what comes with it."""
    asked = next((message.text for message in reversed(request.messages) if message.role == "user"), "")
    num_characters = sum(len(message.text) for message in request.messages)
    score = 0.35 * min(1.0, num_characters / _LONG_CHARACTERS)
    score += 0.2 * (_CODE.search(asked) is not None)
    score += 0.1 * min(1.0, max(0, asked.count("?") - 1) / 2)
    score += 0.15 * min(1.0, len(_DEMANDING.findall(asked)) / 2)
    score += 0.1 * bool(request.tools)
    score += 0.05 * min(1.0, len(request.messages) / _MANY_TURNS)
    score += 0.05 * any(
        isinstance(part, ImagePart) for message in request.messages for part in message.content
    )
    return score


def mean_logprob(events: Sequence[CompletionEvent]) -> float | None:
    """The mean log-probability of a reply's tokens; None where it was told none."""
    values = [token.logprob for event in events if isinstance(event, TextDelta) for token in event.logprobs]
    return sum(values) / len(values) if values else None
