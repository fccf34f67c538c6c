"""Rotary embeddings: what a rotation must keep, the scalings' ends, exact gradients."""

import pytest
import torch
from torch import Tensor

from cairn.models import RopeSpec
from cairn.models.rope import cos_sin, inverse_frequencies, rotate, split_rotated
from cairn.models.rope_frequencies import attention_factor

PLAIN = RopeSpec(theta=100.0, rotary_dim=8)


def turned(vector: Tensor, position: int, spec: RopeSpec = PLAIN) -> Tensor:
    return rotate(vector[None, None], *cos_sin(spec, torch.tensor([position])))[0, 0]


def test_lengths_are_kept_and_only_distance_counts() -> None:
    first, second = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(turned(first, 17).norm(), first.norm())
    near = turned(first, 5) @ turned(second, 2)
    far = turned(first, 105) @ turned(second, 102)
    torch.testing.assert_close(near, far, atol=1e-4, rtol=1e-4)


def test_dimensions_past_the_rotary_ones_pass() -> None:
    vector = torch.arange(12.0)
    assert torch.equal(turned(vector, 9)[8:], vector[8:])


def test_llama3_keeps_high_and_divides_low_frequencies() -> None:
    plain = inverse_frequencies(RopeSpec(theta=500.0, rotary_dim=32))
    spec = RopeSpec(theta=500.0, rotary_dim=32, scaling="llama3", factor=4.0, original_max_position=64)
    ratio = inverse_frequencies(spec) / plain
    assert ratio[0] == 1.0
    torch.testing.assert_close(ratio[-1], torch.tensor(0.25))
    assert bool((ratio.diff() <= 1e-6).all())


def test_yarn_raises_the_temperature() -> None:
    spec = RopeSpec(theta=500.0, rotary_dim=32, scaling="yarn", factor=4.0, original_max_position=64)
    assert attention_factor(spec) == pytest.approx(1.1386, abs=1e-4)
    both = RopeSpec(
        theta=500.0,
        rotary_dim=32,
        scaling="yarn",
        factor=4.0,
        original_max_position=64,
        mscale=1.0,
        mscale_all_dim=1.0,
    )
    assert attention_factor(both) == 1.0


def test_frequencies_made_under_inference_mode_serve_training() -> None:
    spec = RopeSpec(theta=123.0, rotary_dim=8)
    with torch.inference_mode():
        cos_sin(spec, torch.arange(3))
    heads = torch.randn(3, 2, 8, requires_grad=True)
    rotate(heads, *cos_sin(spec, torch.arange(3))).sum().backward()
    assert heads.grad is not None


def test_gradients() -> None:
    cos, sin = (x.double() for x in cos_sin(RopeSpec(theta=100.0, rotary_dim=6), torch.arange(5)))
    heads = torch.randn(5, 6, 8, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: rotate(x, cos, sin), (heads,))
    assert torch.autograd.gradcheck(lambda x: split_rotated(x, 2, 2, cos, sin), (heads,))
