"""Packed attention against a naive mask over all tokens, and what it must never let through."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cairn.models import AttentionSpec, PackedAttention


def naive(q: Tensor, k: Tensor, v: Tensor, bounds: list[int], spec: AttentionSpec) -> Tensor:
    """Every score of the whole axis, masked, in float64."""
    q, k, v = q.double(), k.double(), v.double()
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = torch.einsum("ihd,jhd->hij", q, k) * spec.scale
    if spec.softcap is not None:
        scores = torch.tanh(scores / spec.softcap) * spec.softcap
    place = torch.arange(len(q))
    document = torch.bucketize(place, torch.tensor(bounds[1:]), right=True)
    visible = (document[:, None] == document) & (place <= place[:, None])
    if spec.window is not None:
        visible &= place > place[:, None] - spec.window
    weights = scores.masked_fill(~visible, float("-inf")).softmax(-1)
    return torch.einsum("hij,jhd->ihd", weights, v).float()


def heads(num_tokens: int, num_heads: int, num_kv_heads: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(num_tokens, num, 8) for num in (num_heads, num_kv_heads, num_kv_heads)]
    q, k, v = (torch.randn(shape, generator=generator) for shape in shapes)
    return q, k, v


def boundaries(lengths: list[int]) -> list[int]:
    return [sum(lengths[:index]) for index in range(len(lengths) + 1)]


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    groups=st.sampled_from([1, 2, 4]),
    window=st.one_of(st.none(), st.integers(1, 50)),
    softcap=st.one_of(st.none(), st.just(2.0)),
)
def test_equals_the_naive_mask(
    lengths: list[int], groups: int, window: int | None, softcap: float | None
) -> None:
    spec = AttentionSpec(0.4, window, softcap)
    q, k, v = heads(sum(lengths), 4, 4 // groups)
    bounds = boundaries(lengths)
    out = PackedAttention(bounds)(0, q, k, v, spec)
    torch.testing.assert_close(out, naive(q, k, v, bounds, spec), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "spec", [AttentionSpec(0.4, 100), AttentionSpec(0.4, 300, 2.0), AttentionSpec(0.4, None, 2.0)]
)
def test_longer_than_one_block(spec: AttentionSpec) -> None:
    q, k, v = heads(600, 2, 1)
    out = PackedAttention(torch.tensor([0, 590, 600]))(0, q, k, v, spec)
    torch.testing.assert_close(out, naive(q, k, v, [0, 590, 600], spec), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("spec", [AttentionSpec(0.4), AttentionSpec(0.4, 3), AttentionSpec(0.4, 3, 2.0)])
def test_gradients_equal_the_naive_masks(spec: AttentionSpec) -> None:
    bounds = [0, 9, 10, 24]
    mine = [x.requires_grad_() for x in heads(24, 4, 2)]
    other = [x.detach().clone().requires_grad_() for x in mine]
    PackedAttention(bounds)(0, mine[0], mine[1], mine[2], spec).square().sum().backward()
    naive(other[0], other[1], other[2], bounds, spec).square().sum().backward()
    for first, second in zip(mine, other, strict=True):
        torch.testing.assert_close(first.grad, second.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("bounds", [[0], [1, 3], [0, 3, 3], [0, 5, 3]])
def test_boundaries_that_are_none_are_refused(bounds: list[int]) -> None:
    with pytest.raises(AssertionError):
        PackedAttention(bounds)


def test_boundaries_must_cover_the_tokens() -> None:
    q, k, v = heads(5, 2, 2)
    with pytest.raises(AssertionError, match="5 tokens"):
        PackedAttention([0, 4])(0, q, k, v, AttentionSpec(1.0))
