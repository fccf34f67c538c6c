"""The chunked cross-entropy against torch's own over whole logits, gradients included."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cairn.data.packing import IGNORED
from cairn.training.loss import LossOptions, chunked_cross_entropy


def reference(hidden: Tensor, weight: Tensor, labels: Tensor, options: LossOptions) -> tuple[Tensor, Tensor]:
    logits = (hidden @ weight.T).float()
    if options.softcap is not None:
        logits = options.softcap * torch.tanh(logits / options.softcap)
    nats = torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    log_z = torch.logsumexp(logits, dim=1)[labels != IGNORED]
    return nats + options.z_loss * log_z.square().sum(), nats


def inputs(tokens: int, masked: float, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, 8, generator=generator, dtype=dtype)
    weight = torch.randn(23, 8, generator=generator, dtype=dtype)
    labels = torch.randint(0, 23, (tokens,), generator=generator)
    labels[torch.rand(tokens, generator=generator) < masked] = IGNORED
    return hidden.requires_grad_(), weight.requires_grad_(), labels


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(1, 40),
    chunk=st.integers(1, 50),
    masked=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    softcap=st.none() | st.floats(2.0, 30.0),
    z_loss=st.sampled_from([0.0, 1e-2]),
    seed=st.integers(0, 1000),
)
def test_loss_and_gradients_equal_those_of_whole_logits(
    tokens: int, chunk: int, masked: float, softcap: float | None, z_loss: float, seed: int
) -> None:
    options = LossOptions(softcap=softcap, z_loss=z_loss, chunk_tokens=chunk)
    hidden, weight, labels = inputs(tokens, masked, seed, torch.float32)
    total, nats = chunked_cross_entropy(hidden, weight, labels, options)
    (total / 7).backward()
    ours = [hidden.grad, weight.grad]
    hidden.grad = weight.grad = None
    expected_total, expected_nats = reference(hidden, weight, labels, options)
    (expected_total / 7).backward()
    torch.testing.assert_close(total, expected_total, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(nats, expected_nats, rtol=1e-5, atol=1e-4)
    for mine, theirs in zip(ours, [hidden.grad, weight.grad], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_as_good_as_its_rounding() -> None:
    hidden, weight, labels = inputs(64, 0.2, 0, torch.bfloat16)
    total, _ = chunked_cross_entropy(hidden, weight, labels, LossOptions(chunk_tokens=16))
    total.backward()
    exact_hidden, exact_weight = (
        hidden.detach().float().requires_grad_(),
        weight.detach().float().requires_grad_(),
    )
    expected, _ = reference(exact_hidden, exact_weight, labels, LossOptions())
    expected.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-2)
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.bfloat16
    torch.testing.assert_close(hidden.grad.float(), exact_hidden.grad, rtol=0.05, atol=0.05)


def test_without_gradients_nothing_is_kept_and_the_value_is_the_same() -> None:
    hidden, weight, labels = inputs(30, 0.3, 1, torch.float32)
    total, _ = chunked_cross_entropy(hidden, weight, labels, LossOptions(chunk_tokens=7))
    with torch.no_grad():
        quiet, _ = chunked_cross_entropy(hidden, weight, labels, LossOptions(chunk_tokens=7))
    assert quiet.item() == total.item()
    assert not quiet.requires_grad


def test_a_frozen_head_costs_no_gradient() -> None:
    hidden, weight, labels = inputs(10, 0.0, 1, torch.float32)
    total, _ = chunked_cross_entropy(hidden, weight.detach(), labels, LossOptions())
    total.backward()
    assert hidden.grad is not None
    assert weight.grad is None
