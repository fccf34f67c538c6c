"""Norms and MLPs against torch's own, experts against a loop over tokens."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cairn.models.layers import Experts, activate
from cairn.models.norm import rms_norm
from tests.models.tiny import tiny_decoder


@pytest.mark.parametrize("shape", [(5, 8), (3, 4, 8), (1, 8)])
def test_rms_norm_and_its_gradient(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(shape, generator=generator), torch.randn(8, generator=generator)
    gradient = torch.randn(shape, generator=generator)
    results = []
    for is_torchs in (False, True):
        mine, scale = x.clone().requires_grad_(), weight.clone().requires_grad_()
        out = F.rms_norm(mine, (8,), scale, 1e-5) if is_torchs else rms_norm(mine, scale, 1e-5)
        torch.autograd.backward(out, gradient)
        results.append((out, mine.grad, scale.grad))
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)


def test_rms_norm_of_bfloat16_sums_in_float32() -> None:
    x = torch.randn(4, 512, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact = F.rms_norm(x.float(), (512,), None, 1e-5)
    out = rms_norm(x, torch.ones(512, dtype=torch.bfloat16), 1e-5)
    assert torch.equal(out, exact.bfloat16())


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh", "gelu", "relu"])
def test_gated_activation_and_its_gradient(activation: str) -> None:
    inner = torch.randn(
        5, 16, dtype=torch.double, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: activate(x, activation, gated=True), (inner,))
    gate, up = inner.chunk(2, -1)
    expected = {
        "silu": F.silu(gate),
        "gelu": F.gelu(gate),
        "gelu_tanh": F.gelu(gate, approximate="tanh"),
        "relu": F.relu(gate),
    }[activation]
    torch.testing.assert_close(activate(inner, activation, gated=True), expected * up)


def experts(name: str = "qwen3_moe") -> Experts:
    layer = tiny_decoder(name).layers[0]
    assert isinstance(layer.mlp, Experts)
    return layer.mlp


def by_hand(module: Experts, x: Tensor) -> Tensor:
    """One token at a time, one expert at a time."""
    out = torch.zeros_like(x)
    for row, token in enumerate(x):
        probabilities = (module.router.weight @ token).softmax(-1)
        weights, chosen = probabilities.topk(module.spec.num_experts_per_token)
        for weight, index in zip(weights / weights.sum(), chosen.tolist(), strict=True):
            gate, up = (module.inner[index] @ token).chunk(2)
            out[row] += weight * (module.output[index] @ (F.silu(gate) * up))
    return out


@pytest.mark.parametrize("empty", range(6))
@torch.no_grad()
def test_experts_with_one_left_empty(empty: int) -> None:
    module = experts()
    x = torch.rand(20, 32, generator=torch.Generator().manual_seed(empty)) + 0.1
    module.router.weight[empty] = -1.0  # below every other score, the tokens being positive
    out, (counts, probabilities) = module(x)
    assert counts[empty] == 0
    assert counts.sum() == 40
    torch.testing.assert_close(probabilities.sum(), torch.tensor(20.0))
    torch.testing.assert_close(out, by_hand(module, x), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_all_tokens_to_one_pair_of_experts() -> None:
    module = experts()
    x = torch.rand(9, 32, generator=torch.Generator().manual_seed(0)) + 0.1
    module.router.weight.zero_()
    module.router.weight[2], module.router.weight[4] = 1.0, 0.9
    out, (counts, _) = module(x)
    assert counts.tolist() == [0, 0, 9, 0, 9, 0]
    torch.testing.assert_close(out, by_hand(module, x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe"])
@torch.no_grad()
def test_a_tokens_experts_do_not_know_the_batch(name: str) -> None:
    module = experts(name)
    x = torch.randn(30, 32, generator=torch.Generator().manual_seed(0))
    together, _ = module(x)
    for row in range(30):
        alone, _ = module(x[row : row + 1])
        assert torch.equal(alone[0], together[row])
