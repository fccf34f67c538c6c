"""Which type a step computes in, and the float32 weights behind it.

In float32 the model's own parameters are trained. In bfloat16 the model holds rounded copies,
gradients are added up in float32, and the optimizer works on float32 masters, so that updates
smaller than a bfloat16 step are not lost (Micikevicius et al. 2018). Many CPUs have no bfloat16
products and emulate them tens of times slower than float32; `resolve_dtype` avoids those.
"""

from functools import cache

import torch
from torch import Tensor, nn

from cairn.compute import probe_device

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve_dtype(dtype: str, device: torch.device) -> str:
    """`auto` as the type this device is fastest in; anything else as it is."""
    if dtype != "auto":
        return dtype
    return "float32" if product_dtype(torch.bfloat16, device) == torch.float32 else "bfloat16"


@cache
def product_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The type to multiply matrices of `dtype` in: float32 where bfloat16 would be emulated."""
    if dtype == torch.bfloat16 and device.type == "cpu" and not probe_device().has_bf16:
        return torch.float32
    return dtype


class Weights:
    """A model's weights by parameter name, in float32: what the optimizer changes and checkpoints keep.

    Between `attach` and `detach` the model computes in `dtype`; outside it is in float32 with the
    exact weights.
    """

    def __init__(self, model: nn.Module, dtype: str) -> None:
        self._parameters = dict(model.named_parameters())
        self._dtype = DTYPES[dtype]
        for parameter in self._parameters.values():
            parameter.data = parameter.data.float()
        self._exact = {name: parameter.data for name, parameter in self._parameters.items()}
        self.is_mixed = self._dtype != torch.float32
        trainable = {name: p for name, p in self._parameters.items() if p.requires_grad}
        self.masters = (
            {name: nn.Parameter(p.data) for name, p in trainable.items()} if self.is_mixed else trainable
        )

    def attach(self) -> None:
        """Put the weights into the model in the type it computes in."""
        if self.is_mixed:
            for name, parameter in self._parameters.items():
                parameter.data = self._exact[name].to(self._dtype)

    def detach(self) -> None:
        """Leave the exact float32 weights in the model, and no gradients."""
        self.clear_gradients()
        for name, parameter in self._parameters.items():
            parameter.data = self._exact[name]

    def collect_gradients(self) -> None:
        """After a backward pass: move the gradients into the masters, adding up in float32."""
        if not self.is_mixed:
            return
        for name, master in self.masters.items():
            parameter = self._parameters[name]
            if parameter.grad is None:
                continue
            if master.grad is None:
                master.grad = parameter.grad.float()
            else:
                master.grad += parameter.grad
            parameter.grad = None

    def gradients(self) -> list[Tensor]:
        """Gradients of all weights that have one."""
        return [master.grad for master in self.masters.values() if master.grad is not None]

    def clear_gradients(self) -> None:
        """Forget all gradients."""
        for parameter in (*self.masters.values(), *self._parameters.values()):
            parameter.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """After an update: round the masters into the model."""
        if self.is_mixed:
            for name, master in self.masters.items():
                self._parameters[name].copy_(master)

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over the weights of a checkpoint, frozen ones included."""
        for name, exact in self._exact.items():
            exact.copy_(tensors[name])
            self._parameters[name].copy_(exact)

    def tensors(self) -> dict[str, Tensor]:
        """All weights by name, in float32, as a checkpoint keeps them."""
        return dict(self._exact)
