"""AdamW and Muon over named weights, and their state as flat named tensors.

AdamW (Loshchilov & Hutter 2019) is torch's fused one: a single pass over the weights. Muon
(Jordan et al. 2024, kellerjordan.github.io/posts/muon) replaces the momentum of a matrix by a
nearly orthogonal one, by five steps of a quintic Newton-Schulz iteration; updates are scaled by
0.2 * sqrt(max(rows, columns)) so that they have AdamW's size and share its learning rate and
weight decay (Moonlight, Liu et al. 2025, arXiv 2502.16982). Embeddings, output head, norms and
biases stay with AdamW. Weight decay is for matrices only.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from cairn.compute.flops import NEWTON_SCHULZ_STEPS
from cairn.training.config import TrainConfig

NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
MOONLIGHT_SCALE = 0.2


class Muon(Optimizer):
    """Momentum, orthogonalised. Weights must be matrices, or stacks of them."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        dtype: torch.dtype,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group)

    def _update(self, weight: Tensor, group: Mapping[str, Any]) -> None:
        state, gradient = self.state[weight], weight.grad
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        nesterov = gradient.lerp(momentum, group["momentum"])
        direction = orthogonalise(nesterov, self._dtype)
        scale = MOONLIGHT_SCALE * max(weight.shape[-2:]) ** 0.5
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(direction.to(weight.dtype), alpha=-group["lr"] * scale)


def orthogonalise(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Singular values to about 1, singular vectors kept; [..., rows, columns], computed in `dtype`."""
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    x = matrix.to(dtype)
    is_tall = x.shape[-2] > x.shape[-1]
    if is_tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if is_tall else x
    return result


def make_optimizers(
    model: nn.Module, weights: Mapping[str, nn.Parameter], config: TrainConfig, dtype: torch.dtype
) -> list[Optimizer]:
    """The optimizers of a run over `weights` (by the model's parameter names)."""
    hidden = hidden_matrices(model) if config.optimizer == "muon" else set()
    rest = {name: weight for name, weight in weights.items() if name not in hidden}
    groups = [
        {"params": [w for w in rest.values() if w.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [w for w in rest.values() if w.ndim < 2], "weight_decay": 0.0},
    ]
    optimizers: list[Optimizer] = [
        AdamW(
            [group for group in groups if group["params"]],
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            eps=config.epsilon,
            fused=True,
        )
    ]
    if matrices := [weight for name, weight in weights.items() if name in hidden]:
        optimizers.append(
            Muon(
                matrices,
                lr=config.learning_rate,
                momentum=config.muon_momentum,
                weight_decay=config.weight_decay,
                dtype=dtype,
            )
        )
    return optimizers


def hidden_matrices(model: nn.Module) -> set[str]:
    """Names of the matrices between embedding and output head: those of the layers."""
    return {name for name, p in model.named_parameters() if p.ndim >= 2 and name.startswith("layers.")}


def set_learning_rate(optimizers: Iterable[Optimizer], learning_rate: float) -> None:
    """The rate of the next step, for all weights alike."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate


def optimizer_tensors(
    optimizers: Iterable[Optimizer], weights: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """All optimizer state as `<weight name>/<key>` -> tensor."""
    states = [optimizer.state for optimizer in optimizers]
    return {
        f"{name}/{key}": value
        for name, weight in weights.items()
        for state in states
        if weight in state
        for key, value in state[weight].items()
    }


def load_optimizer_tensors(
    optimizers: Iterable[Optimizer], weights: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Take over the state that `optimizer_tensors` gave."""
    owners = {
        id(weight): optimizer
        for optimizer in optimizers
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    for optimizer in optimizers:
        optimizer.state.clear()
    for full_name, tensor in tensors.items():
        name, _, key = full_name.rpartition("/")
        weight = weights[name]
        # AdamW keeps its step count on the CPU or beside the weight; a clone keeps memory aligned and ours.
        owners[id(weight)].state[weight][key] = tensor.to(weight.device).clone()
