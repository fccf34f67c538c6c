"""What is drawn with guesses is distributed as the model's softmax, cut by the request's filters."""

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from cairn.core.chat import SamplingParams
from cairn.engine import EngineConfig, Request
from tests.engine.fake_runner import VOCAB, FakeRunner, naive_logits
from tests.engine.naive import run_all
from tests.engine.speculating import UnsureRunner, num_guessed, speculating

PROMPT = (1, 2, 3)
NUM_DRAWS = 2000
_NORMAL_QUANTILE = 3.29
"""Exceeded once in two thousand; seeds are fixed."""


def probabilities(token_ids: list[int], temperature: float, top_k: int, top_p: float) -> NDArray[np.float64]:
    """Softmax, the `top_k` likeliest of it, and of these the fewest that hold `top_p` of the rest."""
    scores = naive_logits(token_ids).astype(np.float64) / temperature
    weights = np.exp(scores - scores.max())
    order = np.argsort(-weights)
    kept = np.zeros(VOCAB)
    total = weights[order[: top_k or VOCAB]].sum()
    for token_id in order[: top_k or VOCAB]:
        if kept.sum() >= top_p * total:
            break
        kept[token_id] = weights[token_id]
    shares: NDArray[np.float64] = kept / kept.sum()
    return shares


def chi_square_limit(freedom: int) -> float:
    """Quantile of the chi-square distribution (Wilson and Hilferty 1931)."""
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread + _NORMAL_QUANTILE * math.sqrt(spread)) ** 3)


def test_the_limit_is_the_known_quantile() -> None:
    assert chi_square_limit(10) == pytest.approx(31.42, rel=0.01)
    assert chi_square_limit(60) == pytest.approx(102.7, rel=0.01)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.7, 0, 0.8), (1.3, 5, 1.0), (1.0, 6, 0.9)]
)
def test_pairs_of_tokens_have_the_models_probabilities(temperature: float, top_k: int, top_p: float) -> None:
    """The second and third token, both of them guessed ahead and often rightly."""
    config = EngineConfig(num_blocks=200, max_num_seqs=32, lookup_tokens=0)
    engine = speculating(FakeRunner(), config, draft=UnsureRunner(misses=3), fixed=200.0)
    requests = [
        Request(
            f"r{seed}",
            PROMPT,
            SamplingParams(max_tokens=4, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed),
        )
        for seed in range(NUM_DRAWS)
    ]
    found = run_all(engine, requests).tokens
    assert num_guessed(engine)[1] > NUM_DRAWS / 3
    counts = Counter((tokens[0][1], tokens[0][2]) for tokens in found.values())

    expected: dict[tuple[int, int], float] = dict.fromkeys(product(range(VOCAB), range(VOCAB)), 0.0)
    for first, p in enumerate(probabilities(list(PROMPT), temperature, top_k, top_p)):
        for second, q in enumerate(probabilities([*PROMPT, first], temperature, top_k, top_p)):
            for third, r in enumerate(probabilities([*PROMPT, first, second], temperature, top_k, top_p)):
                expected[second, third] += NUM_DRAWS * p * q * r
    assert all(expected[pair] > 0 for pair in counts), "a token that the filters drop"
    likely = [pair for pair, num in expected.items() if num >= 5]
    rest = NUM_DRAWS - sum(expected[pair] for pair in likely)
    terms = [(counts[pair] - expected[pair]) ** 2 / expected[pair] for pair in likely]
    if rest > 1:
        terms.append((NUM_DRAWS - sum(counts[pair] for pair in likely) - rest) ** 2 / rest)
    assert sum(terms) < chi_square_limit(len(terms) - 1)
