"""The sampler against exact probabilities and naive implementations written another way."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from cairn.core.chat import SamplingParams
from cairn.engine.runner import FloatArray
from cairn.engine.sampler import Sampler, adjust, choose, draw, keep_likely, token_logprobs
from cairn.engine.sequence import Request, Sequence
from tests.engine.fake_runner import FakeLogits

SCORES = np.array([2.0, 1.0, 0.5, 0.0, -1.0, -3.0], np.float32)


def _seq(sampling: SamplingParams, *, prompt: tuple[int, ...] = (0,), new: tuple[int, ...] = ()) -> Sequence:
    seq = Sequence(
        Request("r", prompt, sampling), index=0, seed=sampling.seed or 0, arrival=0, max_len=1 << 40
    )
    seq.token_ids += new
    return seq


def _softmax(scores: FloatArray) -> NDArray[np.float64]:
    weights = np.exp(scores.astype(np.float64) - scores.max())
    out: NDArray[np.float64] = weights / weights.sum()
    return out


def _naive_filtered(p: NDArray[np.float64], *, min_p: float, top_k: int, top_p: float) -> NDArray[np.float64]:
    """Kept probabilities, token by token in order of likelihood; no two are equal."""
    order = sorted(range(len(p)), key=lambda i: -p[i])
    order = [i for i in order if p[i] >= min_p * p[order[0]]]
    order = order[: top_k or len(order)]
    total, kept, mass = sum(p[i] for i in order), [], 0.0
    for i in order:
        if mass < top_p * total:
            kept.append(i)
            mass += p[i]
    out = np.zeros_like(p)
    out[kept] = p[kept] / p[kept].sum()
    return out


FILTERS = [
    {"min_p": 0.0, "top_k": 0, "top_p": 1.0},
    {"min_p": 0.0, "top_k": 3, "top_p": 1.0},
    {"min_p": 0.0, "top_k": 0, "top_p": 0.75},
    {"min_p": 0.2, "top_k": 0, "top_p": 1.0},
    {"min_p": 0.05, "top_k": 4, "top_p": 0.9},
]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("filters", FILTERS)
def test_samples_follow_the_exact_distribution(temperature: float, filters: dict[str, float]) -> None:
    num = 4000
    params = SamplingParams(temperature=temperature, **filters)  # type: ignore[arg-type]
    numbers = np.random.default_rng(0).random(num)
    tokens = [draw(SCORES.copy(), params, number) for number in numbers]
    expected = num * _naive_filtered(_softmax(SCORES / temperature), **filters)  # type: ignore[arg-type]
    counts = np.bincount(tokens, minlength=len(SCORES))
    kept = expected > 0
    assert counts[~kept].sum() == 0
    chi_square = ((counts[kept] - expected[kept]) ** 2 / expected[kept]).sum()
    assert chi_square < 20.5  # 99.9 % of 5 degrees of freedom, the most there are


@given(
    arrays(np.float32, st.integers(1, 40), elements=st.floats(-8, 8, width=32), unique=True),
    st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    st.integers(0, 45),
    st.sampled_from([0.05, 0.5, 0.9, 0.999, 1.0]),
)
@settings(derandomize=True, deadline=None)
def test_filters_equal_the_naive_ones(scores: FloatArray, min_p: float, top_k: int, top_p: float) -> None:
    weights = np.exp(scores - scores.max())
    p = weights.astype(np.float64) / weights.sum(dtype=np.float64)
    if len(np.unique(weights)) < len(weights):
        return  # ties are kept together; the naive filter does not
    expected = _naive_filtered(p, min_p=min_p, top_k=min(top_k, len(p)), top_p=top_p) > 0
    keep_likely(weights, min_p=min_p, top_k=top_k, top_p=top_p)
    # A sum within rounding of top_p may fall on either side: at most the last token differs.
    assert (weights > 0).sum() in (expected.sum(), expected.sum() + 1, expected.sum() - 1)
    assert not (expected & (weights == 0)).sum() > 1
    assert weights.max() == 1


def test_tokens_that_tie_with_the_last_one_kept_are_kept() -> None:
    for filters in ({"top_k": 2, "top_p": 1.0}, {"top_k": 0, "top_p": 0.6}):
        weights = np.array([0.5, 1.0, 0.5, 0.1], np.float32)
        keep_likely(weights, min_p=0.0, **filters)  # type: ignore[arg-type]
        assert list(weights > 0) == [True, True, True, False]


def test_nucleus_of_a_large_vocabulary() -> None:
    """The shortcut that looks only at tokens above a bound loses none."""
    scores = np.random.default_rng(1).normal(size=50_000).astype(np.float32) * 3
    weights = np.exp(scores - scores.max())
    ordered = np.sort(weights.astype(np.float64))[::-1]
    expected = int((np.cumsum(ordered) - ordered < 0.95 * ordered.sum()).sum())
    keep_likely(weights, min_p=0.0, top_k=0, top_p=0.95)
    assert int((weights > 0).sum()) == expected


def test_greedy_takes_the_lowest_of_equals() -> None:
    scores = np.array([[1.0, 3.0, 3.0]], np.float32)
    assert choose(scores, [_seq(SamplingParams(temperature=0))]) == [1]


def test_tiny_temperature_is_greedy_and_does_not_overflow() -> None:
    seqs = [_seq(SamplingParams(temperature=1e-30, seed=s)) for s in range(20)]
    assert set(choose(np.tile(SCORES * 100, (20, 1)), seqs)) == {0}


def test_extreme_numbers_never_pick_a_dropped_token() -> None:
    params = SamplingParams(temperature=1.0, top_k=2)
    scores = np.array([-9.0, 0.0, 1.0, -9.0], np.float32)
    assert [draw(scores.copy(), params, number) for number in (0.0, 1 - 2**-53)] == [1, 2]


@pytest.mark.parametrize("size", [1, 255, 256, 257, 3000])
@pytest.mark.parametrize("top_k", [0, 7])
def test_a_long_row_is_drawn_from_as_if_summed_token_by_token(size: int, top_k: int) -> None:
    generator = np.random.default_rng(size)
    scores = generator.standard_normal(size).astype(np.float32) * 4
    params = SamplingParams(temperature=1.0, top_k=top_k)
    weights = np.exp(scores - scores.max())
    keep_likely(weights, min_p=0.0, top_k=top_k, top_p=1.0)
    summed = np.cumsum(weights, dtype=np.float64)
    numbers = [0.0, *generator.random(500), 1 - 2**-53]
    expected = [int(np.searchsorted(summed, number * summed[-1], side="right")) for number in numbers[:-1]]
    drawn = [draw(scores.copy(), params, number) for number in numbers]
    assert drawn[:-1] == expected
    assert drawn[-1] == weights.nonzero()[0][-1]


def test_scores_that_are_not_finite_are_never_drawn_from() -> None:
    for temperature in (0.0, 1.0):
        seq = _seq(SamplingParams(temperature=temperature, seed=1, presence_penalty=0.1))
        with pytest.raises(AssertionError, match="not finite"):
            choose(np.array([[0.0, np.nan, 1.0]], np.float32), [seq])


def test_repetition_penalty_equals_transformers() -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    scores = np.random.default_rng(2).normal(size=30).astype(np.float32)
    seq = _seq(SamplingParams(repetition_penalty=1.3), prompt=(1, 4, 4), new=(7, 1))
    processor = RepetitionPenaltyLogitsProcessor(1.3)
    expected = processor(torch.tensor([seq.token_ids]), torch.tensor(scores[None].copy()))
    adjust(scores, seq)
    np.testing.assert_allclose(scores, expected[0].numpy(), rtol=1e-6)


def test_presence_frequency_and_bias() -> None:
    sampling = SamplingParams(presence_penalty=0.5, frequency_penalty=0.25, logit_bias={5: 10.0, 2: -1.0})
    scores = np.zeros(6, np.float32)
    adjust(scores, _seq(sampling, prompt=(0, 1), new=(3, 3, 4)))
    # The prompt's tokens are not punished; each generated one once, and per occurrence.
    np.testing.assert_allclose(scores, [0, 0, -1, -1.0, -0.75, 10])


def test_logprobs_are_those_of_the_raw_logits() -> None:
    sampling = SamplingParams(temperature=0, logit_bias={5: 100.0}, logprobs=2)
    (sampled,) = Sampler().sample(FakeLogits(SCORES[None].copy()), [0], [_seq(sampling)])
    expected = np.log(_softmax(SCORES))
    assert sampled.token_id == 5
    assert sampled.logprob == pytest.approx(expected[5], abs=1e-6)
    assert [token_id for token_id, _ in sampled.top_logprobs] == [0, 1]
    assert [value for _, value in sampled.top_logprobs] == pytest.approx(expected[:2], abs=1e-6)


def test_top_logprobs_break_ties_by_token_id() -> None:
    logprob, top = token_logprobs(np.zeros(4, np.float32), 3, 2)
    assert logprob == pytest.approx(-math.log(4))
    assert [token_id for token_id, _ in top] == [0, 1]
    assert token_logprobs(SCORES, 0, 0)[1] == ()
    assert len(token_logprobs(SCORES, 0, 20)[1]) == len(SCORES)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(8, 200)).astype(np.float32)
    seqs = [
        _seq(SamplingParams(temperature=t, top_p=0.9, seed=i, frequency_penalty=0.1), new=(i,) * i)
        for i, t in enumerate([0.0, 0.3, 1.0, 2.0, 1.0, 0.0, 0.7, 1.0])
    ]
    together = choose(scores.copy(), seqs)
    alone = [int(choose(scores[i : i + 1].copy(), [seq])[0]) for i, seq in enumerate(seqs)]
    assert together.tolist() == alone


def test_plain_greedy_rows_never_fetch_the_logits() -> None:
    class OnlyArgmax(FakeLogits):
        def select(self, rows: list[int]) -> FloatArray:
            raise AssertionError("fetched")

    seqs = [_seq(SamplingParams(temperature=0, seed=3))] * 2
    sampled = Sampler().sample(OnlyArgmax(np.stack([SCORES, -SCORES])), [1, 0], seqs)
    assert [token.token_id for token in sampled] == [5, 0]
