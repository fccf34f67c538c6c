"""Template following: does a chat model end its turn by itself, with its end token, and leak nothing.

Works on token ids as generated, so that a stop string or a length limit cannot hide a model
that would have gone on. It judges form alone, not whether a reply is any good.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cairn.data import Tokenizer


@dataclass(frozen=True, slots=True)
class Reply:
    """One generated turn: the prompt's last user message, and the ids that came back, end token included."""

    prompt: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TemplateFollowing:
    """Shares of the replies, 0 to 1."""

    num_replies: int
    ended: float
    """Stopped by an end token before the length limit."""
    clean: float
    """No template token inside the text."""
    answered: float
    """Said anything at all."""
    mean_tokens: float


def template_following(
    replies: Sequence[Reply], tokenizer: Tokenizer, end_token_ids: Sequence[int]
) -> TemplateFollowing:
    """Judge replies; an empty list counts as nothing followed."""
    control = set(tokenizer.special_tokens.values())
    ends = set(end_token_ids)
    bodies = [_body(reply.token_ids, ends) for reply in replies]
    total = max(len(replies), 1)
    ended = sum(1 for reply in replies if reply.token_ids and reply.token_ids[-1] in ends)
    return TemplateFollowing(
        num_replies=len(replies),
        ended=ended / total,
        clean=sum(1 for body in bodies if not control & set(body)) / total,
        answered=sum(1 for body in bodies if tokenizer.decode(list(body), skip_special=True).strip()) / total,
        mean_tokens=sum(len(body) for body in bodies) / total,
    )


def _body(token_ids: tuple[int, ...], ends: set[int]) -> tuple[int, ...]:
    return token_ids[:-1] if token_ids and token_ids[-1] in ends else token_ids
