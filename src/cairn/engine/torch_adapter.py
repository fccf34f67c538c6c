"""An adapter in torch: what the reference adds to the products of the rows that ask for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cairn.engine.runner import AdapterRows
from cairn.models import Decoder
from cairn.models.adapters import read_adapter
from cairn.models.layers import Experts
from cairn.models.linear import linear


@dataclass(frozen=True, slots=True)
class _LowRank:
    start: int
    stop: int
    a: Tensor
    b: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class TorchAdapter:
    """An `Adapter` of the torch runner."""

    low_rank: Mapping[str, tuple[_LowRank, ...]]
    digest: str

    @property
    def num_bytes(self) -> int:
        return sum(part.a.nbytes + part.b.nbytes for parts in self.low_rank.values() for part in parts)


def load_torch_adapter(model: Decoder, folder: Path) -> TorchAdapter:
    """Read an adapter's folder for a decoder, in its dtype and on its device."""
    weights, like = read_adapter(folder, model.config), model.embedding

    def tensor(values: Any) -> Tensor:
        # A copy: what was read may be a view of the file.
        return torch.tensor(values).to(like.device, like.dtype)

    low_rank = {
        name: tuple(_LowRank(part.start, part.stop, tensor(part.a), tensor(part.b)) for part in parts)
        for name, parts in weights.low_rank.items()
    }
    return TorchAdapter(low_rank, weights.digest)


@dataclass(slots=True)
class AdaptedStep:
    """The adapters of the step under way and their rows, and how they are multiplied."""

    product: Callable[[Tensor, Tensor], Tensor] = linear
    groups: list[tuple[TorchAdapter, Tensor]] = field(default_factory=list)

    def begin(self, groups: tuple[AdapterRows, ...], device: torch.device) -> None:
        self.groups.clear()
        for group in groups:
            assert isinstance(group.adapter, TorchAdapter), "an adapter of another runner"
            self.groups.append((group.adapter, torch.from_numpy(group.rows).to(device)))

    def change(self, parameter: str, x: Tensor, y: Tensor) -> None:
        """y += B A x for the rows of the step that have an adapter."""
        for adapter, rows in self.groups:
            self._add(adapter, parameter, rows, x, y)

    def change_expert(self, experts: str, part: str, expert: int, rows: Tensor, x: Tensor, y: Tensor) -> None:
        """The same where x and y are some `rows` of the step, those that an expert was chosen for."""
        for adapter, adapted in self.groups:
            if adapter.low_rank.get(parameter := f"{experts}.{part}.{expert}"):
                self._add(adapter, parameter, torch.isin(rows, adapted).nonzero().flatten(), x, y)

    def _add(self, adapter: TorchAdapter, parameter: str, rows: Tensor, x: Tensor, y: Tensor) -> None:
        for part in adapter.low_rank.get(parameter, ()) if len(rows) else ():
            y[rows, part.start : part.stop] += self.product(self.product(x[rows], part.a), part.b)


class AdaptedLinear(nn.Module):
    """A product, and y += B A x for the rows that have an adapter."""

    def __init__(self, base: nn.Module, parameter: str, step: AdaptedStep) -> None:
        super().__init__()
        self.base = base
        self._parameter, self._step = parameter, step

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        self._step.change(self._parameter, x, y)
        return y


def adapt(model: Decoder, step: AdaptedStep) -> None:
    """Let every product of a decoder that can be adapted follow `step`."""
    for index, layer in enumerate(model.layers):
        owners: list[tuple[Any, str, tuple[str, str]]] = [(layer.attention, "attention", ("qkv", "output"))]
        if not isinstance(layer.mlp, Experts):
            owners.append((layer.mlp, "mlp", ("inner", "output")))
        else:
            layer.mlp.change = partial(step.change_expert, f"layers.{index}.mlp")
            if layer.mlp.shared is not None:
                owners.append((layer.mlp.shared, "mlp.shared", ("inner", "output")))
        for owner, part, names in owners:
            for name in names:
                adapted = AdaptedLinear(getattr(owner, name), f"layers.{index}.{part}.{name}.weight", step)
                setattr(owner, name, adapted)
