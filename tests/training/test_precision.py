"""float32 masters behind a bfloat16 model."""

import torch

from cairn.training.precision import Weights, resolve_dtype
from tests.training import tiny


def test_a_model_comes_back_with_its_exact_weights() -> None:
    model, before = tiny.model(), dict(tiny.model().named_parameters())
    weights = Weights(model, "bfloat16")
    weights.attach()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    weights.detach()
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_updates_below_a_bfloat16_step_add_up() -> None:
    model = tiny.model()
    weights = Weights(model, "bfloat16")
    weights.attach()
    name = "norm.weight"
    with torch.no_grad():
        for _ in range(8):
            weights.masters[name].add_(1e-3)
            weights.publish()
    # 1 + 0.001 rounds back to 1 in bfloat16; eight of them do not.
    assert dict(model.named_parameters())[name][0].item() > 1.0
    weights.detach()
    assert abs(dict(model.named_parameters())[name][0].item() - 1.008) < 1e-6


def test_gradients_add_up_in_float32() -> None:
    model = tiny.model()
    weights = Weights(model, "bfloat16")
    weights.attach()
    parameter = dict(model.named_parameters())["norm.weight"]
    for value in (1.0, 1e-3, 1e-3):
        parameter.grad = torch.full_like(parameter, value)
        weights.collect_gradients()
    total = weights.masters["norm.weight"].grad
    assert total is not None
    assert total.dtype == torch.float32
    assert abs(total[0].item() - 1.002) < 1e-5
    assert parameter.grad is None


def test_frozen_weights_are_kept_but_not_trained() -> None:
    model = tiny.model()
    model.embedding.requires_grad_(False)
    for dtype in ("float32", "bfloat16"):
        weights = Weights(model, dtype)
        assert "embedding" not in weights.masters
        assert "embedding" in weights.tensors()


def test_auto_is_decided_by_the_device() -> None:
    assert resolve_dtype("auto", torch.device("cuda")) == "bfloat16"
    assert resolve_dtype("float32", torch.device("cuda")) == "float32"
    assert resolve_dtype("auto", torch.device("cpu")) in {"float32", "bfloat16"}
