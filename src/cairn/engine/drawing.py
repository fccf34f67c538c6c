"""Drawing tokens where the logits lie: on the device, for what needs nothing from the host.

Greedy rows and rows of temperature, min-p, top-k and top-p, in the sampler's order and with its random
numbers, which follow from seed, position and choice and so are known before the logits are. Weights are
summed as integers of 40 binary places: exact, so that no order of summation and nothing else in the batch can
change a token. A weight below 2^-40 of the largest is never drawn.
"""

from collections.abc import Sequence as Rows

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cairn.engine.philox import uniforms
from cairn.engine.sequence import Sequence

_PLACES = 40
Parameters = NDArray[np.float64]
"""[5, rows]: temperature, top-p, min-p, top-k, random number."""


def parameters_of(seqs: Rows[Sequence]) -> Parameters:
    """What the next token of each sequence is drawn with."""
    sampling = [seq.request.sampling for seq in seqs]
    numbers = uniforms(
        [seq.seed for seq in seqs], [seq.num_tokens for seq in seqs], [seq.index for seq in seqs]
    )
    fields = [[p.temperature, p.top_p, p.min_p, p.top_k] for p in sampling]
    return np.concatenate([np.array(fields, np.float64).T, numbers[None]])


def draw(scores: Tensor, parameters: Parameters) -> Tensor:
    """A token of each row of scores [n, vocab] -> int64 [n]; -1 where the scores are not finite."""
    most, likeliest = scores.float().max(-1)
    tokens = likeliest
    temperature, top_p, _, top_k, _ = parameters
    if (temperature > 0).any():
        filters = bool((top_p < 1).any() or (top_k > 0).any())
        rows = torch.from_numpy(parameters).to(scores.device, non_blocking=True)[:, :, None]
        drawn = _drawn(scores.float() - most[:, None], rows, sorts=filters)
        tokens = torch.where(rows[0, :, 0] > 0, drawn, likeliest)
    return torch.where(most.isfinite(), tokens, -1)


def _drawn(scores: Tensor, parameters: Tensor, *, sorts: bool) -> Tensor:
    """Scores [n, vocab], the largest of each row 0 -> tokens [n]."""
    temperature, top_p, min_p, top_k, number = parameters
    weights = torch.exp(scores / torch.where(temperature > 0, temperature, 1).float())
    weights = torch.where(weights < min_p.float(), 0, weights)
    if sorts:
        size = weights.shape[-1]
        ranked = weights.sort(-1, descending=True).values
        last = torch.where((top_k > 0) & (top_k < size), top_k, size).long() - 1
        bound = ranked.gather(-1, last)
        ranked = torch.where(ranked < bound, 0, ranked)
        reached = _fixed(ranked).cumsum(-1)
        is_before = reached.double() < top_p * reached[:, -1:].double()
        last = is_before.sum(-1, keepdim=True).clamp(max=size - 1)
        bound = torch.where(top_p < 1, torch.maximum(bound, ranked.gather(-1, last)), bound)
        weights = torch.where(weights < bound, 0, weights)
    reached = _fixed(weights).cumsum(-1)
    total = reached[:, -1:]
    target = torch.minimum((number * total.double()).long(), total - 1)
    return (reached <= target).sum(-1)


def _fixed(weights: Tensor) -> Tensor:
    return (weights.double() * 2.0**_PLACES).long()
