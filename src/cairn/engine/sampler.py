"""Choosing the next token.

Order, as in vLLM: tokens that the sequence's grammar does not allow are out; log-probabilities are
those of the raw logits of the rest; then logit bias, repetition, presence and frequency penalties,
temperature, min-p, top-k, top-p (each on what the one before left, renormalised), and one draw by
inverting the cumulative distribution with the sequence's own counter-based uniform number. Tokens
that tie with the last one kept by a filter are kept too, so the outcome depends on values alone.

A row's token depends on its own logits, tokens and seed only. Rows that are greedy and want
nothing else cost one argmax. Plain numpy, so that it serves every runner.
"""

from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from cairn.core.chat import SamplingParams
from cairn.engine.constraint import Allowed
from cairn.engine.philox import uniforms
from cairn.engine.runner import FloatArray, IntArray, Logits
from cairn.engine.sequence import Sequence

_DRAWN_TOGETHER = 256
"""Tokens of a block in which weights are summed up."""
NOT_FINITE = "the model's logits are not finite"
TopLogprobs = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Sampled:
    """A chosen token, with log-probabilities where they were asked for."""

    token_id: int
    logprob: float | None = None
    top_logprobs: TopLogprobs = ()


_NONE = Sampled(-1)


@runtime_checkable
class DrawingLogits(Protocol):
    """Logits that draw tokens where they lie, with the same parameters and random numbers."""

    def draw(self, rows: list[int], seqs: Rows[Sequence]) -> IntArray:
        """The next token of each sequence from its row."""
        ...


class Sampler:
    """Picks one token for each of a step's finished rows."""

    def sample(
        self, logits: Logits, rows: list[int], seqs: Rows[Sequence], allowed: Rows[Allowed | None] = ()
    ) -> list[Sampled]:
        """Row `rows[i]` of the logits is the distribution of the next token of `seqs[i]`.

        `allowed[i]`, where there is one, has at least one token of the vocabulary.
        """
        if not rows:
            return []
        assert bool(allowed) or not any(seq.matcher for seq in seqs), "a constrained row needs its mask"
        special = [i for i, seq in enumerate(seqs) if not _is_plain(seq.request.sampling)]
        sampled = [_NONE] * len(rows)
        if len(special) < len(rows):
            likeliest = logits.argmax()
            sampled = [Sampled(int(likeliest[row])) for row in rows]
        if isinstance(logits, DrawingLogits) and (drawn := [i for i in special if can_draw(seqs[i])]):
            special = [i for i in special if not can_draw(seqs[i])]
            token_ids = logits.draw([rows[i] for i in drawn], [seqs[i] for i in drawn])
            for i, token_id in zip(drawn, token_ids.tolist(), strict=True):
                sampled[i] = Sampled(token_id)
        if not special:
            return sampled
        scores = logits.select([rows[i] for i in special])
        chosen = [seqs[i] for i in special]
        for row, i in zip(scores, special, strict=True):
            if allowed and (mask := allowed[i]) is not None:
                row[~mask] = -np.inf
        raw = scores.copy() if any(seq.request.sampling.logprobs is not None for seq in chosen) else scores
        token_ids = choose(scores, chosen)
        for j, i in enumerate(special):
            num = chosen[j].request.sampling.logprobs
            if num is None:
                sampled[i] = Sampled(int(token_ids[j]))
            else:
                sampled[i] = Sampled(int(token_ids[j]), *token_logprobs(raw[j], int(token_ids[j]), num))
        return sampled


def choose(scores: FloatArray, seqs: Rows[Sequence]) -> IntArray:
    """The next token of each sequence from its row of [rows, vocab]; writes to `scores`."""
    random = [seq for seq in seqs if seq.request.sampling.temperature > 0]
    numbers = iter(
        uniforms(
            [seq.seed for seq in random], [seq.num_tokens for seq in random], [seq.index for seq in random]
        )
        if random
        else ()
    )
    token_ids = np.empty(len(seqs), np.int64)
    for i, (row, seq) in enumerate(zip(scores, seqs, strict=True)):
        adjust(row, seq)
        sampling = seq.request.sampling
        token_ids[i] = draw(row, sampling, next(numbers)) if sampling.temperature > 0 else _likeliest(row)
    return token_ids


def _likeliest(row: FloatArray) -> int:
    token_id = int(row.argmax())
    assert np.isfinite(row[token_id]), NOT_FINITE
    return token_id


def adjust(row: FloatArray, seq: Sequence) -> None:
    """Logit bias and penalties, in place on one row [vocab]."""
    sampling = seq.request.sampling
    for token_id, bias in sampling.logit_bias.items():
        row[token_id] += bias
    if sampling.repetition_penalty != 1.0:
        seen = np.unique(np.array(seq.token_ids, np.int64))
        values = row[seen]
        penalty = np.float32(sampling.repetition_penalty)
        row[seen] = np.where(values > 0, values / penalty, values * penalty)
    if (sampling.presence_penalty or sampling.frequency_penalty) and seq.num_new_tokens:
        generated = np.array(seq.token_ids[seq.num_prompt_tokens :], np.int64)
        token_ids, counts = np.unique(generated, return_counts=True)
        penalties = sampling.presence_penalty + sampling.frequency_penalty * counts
        row[token_ids] -= penalties.astype(np.float32)


def draw(row: FloatArray, p: SamplingParams, number: float) -> int:
    """The token where the summed weights of a row [vocab] pass `number` of their total; writes to the row.

    Summed by blocks, so that only one block is summed token by token: the whole row stays in the cache.
    """
    # The largest score is taken off first: a tiny temperature must not overflow.
    np.subtract(row, row.max(), out=row)
    if p.temperature != 1:
        np.divide(row, np.float32(p.temperature), out=row)
    weights = np.exp(row, out=row)
    keep_likely(weights, min_p=p.min_p, top_k=p.top_k, top_p=p.top_p)
    blocks = np.cumsum(np.add.reduceat(weights, np.arange(0, len(row), _DRAWN_TOGETHER), dtype=np.float64))
    assert blocks[-1] > 0, NOT_FINITE
    target = min(number * blocks[-1], np.nextafter(blocks[-1], 0))
    # side="right": a target on a boundary belongs to the next token that has any weight.
    block = int(np.searchsorted(blocks, target, side="right"))
    before = blocks[block - 1] if block else 0.0
    first = block * _DRAWN_TOGETHER
    inside = weights[first : first + _DRAWN_TOGETHER]
    place = int(np.searchsorted(np.cumsum(inside, dtype=np.float64), target - before, side="right"))
    # Summed in another order, a block may end a hair before its own sum.
    return first + min(place, int(inside.nonzero()[0][-1]))


def keep_likely(weights: FloatArray, *, min_p: float, top_k: int, top_p: float) -> None:
    """Zero the weights [vocab] that min-p, top-k and top-p drop; the largest weight is 1."""
    if min_p > 0:
        weights[weights < min_p] = 0
    if 0 < top_k < len(weights):
        weights[weights < np.partition(weights, -top_k)[-top_k]] = 0
    if top_p < 1:
        weights[weights < _nucleus_bound(weights, top_p)] = 0


def _nucleus_bound(weights: FloatArray, top_p: float) -> np.float32:
    """The smallest weight in the smallest set of likeliest tokens that reaches `top_p` of the total."""
    total = weights.sum(dtype=np.float64)
    # All weights below this bound together are less than 1 - top_p, so none of them is in the set.
    candidates = weights[weights >= (1 - top_p) * total / len(weights)]
    candidates[::-1].sort()
    reached = np.cumsum(candidates, dtype=np.float64)
    last = min(int(np.searchsorted(reached, top_p * total)), len(candidates) - 1)
    bound: np.float32 = candidates[last]
    return bound


def token_logprobs(row: FloatArray, token_id: int, num: int) -> tuple[float, TopLogprobs]:
    """A token's log-probability under the raw logits [vocab], and the `num` likeliest tokens' own.

    Fewer where a grammar left fewer.
    """
    shifted = row - row.max()
    logprobs = shifted - np.log(np.exp(shifted).sum(dtype=np.float64)).astype(np.float32)
    num = min(num, int(np.count_nonzero(row > -np.inf)))
    if num == 0:
        return float(logprobs[token_id]), ()
    bound = np.partition(logprobs, -num)[-num]
    top = np.flatnonzero(logprobs >= bound)
    top = top[np.argsort(-logprobs[top], kind="stable")][:num]
    return float(logprobs[token_id]), tuple((int(i), float(logprobs[i])) for i in top)


def can_draw(seq: Sequence) -> bool:
    """Whether its tokens follow from logits and parameters alone: no grammar, no penalty, nothing to tell."""
    return _is_bare(seq.request.sampling)


def _is_plain(p: SamplingParams) -> bool:
    """Greedy, and nothing that looks at or changes the distribution."""
    return p.temperature == 0 and _is_bare(p)


def _is_bare(p: SamplingParams) -> bool:
    return (
        p.grammar is None
        and p.logprobs is None
        and not p.logit_bias
        and p.repetition_penalty == 1
        and p.presence_penalty == 0
        and p.frequency_penalty == 0
    )
